// SPDX-License-Identifier: MIT
/// \file
/// What the float64 results of whole layers are made of; shares nothing with heed.
#pragma once

#include <cmath>

#include "heed/rope/pairing.hpp"
#include "shared/attend_exactly.hpp"
#include "speed/inputs.hpp"

namespace heed::bench {

using DoubleMatrix = MatrixOf<double>;

/// x W^T
template <class W>
DoubleMatrix project_exactly(const Matrix& x, const MatrixOf<W>& weight) {
  return x.cast<double>() * weight.template cast<double>().transpose();
}

/// Turns columns begin .. begin + rope_dim of a row by its position.
inline void rotate_exactly(DoubleMatrix& rows, Index row, Index begin, Index rope_dim, double theta,
                           RopePairing pairing, Index position) {
  const Index half = rope_dim / 2;
  for (Index pair = 0; pair < half; ++pair) {
    const bool split = pairing == RopePairing::half_split;
    double& first = rows(row, begin + (split ? pair : 2 * pair));
    double& second = rows(row, begin + (split ? pair + half : 2 * pair + 1));
    const double exponent = -2.0 * static_cast<double>(pair) / static_cast<double>(rope_dim);
    const double angle = static_cast<double>(position) * std::pow(theta, exponent);
    const double turned = first * std::cos(angle) - second * std::sin(angle);
    second = first * std::sin(angle) + second * std::cos(angle);
    first = turned;
  }
}

/// The largest difference between some rows of a pass's result, the first and last among them, and
/// expected_row(row). NaN if there is one.
template <class ExpectedRow>
double largest_row_error(const Matrix& out, const ExpectedRow& expected_row) {
  double largest = 0;
  for (const Index row : {Index{0}, out.rows() / 2, out.rows() - 1}) {
    const DoubleMatrix difference = out.row(row).cast<double>() - expected_row(row);
    largest = larger_or_nan(largest, difference.cwiseAbs().maxCoeff<Eigen::PropagateNaN>());
  }
  return largest;
}

}  // namespace heed::bench
