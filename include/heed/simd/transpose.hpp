// SPDX-License-Identifier: MIT
/// \file
/// Rows of keys into the columns of a page. Layer 1, detail.
#pragma once

#include "heed/base/views.hpp"
#include "heed/simd/packet.hpp"

namespace heed::simd {

/// to[c * to_stride + r] = from(r, c): token r becomes a column. [rows, cols] -> [cols, rows].
template <class T>
void transpose(RowsView<const T> from, T* to, Index to_stride) {
  constexpr Index n = lanes<T>;
  const Index block_rows = n > 1 ? from.rows / n * n : 0;
  const Index block_cols = n > 1 ? from.cols / n * n : 0;
  for (Index c = 0; c < block_cols; c += n)
    for (Index r = 0; r < block_rows; r += n) {
      PacketSquare<T> block;
      for (Index i = 0; i < n; ++i) block.packet[i] = load(from.row(r + i) + c);
      if constexpr (n > 1) Eigen::internal::ptranspose(block);
      for (Index i = 0; i < n; ++i) store(to + (c + i) * to_stride + r, block.packet[i]);
    }
  for (Index r = 0; r < from.rows; ++r)
    for (Index c = r < block_rows ? block_cols : 0; c < from.cols; ++c)
      to[c * to_stride + r] = from(r, c);
}

}  // namespace heed::simd
