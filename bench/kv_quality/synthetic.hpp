// SPDX-License-Identifier: MIT
/// \file
/// Keys, values and queries with the statistics of a trained model's.
///
/// Keys have a few channels per head that are far larger than the others, in the same places for
/// every token, and values have none: KIVI (Liu et al. 2024, arXiv:2402.02750, section 3.2 and
/// figure 2), KVQuant (Hooper et al. 2024, arXiv:2401.18079, section 3.1 and 3.2). That is before
/// RoPE; after it, the two channels of a pair mix by an angle that depends on the position, so that
/// in the cache an outlier oscillates along the tokens (KVQuant, section 3.2).
///
/// What these sources do not say is chosen here: how many outliers there are, that tokens are
/// independent of one another, and for latents, that they are normed, of mild variation by channel,
/// and that outliers are in the rotated part alone. Weights of a model (weights.hpp) say more.
#pragma once

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "heed/policy/score.hpp"
#include "heed/rope/rope.hpp"
#include "kv_quality/reference.hpp"

namespace heed::bench::quality {

struct Sequence {
  Index seqlen = 4096;
  Index num_queries = 16;  ///< the last tokens; at most seqlen
  double theta = 10'000;   ///< of RoPE
  unsigned seed = 1;
};

/// Normal numbers. The bits depend on the standard library, as its distributions do.
class Normal {
 public:
  explicit Normal(unsigned seed) : engine_(seed) {}

  double operator()() { return distribution_(engine_); }
  MatrixD matrix(Index rows, Index cols) {
    return MatrixD::NullaryExpr(rows, cols, [this] { return (*this)(); });
  }
  /// In [0, count).
  Index index(Index count) { return std::uniform_int_distribution<Index>(0, count - 1)(engine_); }
  double uniform(double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(engine_);
  }

