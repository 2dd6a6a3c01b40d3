// SPDX-License-Identifier: MIT
/// \file
/// From a golden file of multi-head latent attention to heed's layer and to the naive one.
#pragma once

#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "golden/case.hpp"                              // Case
#include "golden/sequences.hpp"                         // view
#include "golden/weights.hpp"                           // LatentParameters
#include "heed/cache/kv_cache.hpp"                      // KvCache, LatentKv
#include "heed/layers/multi_head_latent_attention.hpp"  // MultiHeadLatentAttention
#include "reference/latent_layer.hpp"                   // reference::LatentLayer

namespace heed::golden {

/// What a latent layer computes on the way. One that a run does not give is empty.
template <class T>
struct LatentStages {
  std::vector<T> c_kv;    // [batch, seqlen, latent], after the norm
  std::vector<T> k_rope;  // [batch, seqlen, rope], rotated
  std::vector<T> query;   // [batch, heads, seqlen, nope + rope], rotated
  std::vector<T> key;     // likewise
  std::vector<T> value;   // [batch, heads, seqlen, v]

  static void append(std::vector<T>& all, const std::vector<T>& sequence) {
    all.insert(all.end(), sequence.begin(), sequence.end());
  }
};

/// What the weights of a golden layer and its metadata make, in the compute type T: heed's layer
/// and the naive one, which share the memory of the weights.
template <class T>
class LatentModel {
 public:
  using Cache = KvCache<LatentKv<>, T>;
  using Stages = LatentStages<T>;

  MlaPath path = MlaPath::automatic;

  explicit LatentModel(const Case& golden)
      : parameters_(read_mla<T>(golden, WeightReader(golden))),
        epsilon_(static_cast<T>(golden.metadata.real("rms_norm_eps"))),
        shape_{.model_dim = golden.metadata.integer("hidden_size"),
               .num_heads = golden.num_heads,
               .latent_dim = golden.metadata.integer("kv_lora_rank"),
               .rope_dim = golden.metadata.integer("qk_rope_head_dim"),
               .nope_dim = golden.metadata.integer("qk_nope_head_dim"),
               .head_dim_v = golden.head_dim_v,
               .query_latent_dim = golden.metadata.integer("q_lora_rank")} {}

  MultiHeadLatentAttention<T> layer(std::optional<Rope> rope) const {
    LatentWeights<T> weights{.query = linear_view(parameters_.query_up),
                             .kv_down = linear_view(parameters_.kv_down),
                             .kv_norm = RmsNorm<T>{parameters_.kv_gain, epsilon_},
                             .kv_up = linear_view(parameters_.kv_up),
                             .out = linear_view(parameters_.out)};
    if (parameters_.query_down)
      weights.query = LatentQuery<T>{.down = linear_view(*parameters_.query_down),
                                     .norm = RmsNorm<T>{parameters_.query_gain, epsilon_},
                                     .up = linear_view(parameters_.query_up)};
    return {shape_, weights, std::move(rope)};
  }

  reference::LatentLayer<T> naive(reference::Rope rope) const {
    reference::LatentLayer<T> layer{.num_heads = shape_.num_heads,
                                    .latent_dim = shape_.latent_dim,
                                    .rope_dim = shape_.rope_dim,
                                    .nope_dim = shape_.nope_dim,
                                    .head_dim_v = shape_.head_dim_v,
                                    .query_down = parameters_.query_down,
                                    .query_up = parameters_.query_up,
                                    .kv_down = parameters_.kv_down,
                                    .kv_norm = {parameters_.kv_gain, epsilon_},
                                    .kv_up = parameters_.kv_up,
                                    .out = parameters_.out,
                                    .rope = std::move(rope)};
    if (parameters_.query_down)
      layer.query_norm = reference::RmsNorm<T>{parameters_.query_gain, epsilon_};
    return layer;
  }

  Cache make_cache(Index capacity) const { return Cache(capacity, kv_entry(shape_)); }
  LatentOptions options(std::span<const Index> positions) const {
    return {.positions = positions, .path = path};
  }

  /// Adds what a cache holds, and the keys and values that are made of it.
  void read_back(const Cache& cache, Stages& into) const {
    reference::Matrix<T> c_kv(cache.seqlen(), shape_.latent_dim),
        k_rope(cache.seqlen(), shape_.rope_dim);
    cache.read_latent(view(c_kv), view(k_rope));
    expand(c_kv, k_rope, into);
  }

  /// Adds a sequence's latents, and its keys and values: per head [nope | v] of the up-projection.
  void expand(reference::Matrix<T>& c_kv, const reference::Matrix<T>& k_rope, Stages& into) const {
    const Index width = shape_.nope_dim + shape_.head_dim_v;
    reference::Matrix<T> up(c_kv.rows, shape_.num_heads * width);
    linear_view(parameters_.kv_up).apply(view(c_kv), view(up));
    Stages::append(into.c_kv, c_kv.data);
    Stages::append(into.k_rope, k_rope.data);
    for (Index head = 0; head < shape_.num_heads; ++head)
      for (Index row = 0; row < c_kv.rows; ++row) {
        const T* const nope = &up(row, head * width);
        const T* const rope = k_rope.data.data() + row * shape_.rope_dim;
        into.key.insert(into.key.end(), nope, nope + shape_.nope_dim);
        into.key.insert(into.key.end(), rope, rope + shape_.rope_dim);
        into.value.insert(into.value.end(), nope + shape_.nope_dim, nope + width);
      }
  }

  const LatentShape& shape() const { return shape_; }
  const LatentParameters<T>& parameters() const { return parameters_; }

 private:
  LatentParameters<T> parameters_;
  T epsilon_;
  LatentShape shape_;
};

}  // namespace heed::golden
