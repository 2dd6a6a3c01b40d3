// SPDX-License-Identifier: MIT
/// \file
/// Products of a few rows with a page, in register tiles. Layer 1, detail.
///
///     product      out [rows, cols]    = left [rows, depth] . right [depth, cols]
///                  scores with transposed keys
///     add_product  out [rows, cols]   += left [rows, depth] . right [depth, cols]
///                  probabilities times values
///     dot_product  out [rows, tokens]  = left [rows, depth] . right [tokens, depth]^T
///                  scores with row-major latents, which serve as values too (dot_product.hpp)
///
/// Every element of a result is summed in one fixed order, whatever tile computes it: over the
/// depth from first to last (`add_product`), over blocks of it that are then added in their order
/// (`product`), or lane by lane and then over the lanes (`dot_product`). So the bits of a row do
/// not depend on the rows that happen to be beside it.
#pragma once

#include <algorithm>
#include <cassert>

#include "heed/base/element.hpp"
#include "heed/base/views.hpp"
#include "heed/simd/factors.hpp"
#include "heed/simd/with_constant.hpp"

namespace heed::simd {

/// Depth that `product` sums in one chain before it adds the block to the result: up to 64, and all
/// alike. One chain over a whole head of 576 has 2.7 times the rounding error of PyTorch's product;
/// shorter blocks cost more additions.
constexpr Index depth_block(Index depth) {
  const Index blocks = std::max<Index>(ceil_div(depth, 64), 1);
  return std::max<Index>(ceil_div(depth, blocks), 1);
}

/// Whether tiles of so many rows are as wide as a strip, so that they read a page in the order of
/// memory.
template <class T, class Factor>
constexpr bool reads_in_order(Index rows) {
  using Step = DepthStep<T, Factor>;
  return Step::vectors(static_cast<int>(std::min<Index>(rows, Step::most_rows))) * lanes<T> >=
         strip_width;
}

namespace detail {

/// Sums that start from nothing.
struct FromZero {
  template <class Step>
  static auto start(Index) {
    return Step::zero();
  }
};
/// What a tile does at its end with the result that is there: overwrites it or, from the second
/// block of depth on or if `before` is to be kept, adds to it. Decided at run time, outside of the
/// sums: so there are a third as many tiles to compile.
struct StoreOrAdd : FromZero {
  enum class Before { overwritten, kept } before = Before::overwritten;
  template <class T, int Vectors>
  void finish(T* out, const Packet<T> (&sum)[Vectors], Index, Index depth_before) const {
    const auto each = [&](const auto& result) {
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) store(out + v * lanes<T>, result(v));
    };
    if (depth_before == 0 && before == Before::overwritten)
      each([&](int v) { return sum[v]; });
    else
      each([&](int v) { return add(load(out + v * lanes<T>), sum[v]); });
  }
};

/// A product: its operands, its result and what is done with it. Made once and passed by its
/// address: views that are passed by value are copied by vector instructions, which queue behind
/// the sums of the tile before, and the next one's loads would wait for them.
template <class T, class Element, class Factor, class End>
struct Product {
  RowsView<const Factor> left;
  StripsView<const Element> right;
  Index first;           ///< rows of `right` before it are not there, nor taken
  const Element* ahead;  ///< what will be read after `right`, or null
  RowsView<T> out;
  Index depth_block;  ///< depth that is summed in one chain
  End end;
};

/// The part of the depth that a tile sums.
struct Depth {
  Index begin;
  Index end;
};

/// One tile of the result, from (first_row, first_column) on. Never inlined: beside other tiles g++
/// runs out of registers for the rows' pointers, which costs 10% on 16 tokens.
/// \param ahead  what it fetches, or null
template <int Rows, int Vectors, class T, class Element, class Factor, class End>
[[gnu::noinline]] void product_tile(const Product<T, Element, Factor, End>& of, Index first_row,
                                    Index first_column, Depth depth, const Element* ahead) {
  constexpr Index n = lanes<T>;
  constexpr Index shared = rows_per_element<Element>;  // then these are codes
  // Widened, eight vectors of a single row and their sums are more than 16 registers: one of the
  // sums would be in memory, which each step then waits for.
  constexpr int at_once = num_registers < 32 ? std::min(Vectors, 4) : Vectors;
  using Step = DepthStep<T, Factor>;
  typename Step::Sum sum[Rows][Vectors];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) sum[r][v] = of.end.template start<Step>(first_row + r);
  const RowsView<const Factor> left = of.left.middle_rows(first_row, Rows);
  const Element* const right = of.right.at(0, first_column);
  const Index stride = of.right.stride;
  const Index first = of.first;
  for (Index k = std::max(depth.begin, first / Step::rows * Step::rows); k < depth.end;
       k += Step::rows) {
    const Element* row[Step::rows];
    for (Index i = 0; i < Step::rows; ++i) row[i] = right + (k / shared + i / shared) * stride;
    if constexpr (Step::rows > 1)
      if (k < first || k + Step::rows > of.right.rows * shared) [[unlikely]] {
        static const Element zeros[Vectors * n]{};  // for a row that is not there
        for (Index i = 0; i < Step::rows; ++i)
          if ((shared == 1 && k + i < first) || k + i >= of.right.rows * shared) row[i] = zeros;
      }
#pragma GCC unroll 2
    for (int begin = 0; begin < Vectors; begin += at_once) {
      const Element* part[Step::rows];
      for (Index i = 0; i < Step::rows; ++i) part[i] = row[i] + begin * n;
      typename Step::Operand column[at_once];
      Step::columns(part, column);
      if constexpr (Rows > 1) {
#pragma GCC unroll 8
        for (auto& operand : column) operand = keep_in_register(operand);
      }
      if (begin == 0 && ahead != nullptr)
        prefetch<Step::rows / shared * Vectors * n>(ahead + k / shared * (Vectors * n));
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) {
        const auto factor = Step::factor(left.row(r), k);
#pragma GCC unroll 8
        for (int v = 0; v < at_once; ++v)
          sum[r][begin + v] = Step::mul_add(factor, column[v], sum[r][begin + v]);
      }
    }
  }
  T* const out = of.out.row(first_row) + first_column;
  const Index out_stride = of.out.stride;
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
    Packet<T> value[Vectors];
    Step::values(sum[r], value);
    of.end.finish(out + r * out_stride, value, first_row + r, depth.begin);
  }
}

