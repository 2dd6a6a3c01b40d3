// SPDX-License-Identifier: MIT
/// \file
/// Eigen's matrix product on the calling thread alone. Layer 1, detail.
#pragma once

#include <algorithm>

#include <Eigen/Core>

#include "heed/base/views.hpp"
#include "heed/simd/packet.hpp"

namespace heed::simd {

/// How the weight of a product lies.
enum class WeightLayout {
  out_in,  ///< [out, in], as checkpoints store projections: y = x W^T
  in_out,  ///< [in, out]: y = x W
};

namespace detail {

/// So many rows are multiplied one by one. Eigen's kernel for several would copy the weight first,
/// and with 2 rows take 3 times as long, with 8 longer still.
inline constexpr Index few_rows = 8;
/// Of a weight that several rows pass by, to be found in the L2 cache by all but the first.
inline constexpr Index bytes_per_pass = Index{256} << 10;

/// A row's result does not depend on how many there are.
template <WeightLayout layout, class T>
void multiply_each_row(RowsView<const T> x, RowsView<const T> weight, RowsView<T> y) {
  namespace ei = Eigen::internal;
  // The order of the vector is the one that Eigen, and a BLAS in its place, specialise for.
  constexpr bool out_in = layout == WeightLayout::out_in;
  constexpr auto order = out_in ? Eigen::RowMajor : Eigen::ColMajor;
  constexpr auto other = out_in ? Eigen::ColMajor : Eigen::RowMajor;
  using Weights = ei::const_blas_data_mapper<T, Index, order>;
  using Column = ei::const_blas_data_mapper<T, Index, other>;
  // Outputs that Eigen's kernel sums at a time: parts of so many are summed as the whole is.
  constexpr Index together = out_in ? 8 : 8 * lanes<T>;
  const Index row_bytes = x.cols * static_cast<Index>(sizeof(T));
  const Index outputs =
      y.rows == 1 ? y.cols : round_up(ceil_div(bytes_per_pass, row_bytes), together);
  for (Index begin = 0; begin < y.cols; begin += outputs) {
    const Index count = std::min(outputs, y.cols - begin);
    const T* const part = weight.data + (out_in ? begin * weight.stride : begin);
    for (Index r = 0; r < y.rows; ++r)
      ei::general_matrix_vector_product<Index, T, Weights, order, false, T, Column, false>::run(
          count, x.cols, Weights(part, weight.stride), Column(x.row(r), 1), y.row(r) + begin, 1,
          T{1});
  }
}

/// So many rows, as of a batch that decodes, are multiplied without memory from malloc: Eigen's
/// kernel copies the operands in parts that fit on the stack.
inline constexpr Index most_copied_rows = 64;

template <class T>
struct CopiedParts : Eigen::internal::level3_blocking<T, T> {
  CopiedParts(Index outputs, Index rows, Index depth) {
    constexpr Index most_outputs = 256, most_bytes = Index{64} << 10;
    constexpr Index most_depth = most_bytes / (most_outputs * static_cast<Index>(sizeof(T)));
    this->m_mc = std::min(outputs, most_outputs), this->m_nc = rows;
    this->m_kc = std::min(depth, most_depth);
  }
};

}  // namespace detail

/// y = x W^T or x W. \param x  [rows, in]; \param y  [rows, out], overwritten
///
/// What Eigen's operator* does, without its own OpenMP threads and its expressions to compile: who
/// runs the tasks is the executor's business, and Eigen's split would make the bits depend on the
/// number of threads. Up to detail::few_rows rows take another kernel than more do, and may be
/// rounded differently. Up to detail::most_copied_rows, nothing is allocated. EIGEN_USE_BLAS works
/// as usual.
template <WeightLayout layout, class T>
void multiply(RowsView<const T> x, RowsView<const T> weight, RowsView<T> y) {
  namespace ei = Eigen::internal;
  constexpr auto order = layout == WeightLayout::out_in ? Eigen::RowMajor : Eigen::ColMajor;
  for (Index r = 0; r < y.rows; ++r) std::fill_n(y.row(r), y.cols, T{0});
  if (y.rows == 0 || y.cols == 0 || x.cols == 0) return;
  if (y.rows <= detail::few_rows) return detail::multiply_each_row<layout>(x, weight, y);
  // Seen by columns, as Eigen's kernel sees it: y^T [out, rows] = W x^T.
  const auto run = [&](auto&& parts) {
    ei::general_matrix_matrix_product<Index, T, order, false, T, Eigen::ColMajor, false,
                                      Eigen::ColMajor, 1>::run(y.cols, y.rows, x.cols, weight.data,
                                                               weight.stride, x.data, x.stride,
                                                               y.data, 1, y.stride, T{1}, parts,
                                                               nullptr);
  };
  if (y.rows <= detail::most_copied_rows)
    run(detail::CopiedParts<T>(y.cols, y.rows, x.cols));
  else
    run(ei::gemm_blocking_space<Eigen::ColMajor, T, T, Eigen::Dynamic, Eigen::Dynamic,
                                Eigen::Dynamic, 1, false>(y.cols, y.rows, x.cols, 1, true));
}

}  // namespace heed::simd
