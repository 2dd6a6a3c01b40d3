// SPDX-License-Identifier: MIT
/// \file
/// Random keys, values and queries that can be made again at any place, so that a reference can
/// read what a cache was filled with and no copy of it need be kept.
#pragma once

#include <algorithm>
#include <cstdint>

#include "heed/base/views.hpp"

namespace heed::bench {

enum class Stream : std::uint32_t { query = 1, key, value };

/// Element `column` of row `row`: a multiple of 1/128 in (-1, 1), which float, f16 and bf16 hold
/// exactly. The first of a row is 127/128 or -127/128, so that int8 does so too: its scale is then
/// 1/128.
inline float random_element(Stream stream, Index row, Index column) {
  std::uint32_t bits = static_cast<std::uint32_t>(row) * 0x9E3779B1U +
                       static_cast<std::uint32_t>(stream) * 0x85EBCA77U +
                       static_cast<std::uint32_t>(column) * 0xC2B2AE3DU;
  bits = (bits ^ (bits >> 16)) * 0x7FEB352DU;  // mixing steps of the lowbias32 hash
  bits = (bits ^ (bits >> 15)) * 0x846CA68BU;
  const std::int32_t steps = static_cast<std::int32_t>(bits) >> 24;
  if (column == 0) return steps < 0 ? -127.0F / 128 : 127.0F / 128;
  return static_cast<float>(std::max(steps, -127)) / 128.0F;
}

/// Rows first_row, first_row + row_step, ... of a stream.
template <class T>
void fill_random(Stream stream, Index first_row, Index row_step, RowsView<T> out) {
  for (Index r = 0; r < out.rows; ++r) {
    T* const row = out.row(r);
    for (Index column = 0; column < out.cols; ++column)
      row[column] = static_cast<T>(random_element(stream, first_row + r * row_step, column));
  }
}

}  // namespace heed::bench
