// SPDX-License-Identifier: MIT
/// \file
/// Whole numbers of 4 bits, two to a byte. Layer 1, detail.
///
/// A nibble u stands for the code 2 u - 15: the odd numbers from -15 to 15. So codes lie evenly on
/// both sides of 0, and none of the 16 is wasted. The lower nibble of a byte is of an even row, the
/// upper one of the row after it.
#pragma once

#include <cstdint>
#include <cstring>

#include "heed/base/element.hpp"

namespace heed::simd {

/// The largest code of an element; the smallest is its negative.
template <class Element>
inline constexpr int largest_code = 127;
template <>
inline constexpr int largest_code<int4> = 15;

/// The code of a row in its element of a column.
constexpr int code_of(int8 element, Index) { return element; }
constexpr int code_of(int4 element, Index row) {
  return 2 * (element.pair >> row % 2 * 4 & 15) - largest_code<int4>;
}
/// Makes the bits of a row's code 0, and no others.
constexpr void clear_code(int8& element, Index) { element = 0; }
constexpr void clear_code(int4& element, Index row) {
  element.pair &= static_cast<std::uint8_t>(row % 2 == 0 ? 0xF0 : 0x0F);
}

namespace detail {

/// Bytes that are worked on together: a type of g++ and clang for every target.
template <int Count>
using Bytes [[gnu::vector_size(Count)]] = std::uint8_t;

/// `Count` elements to the codes of both rows.
template <int Count>
void unpack(const int4* from, int8* even, int8* odd) {
  Bytes<Count> bytes;
  std::memcpy(&bytes, from, Count);
  // u doubled on its way
  const Bytes<Count> low = ((bytes + bytes) & 30) - largest_code<int4>,
                     high = ((bytes >> 3) & 30) - largest_code<int4>;
  std::memcpy(even, &low, Count);
  std::memcpy(odd, &high, Count);
}

/// `Count` nibbles into the elements of a row.
template <int Count>
void set_nibbles(const std::uint8_t* nibbles, Index row, int4* to) {
  Bytes<Count> bytes, more;
  std::memcpy(&bytes, to, Count);
  std::memcpy(&more, nibbles, Count);
  bytes = row % 2 == 0 ? (bytes & 0xF0) | more : (bytes & 0x0F) | more << 4;
  std::memcpy(to, &bytes, Count);
}

}  // namespace detail

/// Changes the nibbles of a row, and no others. \param nibbles  each less than 16
inline void set_nibbles(const std::uint8_t* nibbles, Index count, Index row, int4* to) {
  Index c = 0;
  for (; c + 16 <= count; c += 16) detail::set_nibbles<16>(nibbles + c, row, to + c);
  for (; c < count; ++c) detail::set_nibbles<1>(nibbles + c, row, to + c);
}

/// Codes of rows in pairs: [pairs, width] elements to [2 * pairs, width] codes, both without gaps.
/// \param width  a multiple of 16
inline void unpack_codes(const int4* from, Index pairs, Index width, int8* to) {
  for (Index r = 0; r < pairs; ++r, from += width, to += 2 * width) {
    Index c = 0;
    for (; c + 64 <= width; c += 64) detail::unpack<64>(from + c, to + c, to + width + c);
    for (; c < width; c += 16) detail::unpack<16>(from + c, to + c, to + width + c);
  }
}

}  // namespace heed::simd
