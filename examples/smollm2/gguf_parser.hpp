// SPDX-License-Identifier: MIT
/// \file
/// Steps through the bytes of a GGUF file. For gguf.cpp.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "format_error.hpp"
#include "metadata.hpp"

namespace smollm2 {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

/// A key or a tensor's name for a message: files from elsewhere may have anything there.
inline std::string printable(std::string_view name) {
  constexpr std::size_t most = 64;
  std::string text(name.substr(0, most));
  std::replace_if(text.begin(), text.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return name.size() > most ? text + "..." : text;
}

/// A place in the bytes of a file. No read goes beyond their end.
class GgufParser {
 public:
  using Bytes = std::span<const std::byte>;

  GgufParser(Bytes bytes, std::string file) : bytes_(bytes), file_(std::move(file)) {}

  /// Names what is read from here on, for messages: "header", "key general.name", ...
  void enter(std::string place) { place_ = std::move(place); }
  [[noreturn]] void fail(const std::string& what) const {
    throw FormatError(file_ + ": " + place_ + ": " + what);
  }

  std::size_t position() const { return position_; }

  template <class T>
  T number() {
    std::array<std::byte, sizeof(T)> raw;
    std::copy_n(take(raw.size()).data(), raw.size(), raw.data());
    return std::bit_cast<T>(raw);
  }

  /// A length in bytes, then as many bytes.
  std::string text() {
    const Bytes characters = take(number<std::uint64_t>());
    return {reinterpret_cast<const char*>(characters.data()), characters.size()};
  }

  /// How many things of at least `smallest` bytes follow. What is more than fits into the rest of
  /// the file is refused here, before anyone allocates memory for it.
  std::uint64_t count(std::size_t smallest, const char* things) {
    const auto count = number<std::uint64_t>();
    if (count > rest() / smallest)
      fail(std::to_string(count) + " " + things + " do not fit into the " + std::to_string(rest()) +
           " bytes that follow");
    return count;
  }

  /// A type, then a value of it.
  MetadataValue value() {
    const auto type = number<ValueType>();
    if (type != ValueType::array)
      return of_type(type, [this]<class T>(T) -> MetadataValue { return element<T>(); });
    const auto of = number<ValueType>();
    if (of == ValueType::array) fail("arrays of arrays are not read");
    return of_type(of, [this]<class T>(T) -> MetadataValue { return elements<T>(); });
  }

 private:
  std::size_t rest() const { return bytes_.size() - position_; }

  Bytes take(std::uint64_t size) {
    if (size > rest())
      fail("the file ends here: " + std::to_string(size) + " bytes should follow, " +
           std::to_string(rest()) + " do");
    const Bytes taken = bytes_.subspan(position_, static_cast<std::size_t>(size));
    position_ += taken.size();
    return taken;
  }

  template <class T>
  T element() {
    if constexpr (std::same_as<T, std::string>) {
      return text();
    } else if constexpr (std::same_as<T, bool>) {
      const auto byte = number<std::uint8_t>();
      if (byte > 1) fail("a bool is " + std::to_string(byte) + ", which is neither 0 nor 1");
      return byte == 1;
    } else {
      return number<T>();
    }
  }

  template <class T>
  std::vector<T> elements() {
    constexpr bool is_text = std::same_as<T, std::string>;
    const std::uint64_t size = count(is_text ? sizeof(std::uint64_t) : sizeof(T), "elements");
    std::vector<T> read;
    read.reserve(static_cast<std::size_t>(size));
    for (std::uint64_t i = 0; i < size; ++i) read.push_back(element<T>());
    return read;
  }

  /// Calls visit(a T), with the C++ type of a GGUF type.
  template <class Visit>
  MetadataValue of_type(ValueType type, const Visit& visit) {
    switch (type) {
      case ValueType::uint8: return visit(std::uint8_t{});
      case ValueType::int8: return visit(std::int8_t{});
      case ValueType::uint16: return visit(std::uint16_t{});
      case ValueType::int16: return visit(std::int16_t{});
      case ValueType::uint32: return visit(std::uint32_t{});
      case ValueType::int32: return visit(std::int32_t{});
      case ValueType::float32: return visit(float{});
      case ValueType::boolean: return visit(bool{});
      case ValueType::string: return visit(std::string{});
      case ValueType::array: break;
      case ValueType::uint64: return visit(std::uint64_t{});
      case ValueType::int64: return visit(std::int64_t{});
      case ValueType::float64: return visit(double{});
    }
    fail("values of type " + std::to_string(static_cast<std::uint32_t>(type)) + " are unknown");
  }

  Bytes bytes_;
  std::string file_;
  std::string place_ = "header";
  std::size_t position_ = 0;
};

}  // namespace smollm2
