// SPDX-License-Identifier: MIT
/// \file
/// Products of many rows with a weight, on the calling thread. Layer 1, detail.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <limits>

#include <Eigen/Core>

#include "heed/simd/dot_product.hpp"
#include "heed/simd/product.hpp"

namespace heed::simd {

/// How the weight of a product lies.
enum class WeightLayout {
  out_in,  ///< [out, in], as checkpoints store projections: y = x W^T
  in_out,  ///< [in, out]: y = x W
};

namespace detail {

/// Depth that is summed in one piece, from first to last.
template <class T>
inline constexpr Index projection_depth = 8192 / static_cast<Index>(sizeof(T));
/// Rows of x that are copied side by side, on the stack: rows of a whole x may be a power of two
/// apart, where a cache has room for few.
inline constexpr Index packed_rows = 2 * dot_rows;
/// Up to so many bytes of x stay in the L2 cache while the weight is read row by row.
inline constexpr Index kept_bytes = Index{256} << 10;

/// What a tile does with its sums: adds them to those of the depth before, if there is one.
struct PartOfDepth {
  Index before;  ///< depth

  template <int Count, class T>
  void finish(const Packet<T> (&vectors)[4], T* to) const {
    T sums[4];
    sum_lanes_of_four<T>(vectors, sums);
#pragma GCC unroll 4
    for (int i = 0; i < Count; ++i) to[i] = before == 0 ? sums[i] : to[i] + sums[i];
  }
};

/// The same, and fetches what will be read next.
struct PartOfDepthAhead : PartOfDepth {
  Index ahead;  ///< elements from a row of the weight to that
};

/// out = left . right^T, or added to it. \param end  PartOfDepth or PartOfDepthAhead
template <class T, class Element, class End>
void project_part(RowsView<const T> left, RowsView<const Element> right, RowsView<T> out,
                  const End& end) {
  const DotProduct<T, Element, T, End> of{left, right, out, end};
  Index o = 0;
  const auto outputs = [&](auto count, auto most_rows) {
    for (; o + count <= right.rows; o += count)
      for_row_tiles<most_rows>(left.rows, [&](Index r, auto rows) {
        dot_tile<decltype(rows)::value, decltype(count)::value>(of, r, o);
      });
  };
  // One or two rows take more outputs at a time: memory is read in as many streams.
  constexpr int few = num_registers >= 32 ? 2 : 1;
  if (left.rows <= few)
    outputs(std::integral_constant<int, 8>{}, std::integral_constant<int, few>{});
  outputs(std::integral_constant<int, 4>{}, std::integral_constant<int, dot_rows>{});
  outputs(std::integral_constant<int, 1>{}, std::integral_constant<int, 1>{});  // what is left
}

/// y = x W^T, of a depth that is a multiple of the vector width.
template <class T, class Element>
void project_whole_vectors(RowsView<const T> x, RowsView<const Element> weight, RowsView<T> y) {
  constexpr Index depth = projection_depth<T>;
  const auto for_parts = [&](const auto& f) {  // at least one: a product of no depth is zero
    Index k = 0;
    do {
      f(k, std::min(depth, x.cols - k));
      k += depth;
    } while (k < x.cols);
  };
  if (x.rows * x.cols * static_cast<Index>(sizeof(T)) <= kept_bytes) {
    constexpr Index outputs = 8;
    for (Index o = 0; o < y.cols; o += outputs) {
      const Index count = std::min(outputs, y.cols - o);
      const Index ahead = o + 2 * outputs <= y.cols ? outputs * weight.stride : 0;
      for_parts([&](Index k, Index width) {
        project_part<T, Element>(x.middle_cols(k, width),
                                 weight.middle_rows(o, count).middle_cols(k, width),
                                 y.middle_cols(o, count), PartOfDepthAhead{{k}, ahead});
      });
    }
    return;
  }
  constexpr Index stride = depth + row_padding;
  alignas(64) T packed[static_cast<std::size_t>(packed_rows * stride)];
  for_parts([&](Index k, Index width) {
    for (Index r = 0; r < x.rows;) {
      const Index count = even_part(x.rows - r, packed_rows);
      for (Index i = 0; i < count; ++i) std::copy_n(x.row(r + i) + k, width, packed + i * stride);
      project_part<T, Element>({packed, count, width, stride}, weight.middle_cols(k, width),
                               y.middle_rows(r, count), PartOfDepth{k});
      r += count;
    }
  });
}

/// The last numbers of a row, fewer than a vector, and zeros behind them. Tails are vectors, too:
/// products and sums of scalars a compiler may contract for one element and not for another.
template <class T, class Element>
Packet<T> load_rest(const Element* from, Index count) {
  T lane[lanes<T>] = {};
  for (Index i = 0; i < count; ++i) lane[i] = static_cast<T>(from[i]);
  return load(lane);
}

/// Up to so many rows of x are multiplied here, whatever the target; more of them by Eigen's
/// kernel, if the weight is of T, where it takes less time (docs/decisions.md): 16 registers are
/// few for a tile of dot products.
inline constexpr Index most_rows =
    num_registers >= 32 ? std::numeric_limits<Index>::max() : Index{64};

/// y = x W^T by the kernel that Eigen's operator* ends in, without its OpenMP threads, whose number
/// the bits would depend on, and without its expressions to compile.
template <class T>
void project_by_eigen(RowsView<const T> x, RowsView<const T> weight, RowsView<T> y) {
  namespace ei = Eigen::internal;
  for (Index r = 0; r < y.rows; ++r) std::fill_n(y.row(r), y.cols, T{0});
  // Seen by columns, as that kernel sees it: y^T [out, rows] = W x^T.
  ei::gemm_blocking_space<Eigen::ColMajor, T, T, Eigen::Dynamic, Eigen::Dynamic, Eigen::Dynamic, 1,
                          false>
      parts(y.cols, y.rows, x.cols, 1, true);
  ei::general_matrix_matrix_product<Index, T, Eigen::RowMajor, false, T, Eigen::ColMajor, false,
                                    Eigen::ColMajor, 1>::run(y.cols, y.rows, x.cols, weight.data,
                                                             weight.stride, x.data, x.stride,
                                                             y.data, 1, y.stride, T{1}, parts,
                                                             nullptr);
}

}  // namespace detail

/// y = x W^T or x W. \param x  [rows, in]; \param y  [rows, out], overwritten
/// \param weight  of T, or widened to it on the way
///
/// Up to detail::most_rows rows this allocates nothing, and the bits of a row of y depend on that
/// row of x alone: not on how many there are, nor on the outputs that are computed at a time.
/// Widths that are no multiple of the vector width are right, but their tails are slow. Takes up to
/// 84 KB of stack.
template <WeightLayout layout, class T, class Element>
void multiply(RowsView<const T> x, RowsView<const Element> weight, RowsView<T> y) {
  constexpr Index n = lanes<T>;
  if (y.rows == 0 || y.cols == 0) return;
  if constexpr (layout == WeightLayout::out_in) {
    if constexpr (num_registers < 32 && std::same_as<T, Element>)
      if (y.rows > detail::most_rows && x.cols > 0) return detail::project_by_eigen(x, weight, y);
    const Index whole = x.cols / n * n;
    detail::project_whole_vectors<T, Element>(x.middle_cols(0, whole), weight.middle_cols(0, whole),
                                              y);
    if (const Index rest = x.cols - whole; rest > 0)
      for (Index r = 0; r < y.rows; ++r) {
        const auto last = detail::load_rest<T>(x.row(r) + whole, rest);
        for (Index o = 0; o < y.cols; ++o)
          y(r, o) += sum_lanes(mul(last, detail::load_rest<T>(weight.row(o) + whole, rest)));
      }
  } else {
    const Index whole = y.cols / n * n;
    if (whole > 0)
      product<T, Element>(x, weight.middle_cols(0, whole), y.middle_cols(0, whole), nullptr);
    if (const Index rest = y.cols - whole; rest > 0)
      for (Index r = 0; r < y.rows; ++r) {
        auto sum = broadcast(T{0});
        for (Index k = 0; k < x.cols; ++k)
          sum = mul_add(broadcast(x(r, k)), detail::load_rest<T>(weight.row(k) + whole, rest), sum);
        T lane[n];
        store(lane, sum);
        std::copy_n(lane, rest, y.row(r) + whole);
      }
  }
}

}  // namespace heed::simd