/// Rows [begin, end) of the result in tiles of `Rows`. Column strips are the outer loop: a strip of
/// the page stays in the L1 cache while the rows pass by.
template <int Rows, class T, class Element, class Factor, class End>
void product_rows(const Product<T, Element, Factor, End>& of, Index begin, Index end) {
  constexpr Index n = lanes<T>;
  constexpr int widest = std::min<int>(DepthStep<T, Factor>::vectors(Rows), strip_width / n);
  const Index whole_depth = of.left.cols;
  const auto columns = [&](Index column, auto width) {
    const auto tile = [&](Index row, Depth depth, const Element* ahead) {
      product_tile<Rows, decltype(width)::value>(of, row, column, depth, ahead);
    };
    Index k = 0;
    do {  // at least once: a product of no depth is zero
      const Depth depth{k, std::min(k + of.depth_block, whole_depth)};
      // By the first tile of these rows: those below it find it there. (Rows that are computed
      // apart fetch again: docs/tried-and-dropped.md.)
      constexpr Index shared = rows_per_element<Element>;
      tile(begin, depth,
           of.ahead == nullptr ? nullptr : of.ahead + column * (whole_depth / shared));
      if constexpr (Rows == DepthStep<T, Factor>::most_rows)  // fewer rows are one tile
        for (Index r = begin + Rows; r < end; r += Rows) tile(r, depth, nullptr);
      k = depth.end;
    } while (k < whole_depth);
  };
  for (Index column = 0; column < of.out.cols;) {
    const Index strip_end = std::min(column + strip_width, of.out.cols);
    const auto tiles = [&](auto width) {
      for (; column + width * n <= strip_end; column += width * n) columns(column, width);
    };
    tiles(std::integral_constant<int, widest>{});
    // What is left in halves: a tile for every width would take twice as long to compile.
    if constexpr (widest > 4) tiles(std::integral_constant<int, 4>{});
    if constexpr (widest > 2) tiles(std::integral_constant<int, 2>{});
    if constexpr (widest > 1) tiles(std::integral_constant<int, 1>{});
  }
}

/// Whole tiles of rows first. Where there are registers for wide tiles, the last of them and the
/// rows that are left are cut in two halves: a tile of one or two rows reads the page for too few
/// sums.
template <class T, class Element, class Factor, class End>
void compute(const Product<T, Element, Factor, End>& of) {
  constexpr int most = DepthStep<T, Factor>::most_rows;
  const Index rows = of.left.rows, tiles = rows / most;
  const bool share = num_registers >= 32 && rows % most != 0 && tiles > 0;
  const Index whole = (share ? tiles - 1 : tiles) * most;
  if (whole > 0) product_rows<most>(of, 0, whole);
  for (Index r = whole; r < rows;) {
    const Index rest = rows - r, count = rest > most ? (rest + 1) / 2 : rest;
    with_constant<most>(static_cast<int>(count),
                        [&](auto some) { product_rows<decltype(some)::value>(of, r, r + count); });
    r += count;
  }
}

}  // namespace detail

/// out = left . right.
/// \param left   [rows, depth]; with factors of bf16, depth is even, and the last may be a 0 that
///               has no row in `right`
/// \param right  [depth, cols], widened on the way unless left is of its type; cols is a multiple
///               of the vector width
/// \param out    [rows, cols], overwritten
/// \param ahead  what will be read after this: as much of it as is read here may be fetched from
///               memory on the way, from its start to its end. Null if nothing is to be fetched.
template <class T, class Element, class Factor = T>
void product(RowsView<const Factor> left, RowsView<const Element> right, RowsView<T> out,
             const Element* ahead) {
  assert(right.cols % lanes<T> == 0);
  constexpr Index step = DepthStep<T, Factor>::rows;
  const Index block = round_up(depth_block(left.cols), step);
  detail::compute(detail::Product<T, Element, Factor, detail::StoreOrAdd>{
      left, right, 0, ahead, out, block, {}});
}

/// out += left . right, otherwise as `product`.
/// \param first  rows of `right` before it are not there, nor taken. (With factors of bf16 sums are
///               the same only if the same two rows are taken together: left has a 0 for each.)
template <class T, class Element, class Factor = T>
void add_product(RowsView<const Factor> left, StripsView<const Element> right, RowsView<T> out,
                 Index first, const Element* ahead) {
  assert(right.cols % lanes<T> == 0);
  detail::compute(detail::Product<T, Element, Factor, detail::StoreOrAdd>{
      left, right, first, ahead, out, left.cols, {{}, detail::StoreOrAdd::Before::kept}});
}

}  // namespace heed::simd
