// SPDX-License-Identifier: MIT
/// \file
/// The matrices of benchmarks: a row is a token.
#pragma once

#include <Eigen/Core>

namespace heed::bench {

template <class T>
using MatrixOf = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

}  // namespace heed::bench
