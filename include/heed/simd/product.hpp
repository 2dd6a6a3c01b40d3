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

/// Rows of the largest tile. Six rows by two vectors keep 12 accumulators, 2 loads and a broadcast
/// in 16 registers; six by four do so with 24 + 4 + 1 of 32. Two FMA ports of latency 4 need 8 or
/// more independent sums, and 12 FMAs on 8 loads leave the load ports idle a third of the time.
inline constexpr int max_tile_rows = 6;

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

/// Vectors beside each other in a tile of so many rows: few rows take many, to have enough sums.
/// Each vector needs a sum per row and a register to be loaded to; the step, the broadcast and the
/// compiler have some of their own. A single row needs no loads of its own (they fold into the
/// FMA).
template <class Step>
constexpr int tile_vectors(int rows) {
  return rows == 1 ? 8 : std::min((num_registers - Step::registers) / (rows + 1), 8);
}

/// What a tile does with the result that is there: it sums from zero, and overwrites it or adds to
/// it. Decided at run time, outside of the sums: so there are half as many tiles to compile.
struct Blocks {
  Index depth_before;  ///< of the whole, summed by earlier blocks
  template <class T>
  static Packet<T> start(const T*, Index) {
    return broadcast(T{0});
  }
  template <class T>
  void finish(T* out, const Packet<T>& sum) const {
    store(out, depth_before == 0 ? sum : add(load(out), sum));
  }
};
/// Multiplies row r of the old result by carry[r] first.
template <class T>
struct Carry {
  const T* factor;
  Packet<T> start(const T* out, Index row) const { return mul(broadcast(factor[row]), load(out)); }
  static void finish(T* out, const Packet<T>& sum) { store(out, sum); }
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
  Index first;           ///< rows before it are not there: 0, unless a step takes several
  const Element* ahead;  ///< what will be read after this

  Right middle_rows(Index begin, Index count) const {
    return {rows.middle_rows(begin, std::min(count, rows.rows - begin)),
            std::max(first - begin, Index{0}), ahead + begin * rows.cols};
  }
};

/// One tile at the top left of the operands. Never inlined: beside other tiles g++ runs out of
/// registers for the rows' pointers, which costs 10% on 16 tokens.
/// \param first_row  of the tile, in the whole result
template <int Rows, int Vectors, Fetch fetch, class T, class Element, class Factor, class Start>
[[gnu::noinline]] void product_tile(RowsView<const Factor> left, Right<Element> right,
                                    RowsView<T> out, const Start& start, Index first_row) {
  constexpr Index n = lanes<T>;
  using Step = DepthStep<T, Factor>;
  Packet<T> sum[Rows][Vectors];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) sum[r][v] = start.start(out.row(r) + v * n, first_row + r);
  const auto [page, first, ahead] = right;
  const auto present = static_cast<std::size_t>(page.rows - first);
  for (Index k = 0; k < left.cols; k += Step::rows) {
    const Element* const at = page.data + k * page.stride;
    const Element* row[Step::rows];
    if constexpr (Step::rows == 1) {
      row[0] = at;
    } else {
      static const Element zeros[Vectors * n]{};  // for a row that is not there
      for (Index i = 0; i < Step::rows; ++i)
        row[i] = static_cast<std::size_t>(k + i - first) < present ? at + i * page.stride : zeros;
    }
    typename Step::Operand column[Vectors];
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) {
      column[v] = Step::columns(row, v * n);
      if constexpr (Rows > 1) column[v] = keep_in_register(column[v]);
    }
    if constexpr (fetch == Fetch::ahead)
      prefetch<Step::rows * Vectors * n>(ahead + k * (Vectors * n));
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const auto factor = Step::factor(left.row(r) + k);
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) sum[r][v] = Step::mul_add(factor, column[v], sum[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) start.finish(out.row(r) + v * n, sum[r][v]);
}

/// All columns of rows in tiles of `Rows`. Column strips are the outer loop: a strip of the page
/// stays in the L1 cache while the rows pass by.
template <int Rows, class T, class Element, class Factor, class Start>
void product_rows(RowsView<const Factor> left, const Right<Element>& right, RowsView<T> out,
                  const Start& start, Index first_row) {
  constexpr int widest = tile_vectors<DepthStep<T, Factor>>(Rows);
  const Index vectors = out.cols / lanes<T>;
  const auto strip = [&](Index v, auto width) {
    const Index column = v * lanes<T>;
    const Right<Element> columns{right.rows.middle_cols(column, right.rows.cols - column),
                                 right.first, right.ahead + column * left.cols};
    const auto tile = [&](Index r, auto fetch) {
      product_tile<Rows, decltype(width)::value, decltype(fetch)::value>(
          left.middle_rows(r, Rows), columns,
          RowsView<T>(out.row(r) + column, Rows, out.cols - column, out.stride), start,
          first_row + r);
    };
    // Once per strip: the other rows find it there.
    tile(0, std::integral_constant<Fetch, first_fetch<Rows, Element>>{});
    if constexpr (Rows == max_tile_rows)  // fewer rows are one tile
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

template <class T, class Element, class Factor, class Start>
void product(RowsView<const Factor> left, const Right<Element>& right, RowsView<T> out,
             const Start& start) {
  const Index whole = left.rows / max_tile_rows * max_tile_rows;
  if (whole > 0)
    product_rows<max_tile_rows>(left.middle_rows(0, whole), right, out.middle_rows(0, whole), start,
                                0);
  const Index rest = left.rows - whole;
  with_constant<max_tile_rows - 1>(static_cast<int>(rest), [&](auto rows) {
    product_rows<decltype(rows)::value>(left.middle_rows(whole, rest), right,
                                        out.middle_rows(whole, rest), start, whole);
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
    detail::product(left.middle_cols(k, depth), all.middle_rows(k, depth), out, detail::Blocks{k});
    k += block;
  } while (k < left.cols);
}

/// out = carry * out + left . right, otherwise as `product`.
/// \param carry  [rows]
/// \param first  rows of `right` before it are not there, and left has a 0 for each: with factors
///               of bf16, whose sums are the same only if the same two rows are taken together,
///               this may be 1
template <class T, class Element, class Factor = T>
void product_carry(RowsView<const Factor> left, RowsView<const Element> right, RowsView<T> out,
                   const T* carry, Index first, const Element* ahead) {
  detail::product(left, detail::Right<Element>{right, first, ahead}, out, detail::Carry<T>{carry});
}

}  // namespace heed::simd
