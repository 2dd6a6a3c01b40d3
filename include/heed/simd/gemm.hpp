// SPDX-License-Identifier: MIT
/// \file
/// Eigen's matrix product on the calling thread alone. Layer 1, detail.
#pragma once

#include <algorithm>

#include <Eigen/Core>

#include "heed/base/views.hpp"

namespace heed::simd {

/// How the weight of a product lies.
enum class WeightLayout {
  out_in,  ///< [out, in], as checkpoints store projections: y = x W^T
  in_out,  ///< [in, out]: y = x W
};

/// y = x W^T or x W. \param x  [rows, in]; \param y  [rows, out], overwritten
///
/// What Eigen's operator* does, without its own OpenMP threads and its expressions to compile: who
/// runs the tasks is the executor's business, and Eigen's split would make the bits depend on the
/// number of threads. A single row takes another kernel than several do, and may be rounded
/// differently. EIGEN_USE_BLAS works as usual.
template <WeightLayout layout, class T>
void multiply(RowsView<const T> x, RowsView<const T> weight, RowsView<T> y) {
  namespace ei = Eigen::internal;
  constexpr auto order = layout == WeightLayout::out_in ? Eigen::RowMajor : Eigen::ColMajor;
  for (Index r = 0; r < y.rows; ++r) std::fill_n(y.row(r), y.cols, T{0});
  if (y.rows == 0 || y.cols == 0 || x.cols == 0) return;
  if (y.rows == 1) {
    // The order of the vector is the one that Eigen, and a BLAS in its place, specialise for.
    constexpr auto other = layout == WeightLayout::out_in ? Eigen::ColMajor : Eigen::RowMajor;
    using Weights = ei::const_blas_data_mapper<T, Index, order>;
    using Column = ei::const_blas_data_mapper<T, Index, other>;
    ei::general_matrix_vector_product<Index, T, Weights, order, false, T, Column, false>::run(
        y.cols, x.cols, Weights(weight.data, weight.stride), Column(x.data, 1), y.data, 1, T{1});
    return;
  }
  // Seen by columns, as Eigen's kernel sees it: y^T [out, rows] = W x^T.
  ei::gemm_blocking_space<Eigen::ColMajor, T, T, Eigen::Dynamic, Eigen::Dynamic, Eigen::Dynamic, 1,
                          false>
      blocking(y.cols, y.rows, x.cols, 1, true);
  ei::general_matrix_matrix_product<Index, T, order, false, T, Eigen::ColMajor, false,
                                    Eigen::ColMajor, 1>::run(y.cols, y.rows, x.cols, weight.data,
                                                             weight.stride, x.data, x.stride,
                                                             y.data, 1, y.stride, T{1}, blocking,
                                                             nullptr);
}

}  // namespace heed::simd
