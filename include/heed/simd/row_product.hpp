// SPDX-License-Identifier: MIT
/// \file
/// Scores of a few rows against keys that lie in rows. Layer 1, detail.
#pragma once

#include <algorithm>

#include "heed/simd/product.hpp"
#include "heed/simd/transpose.hpp"

namespace heed::simd {

/// More rows take less time if the page is transposed first, and then multiplied.
inline constexpr int most_rows_of_row_product = 4;

/// Whether there is a `row_product` of so many rows on the left: the depth has to be one whose
/// chains are whole squares.
template <class T>
constexpr bool has_row_product(Index rows, Index depth) {
  return rows <= most_rows_of_row_product && depth > 0 && depth % lanes<T> == 0 &&
         depth_block(depth) % lanes<T> == 0;
}

namespace detail {

/// Operands and result, passed by their address as in product.hpp.
template <class T>
struct RowProduct {
  RowsView<const T> left;
  RowsView<const T> right;
  RowsView<T> out;
  RowsView<const T> ahead;
};

/// The columns of the result from `token` on: a vector of them, of which only a part may be tokens.
template <int Rows, class T>
[[gnu::noinline]] void row_product_tile(const RowProduct<T>& of, Index token) {
  constexpr Index n = lanes<T>;
  const RowsView<const T> left = of.left;
  const RowsView<const T> right = of.right.middle_rows(token, std::min(n, of.right.rows - token));
  const Index depth = left.cols, block = depth_block(depth);
  for (Index begin = 0; begin < depth; begin += block) {
    Packet<T> sum[Rows];
#pragma GCC unroll 4
    for (auto& s : sum) s = broadcast(T{0});
    const auto add = [&](Index k, const Packet<T>& column) __attribute__((always_inline)) {
#pragma GCC unroll 4
      for (int r = 0; r < Rows; ++r) sum[r] = mul_add(broadcast(left.row(r)[k]), column, sum[r]);
    };
    for (Index k = begin; k < std::min(begin + block, depth); k += n) {
      if (right.rows < n) {
        T columns[n * n];
        part_columns(right.middle_cols(k, n), columns);
        for (Index i = 0; i < n; ++i) add(k + i, load(columns + i * n));
      } else {
        if (k < of.ahead.cols)
#pragma GCC unroll 16
          for (Index i = 0; i < n; ++i) prefetch<n>(of.ahead.row(token + i) + k);
        const PacketSquare<T> square = load_columns(right.row(0) + k, right.stride);
#pragma GCC unroll 16
        for (Index i = 0; i < n; ++i) add(k + i, square.packet[i]);
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r) StoreOrAdd().finish(of.out.row(r) + token, {sum[r]}, r, begin);
  }
}

}  // namespace detail

/// out = left . right^T, with the bits of `product` by the transposed rows: these are transposed in
/// registers, a square at a time, on their way to the sums.
/// \param left   [rows, depth], which has_row_product
/// \param right  [tokens, depth]
/// \param out    [rows, tokens rounded up to whole vectors], overwritten
/// \param ahead  [tokens, ...]: what will be read after this, to be fetched from memory on the way
///               as far as the depth goes; or of no columns
template <class T>
void row_product(RowsView<const T> left, RowsView<const T> right, RowsView<T> out,
                 RowsView<const T> ahead = {}) {
  const detail::RowProduct<T> of{left, right, out, ahead};
  with_constant<most_rows_of_row_product>(static_cast<int>(left.rows), [&](auto rows) {
    for (Index token = 0; token < right.rows; token += lanes<T>)
      detail::row_product_tile<decltype(rows)::value>(of, token);
  });
}

}  // namespace heed::simd
