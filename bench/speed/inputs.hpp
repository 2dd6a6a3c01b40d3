// SPDX-License-Identifier: MIT
/// \file
/// The numbers of a case, the same for every contender, and the float64 result that all must meet.
#pragma once

#include <memory>

#include "heed/base/views.hpp"
#include "shared/matrix.hpp"
#include "speed/case.hpp"
#include "speed/gradients.hpp"

namespace heed::bench {

/// rows x cols elements of mean 0 and variance 1, the same ones for the same seed.
Matrix random_matrix(Index rows, Index cols, unsigned seed);
/// A projection's weight, whose outputs have the variance of its inputs.
Matrix random_weight(Index out, Index in, unsigned seed);

/// Queries, keys and values of mean 0 and variance 1: rows are tokens, those of all sequences one
/// after another; heads lie side by side. For latents, `value` is a part of `key`.
struct Inputs {
  Matrix query, key, value;
  // Of Pass::backward alone:
  Matrix grad_out;  ///< [rows_q, num_heads * head_dim_v]
  std::shared_ptr<const ExactGradients> exact;

  explicit Inputs(const SpeedCase& c);
};

/// Largest difference between `out` [rows_q, num_heads * head_dim_v] and a float64 computation of
/// some of its rows, of every sequence among them, as a share of the row's largest element: with
/// many keys, results are small. NaN if an element is, or for another shape: compare
/// it as !(error <= limit).
double largest_error(const SpeedCase& c, const Inputs& inputs, const Matrix& out);

}  // namespace heed::bench
