// SPDX-License-Identifier: MIT
/// \file
/// Inputs and weights for the examples: the same numbers with every compiler and on every machine.
#pragma once

#include <cmath>
#include <random>

#include <heed/heed.hpp>

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// [rows, cols] with mean 0 and standard deviation 1. Each number is a sum of 12 uniform ones,
/// whose variance is 1/12; the standard library's own normal_distribution differs between
/// libraries.
inline Matrix normal_matrix(heed::Index rows, heed::Index cols, unsigned seed) {
  std::mt19937 engine(seed);
  return Matrix::NullaryExpr(rows, cols, [&] {
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += 0x1p-32 * static_cast<double>(engine());
    return static_cast<float>(sum);
  });
}

/// The weight of a projection, [out, in], that keeps the size of what goes through it.
inline Matrix weight_matrix(heed::Index out, heed::Index in, unsigned seed) {
  return normal_matrix(out, in, seed) / std::sqrt(static_cast<float>(in));
}

/// The largest difference between two matrices; NaN if there is one.
inline float distance(const Matrix& a, const Matrix& b) {
  return (a - b).cwiseAbs().maxCoeff<Eigen::PropagateNaN>();
}

inline const char* yes_or_no(bool answer) { return answer ? "yes" : "no"; }
