// SPDX-License-Identifier: MIT
/// \file
/// Why scores are scaled: for unit-normal queries and keys of width f their standard deviation is
/// sqrt(f), and without the scale the softmax goes to one-hot.
///
/// Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1 and footnote 4.

#include <algorithm>
#include <cmath>
#include <numbers>

#include <gtest/gtest.h>

#include "heed/attention/attend.hpp"
#include "support/attention_case.hpp"  // normal_inputs, attend_matrices

namespace heed {
namespace {

using test::AttentionShape;
using test::Random;

constexpr Index widths[] = {16, 64, 256, 1024};

/// The standard deviation of `num_scores` independent scores. With one key the log-sum-exp is the
/// score.
double standard_deviation(Index head_dim, double softmax_scale, Index num_scores) {
  Random random(static_cast<std::uint64_t>(head_dim));
  const auto inputs = test::normal_inputs<float>(
      {.num_heads = num_scores, .num_kv_heads = num_scores, .head_dim = head_dim, .head_dim_v = 1},
      random);
  const auto scores = test::attend_matrices(inputs, NoMask{}, softmax_scale).lse.data;
  double squares = 0;
  for (const float score : scores)
    squares += static_cast<double>(score) * static_cast<double>(score);
  return std::sqrt(squares / static_cast<double>(num_scores));  // the mean is 0
}

TEST(SoftmaxScale, UnscaledScoresHaveADeviationOfRootHeadDim) {
  constexpr Index num_scores = 4096;
  for (const Index head_dim : widths) {
    const auto f = static_cast<double>(head_dim);
    // The fourth moment of such a score is f^2 (3 + 6 / f), so this is the relative standard error
    // of the deviation measured; five of them.
    const double tolerance = 5 * std::sqrt((2 + 6 / f) / static_cast<double>(num_scores)) / 2;
    EXPECT_NEAR(standard_deviation(head_dim, 1, num_scores) / std::sqrt(f), 1, tolerance)
        << head_dim;
    EXPECT_NEAR(standard_deviation(head_dim, 1 / std::sqrt(f), num_scores), 1, tolerance)
        << head_dim;
  }
}

/// What the rows of probabilities look like, on average.
struct Rows {
  double largest = 0;
  double entropy = 0;
};

/// With the identity as values, the output is the probabilities.
Rows probabilities(Index head_dim, double softmax_scale, Index seqlen_kv) {
  const AttentionShape shape{.num_heads = 8,
                             .num_kv_heads = 8,
                             .seqlen_q = 32,
                             .seqlen_kv = seqlen_kv,
                             .head_dim = head_dim,
                             .head_dim_v = seqlen_kv};
  Random random(static_cast<std::uint64_t>(head_dim));
  auto inputs = test::normal_inputs<float>(shape, random);
  for (Index head = 0; head < 8; ++head)
    for (Index k = 0; k < seqlen_kv; ++k)
      for (Index c = 0; c < seqlen_kv; ++c) inputs.value(head, k, c) = k == c ? 1.0F : 0.0F;
  const auto probs = test::attend_matrices(inputs, NoMask{}, softmax_scale).out;
  Rows mean;
  for (Index head = 0; head < 8; ++head)
    for (Index q_row = 0; q_row < 32; ++q_row) {
      double largest = 0, entropy = 0;
      for (Index k = 0; k < seqlen_kv; ++k) {
        const auto prob = static_cast<double>(probs(head, q_row, k));
        largest = std::max(largest, prob);
        if (prob > 0) entropy -= prob * std::log(prob);
      }
      mean.largest += largest / (8 * 32);
      mean.entropy += entropy / (8 * 32);
    }
  return mean;
}

TEST(SoftmaxScale, WithoutItTheSoftmaxGoesToOneHot) {
  constexpr Index seqlen_kv = 64;
  Rows narrower{.largest = 0, .entropy = std::log(64.0)};
  for (const Index head_dim : widths) {
    const Rows unscaled = probabilities(head_dim, 1, seqlen_kv);
    EXPECT_GT(unscaled.largest, narrower.largest) << head_dim;
    EXPECT_LT(unscaled.entropy, narrower.entropy) << head_dim;
    narrower = unscaled;
  }
  // The largest of n normal scores leads the next by sqrt(f / (2 log n)) on average, exponentially
  // distributed. Two scores that far apart leave 1 / (1 + exp(lead)) to the second, log 2 / mean
  // lead on average, and an entropy of pi^2 / 6 / mean lead.
  const double mean_lead = std::sqrt(1024 / (2 * std::log(64.0)));
  EXPECT_LT(1 - narrower.largest, std::log(2.0) / mean_lead);
  EXPECT_LT(narrower.entropy, std::numbers::pi * std::numbers::pi / 6 / mean_lead);
}

TEST(SoftmaxScale, WithItTheSoftmaxIsTheSameAtAnyWidth) {
  constexpr Index seqlen_kv = 64;
  for (const Index head_dim : widths) {
    const Rows scaled =
        probabilities(head_dim, 1 / std::sqrt(static_cast<double>(head_dim)), seqlen_kv);
    // Of normal scores of variance 1 the probabilities are log-normal: their entropy is log(n) -
    // 1/2, but for terms of e / n = 0.04 and the scores of narrow heads, which are not quite
    // normal. The largest of 64 scores is 2.4 on average, whose share is exp(2.4 - 1/2) / 64 = 0.1;
    // not twice that.
    EXPECT_NEAR(scaled.entropy, std::log(64.0) - 0.5, 0.1) << head_dim;
    EXPECT_LT(scaled.largest, 0.2) << head_dim;
  }
}

}  // namespace
}  // namespace heed
