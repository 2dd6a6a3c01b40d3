// SPDX-License-Identifier: MIT
/// \file
/// Whole numbers of 4 bits, two to a byte. Layer 1, detail.
///
/// A nibble u stands for the code 2 u - 15: the odd numbers from -15 to 15. So codes lie evenly on
/// both sides of 0, and none of the 16 is wasted. The bytes of a row of `width` codes hold code c
/// and code c + width / 2, so that a row unpacks to two runs.
#pragma once

#include <cstdint>
#include <cstring>

#include "heed/base/element.hpp"

namespace heed::simd {

/// The byte of two codes.
constexpr std::uint8_t pack_codes(int first, int second) {
  return static_cast<std::uint8_t>((first + 15) / 2 | (second + 15) / 2 << 4);
}

/// Code `c` of a row.
constexpr int8 code_at(const std::uint8_t* row, Index width, Index c) {
  const Index half = width / 2;
  const int nibble = c < half ? row[c] & 15 : row[c - half] >> 4;
  return static_cast<int8>(2 * nibble - 15);
}

namespace detail {

/// Bytes that are worked on together: a type of g++ and clang for every target.
template <int Count>
using Bytes [[gnu::vector_size(Count)]] = std::uint8_t;

/// `Count` bytes to as many codes twice, in vectors of Width bytes.
template <int Count, int Width = Count>
void unpack(const std::uint8_t* from, int8* first, int8* second) {
  Bytes<Width> bytes{};
  std::memcpy(&bytes, from, Count);
  const Bytes<Width> low = (bytes & 15) * 2 - 15, high = (bytes >> 4) * 2 - 15;
  std::memcpy(first, &low, Count);
  std::memcpy(second, &high, Count);
}

}  // namespace detail

/// Codes of whole rows: [rows, width / 2] bytes to [rows, width], both without gaps.
/// \param width  a multiple of 16
inline void unpack_codes(const std::uint8_t* from, Index rows, Index width, int8* to) {
  const Index half = width / 2;
  for (Index r = 0; r < rows; ++r, from += half, to += width) {
    Index c = 0;
    for (; c + 32 <= half; c += 32) detail::unpack<32>(from + c, to + c, to + half + c);
    for (; c + 16 <= half; c += 16) detail::unpack<16>(from + c, to + c, to + half + c);
    if (c < half) detail::unpack<8, 16>(from + c, to + c, to + half + c);
  }
}

}  // namespace heed::simd
