// SPDX-License-Identifier: MIT
/// \file
/// Random layers of multi-head latent attention, for the library and for the reference.
#pragma once

#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "heed/layers/multi_head_latent_attention.hpp"  // LatentShape, LatentWeights
#include "reference/latent_layer.hpp"                   // LatentLayer
#include "support/layer_case.hpp"                       // LinearCase, NormCase, expect_as_exact

namespace heed::test {

/// What a layer has. The latent is always normed; RoPE turns all of rope_dim.
struct LatentFeatures {
  LatentShape shape = {};
  RopePairing pairing = RopePairing::interleaved;
  bool biases = false;
  bool query_norm = false;  ///< of a query latent

  std::string text() const {
    return "model_dim " + std::to_string(shape.model_dim) + ", num_heads " +
           std::to_string(shape.num_heads) + ", latent_dim " + std::to_string(shape.latent_dim) +
           ", rope_dim " + std::to_string(shape.rope_dim) + ", nope_dim " +
           std::to_string(shape.nope_dim) + ", head_dim_v " + std::to_string(shape.head_dim_v) +
           ", query_latent_dim " + std::to_string(shape.query_latent_dim) +
           (biases ? ", biases" : "") + (query_norm ? ", query_norm" : "");
  }
};

/// A shape and any choice of features.
inline LatentFeatures random_features_of_latents(Random& random) {
  LatentFeatures features;
  features.shape = {
      .model_dim = random.integer(5, 40),
      .num_heads = random.integer(1, 6),
      .latent_dim = random.integer(1, 40),
      .rope_dim = 2 * random.integer(0, 6),
      .nope_dim = random.integer(0, 20),
      .head_dim_v = random.integer(1, 20),
      .query_latent_dim = random.uniform() < 0.5 ? no_query_latent : random.integer(1, 30)};
  if (features.shape.head_dim() == 0) features.shape.nope_dim = 3;
  features.pairing = random.uniform() < 0.5 ? RopePairing::half_split : RopePairing::interleaved;
  features.biases = random.uniform() < 0.3;
  features.query_norm = random.uniform() < 0.7;
  return features;
}

template <class T>
class LatentCase {
 public:
  LatentCase(const LatentFeatures& features, Random& random)
      : features_(features), kv_norm_(features.shape.latent_dim, RmsNormGain::weight, random) {
    const auto& [model_dim, num_heads, latent_dim, rope_dim, nope_dim, head_dim_v,
                 query_latent_dim] = shape();
    Index query_in = model_dim;
    if (query_latent_dim != no_query_latent) {
      query_down_.emplace(query_latent_dim, model_dim, features.biases, random);
      if (features.query_norm) query_norm_.emplace(query_latent_dim, RmsNormGain::weight, random);
      query_in = query_latent_dim;
    }
    query_up_ = {num_heads * (nope_dim + rope_dim), query_in, features.biases, random};
    kv_down_ = {latent_dim + rope_dim, model_dim, features.biases, random};
    kv_up_ = {num_heads * (nope_dim + head_dim_v), latent_dim, false, random};
    out_ = {model_dim, num_heads * head_dim_v, features.biases, random};
  }

  const LatentShape& shape() const { return features_.shape; }
  LatentWeights<T> weights() const {
    LatentWeights<T> weights{.query = query_up_.library(),
                             .kv_down = kv_down_.library(),
                             .kv_norm = kv_norm_.library(),
                             .kv_up = kv_up_.library(),
                             .out = out_.library()};
    if (query_down_) {
      LatentQuery<T> query{.down = query_down_->library(), .up = query_up_.library()};
      if (query_norm_) query.norm = query_norm_->library();
      weights.query = query;
    }
    return weights;
  }
  std::optional<Rope> rope() const {
    return shape().rope_dim > 0 ? std::optional<Rope>(rope_options()) : std::nullopt;
  }
  MultiHeadLatentAttention<T> layer() const { return {shape(), weights(), rope()}; }
  KvCache<LatentKv<>, T> cache(Index capacity) const {
    return KvCache<LatentKv<>, T>(capacity, kv_entry(shape()));
  }

  /// The same layer by plain loops in U, with keys and values expanded.
  template <class U>
  reference::LatentLayer<U> formula() const {
    reference::LatentLayer<U> layer{.num_heads = shape().num_heads,
                                    .latent_dim = shape().latent_dim,
                                    .rope_dim = shape().rope_dim,
                                    .nope_dim = shape().nope_dim,
                                    .head_dim_v = shape().head_dim_v,
                                    .query_up = query_up_.template formula<U>(),
                                    .kv_down = kv_down_.template formula<U>(),
                                    .kv_norm = kv_norm_.template formula<U>(),
                                    .kv_up = kv_up_.template formula<U>(),
                                    .out = out_.template formula<U>(),
                                    .rope = rope_formula(rope_options())};
    if (query_down_) layer.query_down = query_down_->template formula<U>();
    if (query_norm_) layer.query_norm = query_norm_->template formula<U>();
    layer.score.scale = 1 / std::sqrt(static_cast<U>(shape().head_dim()));
    return layer;
  }

  /// Holds `found` against the formula.
  /// \param change  makes of the formula's score what the pass was given
  template <class Change = Unchanged>
  void expect(const Matrix<T>& found, const Matrix<T>& x, const std::vector<Index>& positions,
              const reference::Visible& visible, const Change& change = {}) const {
    using E = Exact<T>;
    auto exact = formula<E>();
    auto plain = formula<T>();
    change(exact.score);
    change(plain.score);
    expect_as_exact(found.data, plain(x, positions, visible).out.data,
                    exact(converted<E>(x), positions, visible).out.data, latent_stages);
  }

 private:
  RopeOptions rope_options() const {
    return {.rope_dim = shape().rope_dim, .pairing = features_.pairing};
  }

  LatentFeatures features_;
  std::optional<LinearCase<T>> query_down_;
  std::optional<NormCase<T>> query_norm_;
  LinearCase<T> query_up_, kv_down_, kv_up_, out_;
  NormCase<T> kv_norm_;
};

inline constexpr MlaPath all_paths[] = {MlaPath::automatic, MlaPath::absorbed, MlaPath::expanded};

}  // namespace heed::test
