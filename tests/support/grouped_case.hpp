// SPDX-License-Identifier: MIT
/// \file
/// Random layers of grouped-query attention, for the library and for the reference.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "heed/cache/kv_cache.hpp"                  // KvCache
#include "heed/layers/grouped_query_attention.hpp"  // GroupedShape, GroupedWeights
#include "reference/grouped_layer.hpp"              // GroupedLayer
#include "support/layer_case.hpp"                   // LinearCase, NormCase, expect_as_exact

namespace heed::test {

/// What a layer has.
struct GroupedFeatures {
  GroupedShape shape = {};
  std::optional<Index> memory_dim =
      {};  ///< width of what keys and values are made from; model_dim if unset
  std::optional<RmsNormGain> head_norms = {};
  std::optional<RopeOptions> rope = {};
  bool biases = false;
  bool sinks = false;

  std::string text() const {
    return "model_dim " + std::to_string(shape.model_dim) + ", num_heads " +
           std::to_string(shape.num_heads) + ", num_kv_heads " +
           std::to_string(shape.num_kv_heads) + ", head_dim " + std::to_string(shape.head_dim) +
           ", head_dim_v " + std::to_string(shape.head_dim_v) + (biases ? ", biases" : "") +
           (sinks ? ", sinks" : "") + (head_norms ? ", norms" : "") +
           (rope ? ", rope_dim " + std::to_string(rope->rope_dim) : "");
  }
};

/// A shape and any choice of features.
inline GroupedFeatures random_features(Random& random) {
  GroupedFeatures features;
  const Index num_kv_heads = random.integer(1, 3);
  features.shape = {.model_dim = random.integer(5, 40),
                    .num_heads = num_kv_heads * random.integer(1, 4),
                    .num_kv_heads = num_kv_heads,
                    .head_dim = random.integer(2, 24),
                    .head_dim_v = random.integer(1, 24)};
  features.biases = random.uniform() < 0.5;
  features.sinks = random.uniform() < 0.3;
  if (random.uniform() < 0.5)
    features.head_norms =
        random.uniform() < 0.5 ? RmsNormGain::weight : RmsNormGain::one_plus_weight;
  if (random.uniform() < 0.7)
    features.rope = {
        .rope_dim = 2 * random.integer(1, features.shape.head_dim / 2),
        .pairing = random.uniform() < 0.5 ? RopePairing::half_split : RopePairing::interleaved};
  return features;
}

template <class T>
class GroupedCase {
 public:
  GroupedCase(const GroupedFeatures& features, Random& random) : features_(features) {
    const auto& [model_dim, num_heads, num_kv_heads, head_dim, head_dim_v] = features.shape;
    const Index memory_dim = features.memory_dim.value_or(model_dim);
    query_ = {num_heads * head_dim, model_dim, features.biases, random};
    key_ = {num_kv_heads * head_dim, memory_dim, features.biases, random};
    value_ = {num_kv_heads * head_dim_v, memory_dim, features.biases, random};
    out_ = {model_dim, num_heads * head_dim_v, features.biases, random};
    if (features.head_norms) {
      query_norm_.emplace(head_dim, *features.head_norms, random);
      key_norm_.emplace(head_dim, *features.head_norms, random);
    }
    if (features.sinks) sinks_ = random.normals<T>(num_heads);
  }

  const GroupedShape& shape() const { return features_.shape; }
  GroupedWeights<T> weights() const {
    GroupedWeights<T> weights{query_.library(), key_.library(), value_.library(), out_.library()};
    if (query_norm_) weights.query_norm = query_norm_->library();
    if (key_norm_) weights.key_norm = key_norm_->library();
    weights.sinks = sinks_;
    return weights;
  }
  std::optional<Rope> rope() const {
    return features_.rope ? std::optional<Rope>(*features_.rope) : std::nullopt;
  }
  GroupedQueryAttention<T> layer() const { return {shape(), weights(), rope()}; }
  KvCache<FullKv<>, T> cache(Index capacity) const {
    return KvCache<FullKv<>, T>(capacity, kv_entry(shape()));
  }

  /// The same layer by plain loops in U.
  template <class U>
  reference::GroupedLayer<U> formula() const {
    reference::GroupedLayer<U> layer{.num_heads = shape().num_heads,
                                     .num_kv_heads = shape().num_kv_heads,
                                     .query = query_.template formula<U>(),
                                     .key = key_.template formula<U>(),
                                     .value = value_.template formula<U>(),
                                     .out = out_.template formula<U>(),
                                     .sinks = {sinks_.begin(), sinks_.end()}};
    if (query_norm_) layer.query_norm = query_norm_->template formula<U>();
    if (key_norm_) layer.key_norm = key_norm_->template formula<U>();
    if (features_.rope) layer.rope = rope_formula(*features_.rope);
    layer.score.scale = 1 / std::sqrt(static_cast<U>(shape().head_dim));
    return layer;
  }

  /// Holds `found` against the formula.
  /// \param memory  what keys and values come from
  /// \param change  makes of the formula's score what the pass was given
  template <class Change = Unchanged>
  void expect(const Matrix<T>& found, const Matrix<T>& x, const Matrix<T>& memory,
              const std::vector<Index>& positions, const reference::Visible& visible,
              const Change& change = {}) const {
    using E = Exact<T>;
    auto exact = formula<E>();
    auto plain = formula<T>();
    change(exact.score);
    change(plain.score);
    const auto wide = converted<E>(memory);
    expect_as_exact(found.data, plain(x, memory, memory, positions, visible).out.data,
                    exact(converted<E>(x), wide, wide, positions, visible).out.data,
                    grouped_stages);
  }

 private:
  GroupedFeatures features_;
  LinearCase<T> query_, key_, value_, out_;
  std::optional<NormCase<T>> query_norm_, key_norm_;
  std::vector<T> sinks_;
};

}  // namespace heed::test
