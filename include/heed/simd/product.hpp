// SPDX-License-Identifier: MIT
/// \file
/// Products of a few rows with a page, in register tiles. Layer 1, detail.
///
///     product      out [rows, cols]   = carry * out + left [rows, depth] . right [depth, cols]
///                  scores with transposed keys, and probabilities times values
///     dot_product  out [rows, tokens] = left [rows, depth] . right [tokens, depth]^T
///                  scores with row-major latents, which serve as values too
///
/// Every element of a result is summed in one fixed order, whatever tile computes it: over the
/// depth from first to last (`product`), or lane by lane and then over the lanes (`dot_product`).
/// So the bits of a row do not depend on the rows that happen to be beside it.
#pragma once

#include <algorithm>
#include <utility>

#include "heed/base/views.hpp"
#include "heed/simd/factors.hpp"

namespace heed::simd {

/// Depth that `product` sums in one chain before it adds the block to the result: up to 64, and all
/// alike. One chain over a whole head of 576 has 2.7 times the rounding error of PyTorch's product;
/// shorter blocks cost more additions.
constexpr Index depth_block(Index depth) {
  const Index blocks = std::max<Index>((depth + 63) / 64, 1);
  return std::max<Index>((depth + blocks - 1) / blocks, 1);
}

/// Calls f(std::integral_constant<int, value>) for a value in 1 .. Max known at run time.
template <int Max, class F>
void with_constant(int value, const F& f) {
  [&]<int... I>(std::integer_sequence<int, I...>) {
    (void)((value == I + 1 && (f(std::integral_constant<int, I + 1>{}), true)) || ...);
  }(std::make_integer_sequence<int, Max>{});
}

namespace detail {

/// Sums that start from nothing.
struct FromZero {
  template <class Step>
  static auto start(Index) {
    return Step::zero();
  }
};
/// What a tile does at its end with the result that is there: overwrites it or adds to it. Decided
/// at run time, outside of the sums: so there are half as many tiles to compile.
struct Blocks : FromZero {
  Index depth_before;  ///< of the whole, summed by earlier blocks
  template <class T, int Vectors>
  void finish(T* out, const Packet<T> (&sum)[Vectors], Index) const {
    const auto each = [&](const auto& result) {
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) store(out + v * lanes<T>, result(v));
    };
    if (depth_before == 0)
      each([&](int v) { return sum[v]; });
    else
      each([&](int v) { return add(load(out + v * lanes<T>), sum[v]); });
  }
};
/// Adds to row r of the old result, times carry[r].
template <class T>
struct Carry : FromZero {
  const T* factor;
  template <int Vectors>
  void finish(T* out, const Packet<T> (&sum)[Vectors], Index row) const {
    const auto carry = broadcast(factor[row]);
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v)
      store(out + v * lanes<T>, mul_add(carry, load(out + v * lanes<T>), sum[v]));
  }
};

/// Whether a tile asks memory for what comes next.
enum class Fetch { nothing, ahead };

/// A single row reads in order, as fast as memory gives, and the hardware's prefetcher keeps up:
/// there a fetch for each line costs more than it brings. But codes of 8 bits gain from it
/// (docs/tried-and-dropped.md).
template <int Rows, class Element>
inline constexpr Fetch first_fetch = Rows > 1 || sizeof(Element) == 1 ? Fetch::ahead
                                                                      : Fetch::nothing;

/// The page's side of a product.
template <class Element>
struct Right {
  RowsView<const Element> rows;
  Index first;           ///< rows before it are not there, nor taken
  const Element* ahead;  ///< what will be read after this

  Right middle_rows(Index begin, Index count) const {
    return {rows.middle_rows(begin, std::min(count, rows.rows - begin)),
            std::max(first - begin, Index{0}), ahead + begin * rows.cols};
  }
};

/// One tile at the top left of the operands. Never inlined: beside other tiles g++ runs out of
/// registers for the rows' pointers, which costs 10% on 16 tokens.
/// \param first_row  of the tile, in the whole result
template <int Rows, int Vectors, Fetch fetch, class T, class Element, class Factor, class End>
[[gnu::noinline]] void product_tile(RowsView<const Factor> left, Right<Element> right,
                                    RowsView<T> out, const End& end, Index first_row) {
  constexpr Index n = lanes<T>;
  using Step = DepthStep<T, Factor>;
  typename Step::Sum sum[Rows][Vectors];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) sum[r][v] = end.template start<Step>(first_row + r);
  const auto [page, first, ahead] = right;
  for (Index k = first / Step::rows * Step::rows; k < left.cols; k += Step::rows) {
    const Element* row[Step::rows];
    for (Index i = 0; i < Step::rows; ++i) row[i] = page.row(k + i);
    if constexpr (Step::rows > 1)
      if (k < first || k + Step::rows > page.rows) [[unlikely]] {
        static const Element zeros[Vectors * n]{};  // for a row that is not there
        for (Index i = 0; i < Step::rows; ++i)
          if (k + i < first || k + i >= page.rows) row[i] = zeros;
      }
    typename Step::Operand column[Vectors];
    Step::columns(row, column);
    if constexpr (Rows > 1)
#pragma GCC unroll 8
      for (auto& operand : column) operand = keep_in_register(operand);
    if constexpr (fetch == Fetch::ahead)
      prefetch<Step::rows * Vectors * n>(ahead + k * (Vectors * n));
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const auto factor = Step::factor(left.row(r), k);
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) sum[r][v] = Step::mul_add(factor, column[v], sum[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
    Packet<T> value[Vectors];
    Step::values(sum[r], value);
    end.finish(out.row(r), value, first_row + r);
  }
}

