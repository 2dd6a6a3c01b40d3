// SPDX-License-Identifier: MIT
/// \file
/// Scores against row-major keys, and projections by row-major weights: dot products in register
/// tiles. Layer 1, detail.
#pragma once

#include <algorithm>
#include <cassert>

#include "heed/simd/product.hpp"

namespace heed::simd {
namespace detail {

/// Tokens and rows of the largest tile: rows * tokens sums, a register per row and one for the
/// token.
inline constexpr int dot_tokens = 4;
inline constexpr int dot_rows = num_registers >= 32 ? 5 : 3;

/// What a tile does with the sums of lanes of some vectors: overwrites the result.
struct Overwrite {
  template <int Count, class T>
  static void finish(const Packet<T> (&vectors)[4], T* to) {
    if constexpr (Count == 4) return sum_lanes_of_four<T>(vectors, to);
    T sums[4];
    sum_lanes_of_four<T>(vectors, sums);
    std::copy_n(sums, Count, to);
  }
};

/// Operands and result, passed by their address as in product.hpp.
template <class T, class Element, class Factor, class End>
struct DotProduct {
  RowsView<const Factor> left;
  RowsView<const Element> right;
  RowsView<T> out;
  End end;
};

template <int Rows, int Tokens, class T, class Element, class Factor, class End>
[[gnu::noinline]] void dot_tile(const DotProduct<T, Element, Factor, End>& of, Index first_row,
                                Index first_token) {
  using Step = DepthStep<T, Factor>;
  const RowsView<const Factor> left = of.left.middle_rows(first_row, Rows);
  const RowsView<const Element> right = of.right.middle_rows(first_token, Tokens);
  Packet<T> sum[Rows][Tokens];
#pragma GCC unroll 8
  for (auto& row : sum)
#pragma GCC unroll 8
    for (auto& s : row) s = broadcast(T{0});
  const auto step = [&](Index k, const auto& load) __attribute__((always_inline)) {
    typename Step::Operand query[Rows];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) query[r] = keep_in_register(load(left.row(r) + k));
#pragma GCC unroll 8
    for (int t = 0; t < Tokens; ++t) {
      const auto key = keep_in_register(load(right.row(t) + k));
      if constexpr (requires { of.end.ahead; }) prefetch<1>(right.row(t) + k + of.end.ahead);
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) sum[r][t] = Step::mul_add(query[r], key, sum[r][t]);
    }
  };
  Index k = 0;
  for (; k + Step::depth <= left.cols; k += Step::depth)
    step(k, [](const auto* row) { return Step::along(row); });
  if constexpr (Step::depth > lanes<T>)
    if (k < left.cols) step(k, [](const auto* row) { return Step::half_along(row); });
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
    T* const to = &of.out(first_row + r, first_token);
    const auto four = [&](auto begin) __attribute__((always_inline)) {
      Packet<T> some[4];
#pragma GCC unroll 4
      for (int t = 0; t < 4; ++t)
        some[t] = begin + t < Tokens ? sum[r][begin + t] : broadcast(T{0});
      of.end.template finish<std::min(Tokens - begin, 4)>(some, to + begin);
    };
    four(std::integral_constant<int, 0>{});
    if constexpr (Tokens > 4) four(std::integral_constant<int, 4>{});
  }
}

/// The first of as few parts as there can be of up to `most`, as alike as they can be.
constexpr Index even_part(Index count, Index most) {
  return ceil_div(count, ceil_div(count, most));
}

/// Calls f(row, rows) for tiles of up to so many rows.
template <int Rows, class F>
void for_row_tiles(Index rows, const F& f) {
  for (Index r = 0; r < rows;) {
    const Index count = even_part(rows - r, Rows);
    with_constant<Rows>(static_cast<int>(count), [&](auto height) { f(r, height); });
    r += count;
  }
}

/// Calls f(row, token, rows, tokens) for tiles of up to so many of both. Tokens outside: a few rows
/// of the page stay in the L1 cache while all query rows pass by.
template <int Rows, int Tokens, class F>
void for_dot_tiles(Index rows, Index tokens, const F& f) {
  for (Index t = 0; t < tokens; t += Tokens)
    with_constant<Tokens>(static_cast<int>(std::min<Index>(Tokens, tokens - t)), [&](auto width) {
      for_row_tiles<Rows>(rows, [&](Index r, auto height) { f(r, t, height, width); });
    });
}

}  // namespace detail

/// out = left . right^T.
/// \param left   [rows, depth]; depth is a multiple of the vector width: rows are padded with zeros
/// \param right  [tokens, depth], widened on the way unless left is of its type
/// \param out    [rows, tokens], overwritten
template <class T, class Element, class Factor = T>
void dot_product(RowsView<const Factor> left, RowsView<const Element> right, RowsView<T> out) {
  assert(left.cols % lanes<T> == 0);
  const detail::DotProduct<T, Element, Factor, detail::Overwrite> of{left, right, out, {}};
  detail::for_dot_tiles<detail::dot_rows, detail::dot_tokens>(
      left.rows, right.rows, [&](Index r, Index t, auto rows, auto tokens) {
        detail::dot_tile<decltype(rows)::value, decltype(tokens)::value>(of, r, t);
      });
}

}  // namespace heed::simd
