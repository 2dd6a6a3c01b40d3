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

/// The code of a row in its element of a column.
constexpr int code_of(int8 element, Index) { return element; }
constexpr int code_of(int4 element, Index row) {
  return 2 * (element.pair >> row % 2 * 4 & 15) - 15;
}
/// Changes the code of a row in its element of a column, and no other.
constexpr void set_code(int8& element, Index, int code) { element = static_cast<int8>(code); }
constexpr void set_code(int4& element, Index row, int code) {
  const int shift = static_cast<int>(row % 2) * 4;
  element.pair =
      static_cast<std::uint8_t>((element.pair & ~(15 << shift)) | (code + 15) / 2 << shift);
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
  // u doubled on its way, less 15
  const Bytes<Count> low = ((bytes + bytes) & 30) - 15, high = ((bytes >> 3) & 30) - 15;
  std::memcpy(even, &low, Count);
  std::memcpy(odd, &high, Count);
}

}  // namespace detail

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