/// All columns of rows in tiles of `Rows`. Column strips are the outer loop: a strip of the page
/// stays in the L1 cache while the rows pass by.
template <int Rows, class T, class Element, class Factor, class End>
void product_rows(RowsView<const Factor> left, const Right<Element>& right, RowsView<T> out,
                  const End& end, Index first_row) {
  constexpr int widest = DepthStep<T, Factor>::vectors(Rows);
  const Index vectors = out.cols / lanes<T>;
  const auto strip = [&](Index v, auto width) {
    const Index column = v * lanes<T>;
    const Right<Element> columns{right.rows.middle_cols(column, right.rows.cols - column),
                                 right.first, right.ahead + column * left.cols};
    const auto tile = [&](Index r, auto fetch) {
      product_tile<Rows, decltype(width)::value, decltype(fetch)::value>(
          left.middle_rows(r, Rows), columns,
          RowsView<T>(out.row(r) + column, Rows, out.cols - column, out.stride), end,
          first_row + r);
    };
    // Once per strip: the other rows find it there.
    tile(0, std::integral_constant<Fetch, first_fetch<Rows, Element>>{});
    if constexpr (Rows == DepthStep<T, Factor>::most_rows)  // fewer rows are one tile
      for (Index r = Rows; r < left.rows; r += Rows)
        tile(r, std::integral_constant<Fetch, Fetch::nothing>{});
  };
  Index v = 0;
  const auto strips = [&](auto width) {
    for (; v + width <= vectors; v += width) strip(v, width);
  };
  strips(std::integral_constant<int, widest>{});
  // What is left in halves: a tile for every width would take twice as long to compile.
  if constexpr (widest > 4) strips(std::integral_constant<int, 4>{});
  if constexpr (widest > 2) strips(std::integral_constant<int, 2>{});
  if constexpr (widest > 1) strips(std::integral_constant<int, 1>{});
}

template <class T, class Element, class Factor, class End>
void product(RowsView<const Factor> left, const Right<Element>& right, RowsView<T> out,
             const End& end) {
  constexpr int most_rows = DepthStep<T, Factor>::most_rows;
  const Index whole = left.rows / most_rows * most_rows;
  if (whole > 0)
    product_rows<most_rows>(left.middle_rows(0, whole), right, out.middle_rows(0, whole), end, 0);
  const Index rest = left.rows - whole;
  with_constant<most_rows - 1>(static_cast<int>(rest), [&](auto rows) {
    product_rows<decltype(rows)::value>(left.middle_rows(whole, rest), right,
                                        out.middle_rows(whole, rest), end, whole);
  });
}

}  // namespace detail

/// out = left . right.
/// \param left   [rows, depth]; with factors of bf16, depth is even, and the last may be a 0 that
///               has no row in `right`
/// \param right  [depth, cols], widened on the way unless left is of its type; cols is a multiple
///               of the vector width
/// \param out    [rows, cols], overwritten
/// \param ahead  what will be read after this: as much of it as is read here may be fetched from
///               memory on the way, from its start to its end. `right` itself if there is nothing.
template <class T, class Element, class Factor = T>
void product(RowsView<const Factor> left, RowsView<const Element> right, RowsView<T> out,
             const Element* ahead) {
  constexpr Index step = DepthStep<T, Factor>::rows;
  const detail::Right<Element> all{right, 0, ahead};
  const Index block = (depth_block(left.cols) + step - 1) / step * step;
  Index k = 0;
  do {  // at least once: a product of no depth is zero
    const Index depth = std::min(block, left.cols - k);
    detail::product(left.middle_cols(k, depth), all.middle_rows(k, depth), out,
                    detail::Blocks{{}, k});
    k += block;
  } while (k < left.cols);
}

/// out = carry * out + left . right, otherwise as `product`.
/// \param carry  [rows]
/// \param first  rows of `right` before it are not there, nor taken. (With factors of bf16 sums are
///               the same only if the same two rows are taken together: left has a 0 for each.)
template <class T, class Element, class Factor = T>
void product_carry(RowsView<const Factor> left, RowsView<const Element> right, RowsView<T> out,
                   const T* carry, Index first, const Element* ahead) {
  detail::product(left, detail::Right<Element>{right, first, ahead}, out,
                  detail::Carry<T>{{}, carry});
}

}  // namespace heed::simd