 private:
  std::mt19937_64 engine_;
  std::normal_distribution<double> distribution_;
};

/// What the keys of one head are drawn from, before RoPE.
struct KeyChannels {
  Eigen::RowVectorXd offset, deviation;  ///< [head_dim]
  std::vector<Index> outliers;           ///< the channels that outweigh the others, ascending
};

/// Outlier channels have offsets of 5 to 20 deviations of the others, and a quarter of that as
/// their own deviation: they are large for every token, not now and then.
inline constexpr double least_outlier = 5, most_outlier = 20, outlier_deviation = 0.25;
/// One pair in so many: 4 of the 64 pairs of a head of 128.
inline constexpr Index pairs_per_outlier = 16;

/// \param rope_dim  the last columns, which are rotated, pairs in half-split layout; only they have
///                  outliers and offsets
inline KeyChannels key_channels(Index head_dim, Index rope_dim, Normal& normal) {
  const Index first = head_dim - rope_dim, num_pairs = rope_dim / 2;
  KeyChannels channels{Eigen::RowVectorXd::Zero(head_dim), Eigen::RowVectorXd(head_dim), {}};
  for (Index c = 0; c < head_dim; ++c) channels.deviation[c] = std::exp(0.2 * normal());
  for (Index c = first; c < head_dim; ++c) channels.offset[c] = 0.5 * normal();
  std::vector<Index> pairs;
  while (std::ssize(pairs) < ceil_div(num_pairs, pairs_per_outlier))
    if (const Index pair = normal.index(num_pairs);
        std::find(pairs.begin(), pairs.end(), pair) == pairs.end())
      pairs.push_back(pair);
  for (const Index pair : pairs) {
    const double size = std::exp(normal.uniform(std::log(least_outlier), std::log(most_outlier)));
    for (const Index c : {first + pair, first + pair + num_pairs}) {
      channels.offset[c] = normal() < 0 ? -size : size;
      channels.deviation[c] = outlier_deviation * size;
      channels.outliers.push_back(c);
    }
  }
  std::sort(channels.outliers.begin(), channels.outliers.end());
  return channels;
}

/// What makes the probabilities of `scores` have the entropy `bits`, by halving: the entropy falls
/// as the factor grows.
inline double factor_for_entropy(const Eigen::RowVectorXd& scores, double bits) {
  const Eigen::ArrayXd below = scores.transpose().array() - scores.maxCoeff();
  const auto entropy = [&](double factor) {
    const Eigen::ArrayXd weights = (factor * below).exp();
    const double sum = weights.sum();
    return (std::log(sum) - factor * (weights * below).sum() / sum) / std::log(2.0);
  };
  double low = 0, high = 1;
  while (entropy(high) > bits && high < 1e6) high *= 2;
  for (int step = 0; step < 30; ++step) {
    const double middle = (low + high) / 2;
    (entropy(middle) > bits ? low : high) = middle;
  }
  return (low + high) / 2;
}

namespace detail {

/// Queries of one head: partly the offsets of the keys, which then show as scores that oscillate
/// with the distance; noise; and what sets a few earlier tokens apart from the others, so that
/// there is something to find.
inline MatrixD draw_queries(const KeyChannels& channels, const MatrixD& unit_key, Index num_queries,
                            Normal& normal) {
  constexpr double offset_share = 0.2;
  constexpr int num_targets = 4;
  MatrixD query = normal.matrix(num_queries, unit_key.cols());
  for (Index q_row = 0; q_row < num_queries; ++q_row) {
    query.row(q_row) += offset_share * channels.offset;
    for (int target = 0; target < num_targets; ++target)
      query.row(q_row) += unit_key.row(normal.index(unit_key.rows() - num_queries + q_row + 1));
  }
  return query;
}

inline void rotate_last(MatrixD& rows, const Rope& rope, Index first_position) {
  const Index rope_dim = rope.options().rope_dim;
  rope.rotate(RowsView<double>(rows).middle_cols(rows.cols() - rope_dim, rope_dim), first_position);
}

/// Keys and queries of all heads of a key/value head.
inline void draw_group(Inputs& inputs, Index kv_head, const Rope& rope, double bits,
                       Normal& normal) {
  const auto [num_heads, num_kv_heads, head_dim, head_dim_v] = inputs.sizes();
  const Index seqlen = inputs.seqlen(), num_queries = inputs.num_queries();
  const auto channels = key_channels(head_dim, rope.options().rope_dim, normal);
  const MatrixD unit_key = normal.matrix(seqlen, head_dim);
  MatrixD key = unit_key * channels.deviation.asDiagonal();
  key.rowwise() += channels.offset;
  rotate_last(key, rope, 0);
  inputs.key.middleCols(kv_head * head_dim, head_dim) = key.cast<float>();
  const Index group_size = num_heads / num_kv_heads;
  for (Index head = kv_head * group_size; head < (kv_head + 1) * group_size; ++head) {
    MatrixD query = draw_queries(channels, unit_key, num_queries, normal);
    rotate_last(query, rope, seqlen - num_queries);
    const MatrixD scores = inputs.softmax_scale * query * key.transpose();
    for (Index q_row = 0; q_row < num_queries; ++q_row) {
      const Index visible = seqlen - num_queries + q_row + 1;
      const double most = std::log2(static_cast<double>(visible)) / 2;  // of a short sequence
      query.row(q_row) *= factor_for_entropy(scores.row(q_row).head(visible), std::min(bits, most));
    }
    inputs.query.middleCols(head * head_dim, head_dim) = query.cast<float>();
  }
}

/// Values vary from token to token as a whole, and have no outlier channels.
inline Matrix draw_values(Index seqlen, Index width, Normal& normal) {
  MatrixD value = normal.matrix(seqlen, width);
  for (Index token = 0; token < seqlen; ++token) value.row(token) *= std::exp(0.3 * normal());
  return value.cast<float>();
}

}  // namespace detail

/// \param bits  the entropy of each query's probabilities; half of the most there may be, where
///              that is less
inline Inputs synthetic_inputs(const AttentionShape& shape, const Sequence& sequence, double bits) {
  Normal normal(sequence.seed);
  Inputs inputs{.shape = shape, .query = {}, .key = {}, .value = {}, .text = "synthetic"};
  const auto [num_heads, num_kv_heads, head_dim, head_dim_v] = inputs.sizes();
  const auto* latent = std::get_if<LatentShape>(&shape);
  const Rope rope{
      {.rope_dim = latent != nullptr ? latent->rope_dim : head_dim, .theta = sequence.theta}};
  inputs.softmax_scale = default_softmax_scale(head_dim);
  inputs.query.resize(sequence.num_queries, num_heads * head_dim);
  inputs.key.resize(sequence.seqlen, num_kv_heads * head_dim);
  for (Index kv_head = 0; kv_head < num_kv_heads; ++kv_head)
    detail::draw_group(inputs, kv_head, rope, bits, normal);
  if (latent == nullptr)
    inputs.value = detail::draw_values(sequence.seqlen, num_kv_heads * head_dim_v, normal);
  return inputs;
}

}  // namespace heed::bench::quality
