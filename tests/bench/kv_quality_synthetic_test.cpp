// SPDX-License-Identifier: MIT
/// \file
/// The drawn keys, values and queries are what their description says.

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "kv_quality/synthetic.hpp"

namespace heed::bench::quality {
namespace {

constexpr GroupedShape grouped{
    .model_dim = 0, .num_heads = 4, .num_kv_heads = 2, .head_dim = 64, .head_dim_v = 64};
constexpr LatentShape latent{.model_dim = 0,
                             .num_heads = 3,
                             .latent_dim = 48,
                             .rope_dim = 32,
                             .nope_dim = 0,
                             .head_dim_v = 0};
constexpr Sequence sequence{.seqlen = 512, .num_queries = 4};

/// The norms of the pairs of a key's last columns, which RoPE leaves as they are: RMS over tokens.
Eigen::ArrayXd pair_norms(const MatrixD& key, Index rope_dim) {
  const Index first = key.cols() - rope_dim, num_pairs = rope_dim / 2;
  const auto squares = key.array().square().colwise().mean();
  const Eigen::ArrayXd all = squares.transpose();
  return (all.segment(first, num_pairs) + all.segment(first + num_pairs, num_pairs)).sqrt();
}

void expect_outliers(const MatrixD& key, Index rope_dim) {
  Eigen::ArrayXd norms = pair_norms(key, rope_dim);
  std::sort(norms.begin(), norms.end());
  const Index num_pairs = rope_dim / 2;
  const Index num_outliers = (num_pairs + pairs_per_outlier - 1) / pairs_per_outlier;
  const double middle = norms[num_pairs / 2];
  EXPECT_GE(norms[num_pairs - num_outliers], 2.5 * middle);  // the least: 5 sqrt(2) against 1.6
  EXPECT_LE(norms[num_pairs - 1], 25 * middle);
  EXPECT_LE(norms[num_pairs - num_outliers - 1], 2.5 * middle);  // and no others
}

TEST(SyntheticKeys, HaveAFewOutlierPairs) {
  const Inputs inputs = synthetic_inputs(grouped, sequence, 5);
  for (Index kv_head = 0; kv_head < 2; ++kv_head) expect_outliers(inputs.key_of(kv_head), 64);
  expect_outliers(synthetic_inputs(latent, sequence, 5).key_of(0), 32);
}

TEST(SyntheticKeys, HaveOutliersInBothChannelsOfAPair) {
  Normal normal(1);
  const KeyChannels channels = key_channels(128, 128, normal);
  ASSERT_EQ(channels.outliers.size(), 8U);
  for (const Index c : channels.outliers) {
    EXPECT_TRUE(std::ranges::binary_search(channels.outliers, (c + 64) % 128));
    EXPECT_GE(std::abs(channels.offset[c]), least_outlier);
    EXPECT_LE(std::abs(channels.offset[c]), most_outlier);
  }
}

TEST(SyntheticKeys, OscillateAfterRope) {
  // The mean over many turns of a fast outlier is small beside its size; before RoPE it is not.
  const Inputs inputs = synthetic_inputs(grouped, sequence, 5);
  const MatrixD key = inputs.key_of(0);
  const Eigen::ArrayXd norms = pair_norms(key, 64);
  const auto mean = key.colwise().mean();
  for (Index pair = 0; pair < 8; ++pair)  // 10000^(-2 * 8 / 64) = 0.1: 8 turns in 512 tokens
    EXPECT_LE(std::hypot(mean[pair], mean[pair + 32]), 0.3 * norms[pair]) << pair;
}

TEST(SyntheticValues, HaveNoOutliers) {
  const Inputs inputs = synthetic_inputs(grouped, sequence, 5);
  for (Index kv_head = 0; kv_head < 2; ++kv_head) {
    const Eigen::ArrayXd deviations =
        inputs.value_of(kv_head).array().square().colwise().mean().sqrt().transpose();
    EXPECT_LE(deviations.maxCoeff(), 1.5 * deviations.minCoeff());
  }
}

TEST(SyntheticQueries, HaveTheEntropyAskedFor) {
  for (const AttentionShape& shape : {AttentionShape(grouped), AttentionShape(latent)})
    for (const double bits : {2.0, 4.0}) {
      const Inputs inputs = synthetic_inputs(shape, sequence, bits);
      const Sizes sizes = inputs.sizes();
      for (Index head = 0; head < sizes.num_heads; ++head) {
        const Index kv_head = head / sizes.group_size();
        const auto exact = attend_head(inputs.query_of(head), inputs.key_of(kv_head),
                                       inputs.value_of(kv_head), inputs.softmax_scale);
        for (Index q_row = 0; q_row < inputs.num_queries(); ++q_row)
          EXPECT_NEAR(entropy_bits(exact, q_row), bits, 1e-3);
      }
    }
}

TEST(SyntheticInputs, FollowTheSeed) {
  const Inputs one = synthetic_inputs(grouped, sequence, 5);
  const Inputs same = synthetic_inputs(grouped, sequence, 5);
  const Inputs other = synthetic_inputs(grouped, {.seqlen = 512, .num_queries = 4, .seed = 2}, 5);
  EXPECT_EQ(one.key, same.key);
  EXPECT_EQ(one.query, same.query);
  EXPECT_NE(one.key, other.key);
}

}  // namespace
}  // namespace heed::bench::quality
