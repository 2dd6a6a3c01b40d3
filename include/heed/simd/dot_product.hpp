// SPDX-License-Identifier: MIT
/// \file
/// Scores against row-major keys: dot products in register tiles. Layer 1, detail.
#pragma once

#include "heed/simd/product.hpp"

namespace heed::simd {
namespace detail {

/// Tokens and rows of the largest tile: rows * tokens sums, a register per row and one for the
/// token.
inline constexpr int dot_tokens = 4;
inline constexpr int dot_rows = num_registers >= 32 ? 5 : 3;

template <int Rows, int Tokens, class T, class Element, class Factor>
void dot_tile(RowsView<const Factor> left, RowsView<const Element> right, RowsView<T> out) {
  using Step = DepthStep<T, Factor>;
  Packet<T> sum[Rows][Tokens];
#pragma GCC unroll 8
  for (auto& row : sum)
#pragma GCC unroll 8
    for (auto& s : row) s = broadcast(T{0});
  for (Index k = 0; k < left.cols; k += Step::depth) {
    const typename Step::Present present(left.cols - k);
    typename Step::Operand query[Rows];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r)
      query[r] = keep_in_register(Step::along(left.row(r) + k, present));
#pragma GCC unroll 8
    for (int t = 0; t < Tokens; ++t) {
      const auto key = keep_in_register(Step::along(right.row(t) + k, present));
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) sum[r][t] = Step::mul_add(query[r], key, sum[r][t]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int t = 0; t < Tokens; ++t) out(r, t) = sum_lanes(sum[r][t]);
}

/// Calls f(row, token, rows, tokens) for tiles of up to so many rows and tokens. Tokens outside: a
/// few rows of the page stay in the L1 cache while all query rows pass by.
template <int Rows, int Tokens, class F>
void for_dot_tiles(Index rows, Index tokens, const F& f) {
  for (Index t = 0; t < tokens; t += Tokens)
    with_constant<Tokens>(static_cast<int>(std::min<Index>(Tokens, tokens - t)), [&](auto width) {
      for (Index r = 0; r < rows; r += Rows)
        with_constant<Rows>(static_cast<int>(std::min<Index>(Rows, rows - r)),
                            [&](auto height) { f(r, t, height, width); });
    });
}

}  // namespace detail

/// out = left . right^T.
/// \param left   [rows, depth]; depth is a multiple of the vector width: rows are padded with zeros
/// \param right  [tokens, depth], widened on the way unless left is of its type
/// \param out    [rows, tokens], overwritten
template <class T, class Element, class Factor = T>
void dot_product(RowsView<const Factor> left, RowsView<const Element> right, RowsView<T> out) {
  using namespace detail;
  for_dot_tiles<dot_rows, dot_tokens>(left.rows, right.rows,
                                      [&](Index r, Index t, auto rows, auto tokens) {
                                        dot_tile<decltype(rows)::value, decltype(tokens)::value>(
                                            left.middle_rows(r, rows), right.middle_rows(t, tokens),
                                            out.middle_rows(r, rows).middle_cols(t, tokens));
                                      });
}

}  // namespace heed::simd
