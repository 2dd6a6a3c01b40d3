// SPDX-License-Identifier: MIT
/// \file
/// GGUF files in memory: written by GgufWriter, and made byte by byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "gguf_writer.hpp"

namespace smollm2::test {

/// The bytes in memory of their own, so that a sanitizer sees a read beyond them.
inline std::vector<std::byte> bytes_of(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

inline std::vector<std::byte> bytes_of(const GgufWriter& writer) {
  std::ostringstream stream;
  writer.write(stream);
  return bytes_of(stream.str());
}

/// Puts together a file that GgufWriter would not write.
class GgufBytes {
 public:
  template <class T>
  GgufBytes& number(T number) {
    bytes_.append(reinterpret_cast<const char*>(&number), sizeof(T));
    return *this;
  }
  GgufBytes& plain(std::string_view text) {
    bytes_ += text;
    return *this;
  }
  GgufBytes& text(std::string_view text) { return number(std::uint64_t{text.size()}).plain(text); }

  GgufBytes& header(std::uint64_t num_tensors, std::uint64_t num_keys, std::uint32_t version = 3) {
    return plain("GGUF").number(version).number(num_tensors).number(num_keys);
  }
  GgufBytes& key(std::string_view key, std::uint32_t type) { return text(key).number(type); }
  GgufBytes& tensor(std::string_view name, const std::vector<std::uint64_t>& sizes,
                    std::uint32_t type, std::uint64_t offset) {
    text(name).number(static_cast<std::uint32_t>(sizes.size()));
    for (const std::uint64_t size : sizes) number(size);
    return number(type).number(offset);
  }
  /// Fills up to a multiple of `alignment`, then appends bytes 0, 1, 2, ...
  GgufBytes& data(std::size_t size, std::size_t alignment = 32) {
    while (bytes_.size() % alignment != 0) bytes_ += '\0';
    for (std::size_t i = 0; i < size; ++i) bytes_ += static_cast<char>(i);
    return *this;
  }

  std::vector<std::byte> bytes() const { return bytes_of(bytes_); }

 private:
  std::string bytes_;
};

}  // namespace smollm2::test
