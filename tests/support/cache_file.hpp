// SPDX-License-Identifier: MIT
/// \file
/// Cache files as strings, and what is done to them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>
#include <string_view>

#include "heed/cache/kv_file.hpp"  // save, load

namespace heed::test {

template <class Cache>
std::string saved(const Cache& cache) {
  std::ostringstream stream;
  save(cache, stream);
  return stream.str();
}
template <class Cache>
void load_from(const std::string& file, Cache& cache) {
  std::istringstream stream(file);
  load(stream, cache);
}

/// CRC-64/XZ by its definition, a bit at a time.
inline std::uint64_t crc64(std::string_view text) {
  std::uint64_t state = ~std::uint64_t{0};
  for (const char c : text) {
    state ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit)
      state = state >> 1 ^ ((state & 1) != 0 ? 0xc96c'5795'd787'0f42 : 0);
  }
  return ~state;
}

/// Writes the checksum that the rest of the file asks for over its 16 digits, if they are there.
inline std::string with_its_checksum(std::string file) {
  constexpr std::string_view before = "\"checksum\":\"";
  const auto found = file.find(before);
  if (found == std::string::npos || file.size() < found + before.size() + 16) return file;
  const auto at = found + before.size();
  file.replace(at, 16, 16, '0');
  std::uint64_t checksum = crc64(file);
  for (std::size_t digit = 16; digit-- > 0; checksum >>= 4)
    file[at + digit] = "0123456789abcdef"[checksum & 15];
  return file;
}

/// Puts `to` in the place of the first `from`, and a checksum on it that fits.
inline std::string with_replaced(std::string file, std::string_view from, std::string_view to) {
  if (const auto at = file.find(from); at != std::string::npos) file.replace(at, from.size(), to);
  return with_its_checksum(file);
}

}  // namespace heed::test
