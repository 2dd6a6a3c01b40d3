// SPDX-License-Identifier: MIT
/// \file
/// How far attention over a cache is from attention over what was put into it.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "kv_quality/reference.hpp"

namespace heed::bench::quality {

struct Errors {
  double out = 0;         ///< RMS of out - exact, over RMS of exact
  double worst_row = 0;   ///< the largest such ratio of a row
  double score = 0;       ///< RMS of the visible scores' absolute error
  double divergence = 0;  ///< mean KL divergence of the rows' probabilities from the exact ones,
                          ///< nats
};

/// Gathers them head by head.
class ErrorSums {
 public:
  /// \param stored  attention over the keys and values that the cache gives back
  /// \param out     what attend made of the same cache
  void add(const HeadAttention& exact, const HeadAttention& stored, const MatrixD& out) {
    out_squares_ += (out - exact.out).squaredNorm();
    exact_squares_ += exact.out.squaredNorm();
    for (Index q_row = 0; q_row < exact.out.rows(); ++q_row) {
      const double norm = exact.out.row(q_row).norm();
      if (norm > 0)
        worst_row_ = std::max(worst_row_, (out.row(q_row) - exact.out.row(q_row)).norm() / norm);
      const Index visible = num_visible(exact, q_row);
      score_squares_ +=
          (stored.scores.row(q_row) - exact.scores.row(q_row)).head(visible).squaredNorm();
      num_scores_ += static_cast<double>(visible);
      divergence_ += divergence(exact, stored, q_row);
      ++num_rows_;
    }
  }

  Errors errors() const {
    return {.out = std::sqrt(out_squares_ / exact_squares_),
            .worst_row = worst_row_,
            .score = std::sqrt(score_squares_ / num_scores_),
            .divergence = divergence_ / static_cast<double>(num_rows_)};
  }

 private:
  /// By scores, since a probability may underflow: log p = score - lse. Rounding may bring it below
  /// 0, which it never is.
  static double divergence(const HeadAttention& exact, const HeadAttention& stored, Index q_row) {
    const Index visible = num_visible(exact, q_row);
    const auto a = exact.scores.row(q_row).head(visible).array();
    const auto b = stored.scores.row(q_row).head(visible).array();
    const auto lse = [](const auto& scores) {
      const double most = scores.maxCoeff();
      return most + std::log((scores - most).exp().sum());
    };
    const double difference =
        (exact.probs.row(q_row).head(visible).array() * (a - b)).sum() - lse(a) + lse(b);
    return std::max(difference, 0.0);
  }

  double out_squares_ = 0, exact_squares_ = 0, worst_row_ = 0;
  double score_squares_ = 0, num_scores_ = 0;
  double divergence_ = 0;
  Index num_rows_ = 0;
};

/// What numbers are rounded beside: whether an error in a column may be as large as its own numbers
/// make it, or as those of the whole row do. Codes have one unit for a row's probabilities times
/// its scales, and a rotation mixes columns.
enum class RoundedBeside { own_column, row };

/// The largest error of an element of attend's output against float64 attention over what the cache
/// gives back, as a part of what rounding in T may do: above 1, the kernel is wrong. A NaN counts
/// as infinite.
///
/// A score is a sum of head_dim products, whose magnitudes add up to at most |query| |key|, in
/// whatever basis the cache stores its keys; n roundings of random sign err by more than
/// 6 sqrt(n) u with a probability of 3e-8 n (Higham and Mary 2019, SIAM J. Sci. Comput. 41(5),
/// theorem 3.1). An error e of all scores changes a probability by a factor of up to 1 + 2 e. Sums
/// over seqlen terms and the exponential come on top.
///
/// \param factor_error  by how much of itself each number of a query, and each probability, is
///                      rounded before it is multiplied
template <class T>
double kernel_error(const MatrixD& query, const MatrixD& key, const MatrixD& value,
                    const HeadAttention& stored, const MatrixD& out, double softmax_scale,
                    double factor_error, RoundedBeside beside) {
  constexpr double roundoff = std::numeric_limits<T>::epsilon() / 2;
  const auto sum_error = [](Index terms) {
    const auto n = static_cast<double>(terms);
    return std::min(n, 6 * std::sqrt(n)) * roundoff;
  };
  MatrixD sizes = value.cwiseAbs();
  if (beside == RoundedBeside::row)
    // A rotated row's numbers are about as large as its root mean square, and their errors, of
    // random signs, come back in all columns.
    for (Index k = 0; k < sizes.rows(); ++k)
      sizes.row(k).setConstant(
          std::max(sizes.row(k).maxCoeff(),
                   6 * sizes.row(k).norm() / std::sqrt(static_cast<double>(sizes.cols()))));
  const MatrixD magnitudes = stored.probs * sizes;
  const double key_norm = key.rowwise().norm().maxCoeff();
  double worst = 0;
  for (Index q_row = 0; q_row < out.rows(); ++q_row) {
    const double score = softmax_scale * query.row(q_row).norm() * key_norm;
    const double score_error = (sum_error(key.cols()) + 5 * roundoff + factor_error) * score;
    const double relative =
        2 * score_error + 2 * sum_error(key.rows()) + 6 * roundoff + factor_error;
    for (Index c = 0; c < out.cols(); ++c) {
      const double error = std::abs(out(q_row, c) - stored.out(q_row, c));
      const double part = error == 0 ? 0 : error / (relative * magnitudes(q_row, c));
      worst = std::isnan(part) ? std::numeric_limits<double>::infinity() : std::max(worst, part);
    }
  }
  return worst;
}

}  // namespace heed::bench::quality
