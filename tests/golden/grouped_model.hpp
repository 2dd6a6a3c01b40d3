// SPDX-License-Identifier: MIT
/// \file
/// From a golden file with separate keys and values to heed's layer and to the naive one.
#pragma once

#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "golden/case.hpp"                          // Case
#include "golden/weights.hpp"                       // GroupedParameters
#include "heed/cache/kv_cache.hpp"                  // KvCache, FullKv
#include "heed/layers/grouped_query_attention.hpp"  // GroupedQueryAttention
#include "reference/grouped_layer.hpp"              // reference::GroupedLayer

namespace heed::golden {

/// After norm and RoPE: [batch, heads, seqlen, dim]. One that a run does not give is empty.
template <class T>
struct GroupedStages {
  std::vector<T> query, key, value;

  /// Adds one sequence.
  void append(const reference::Heads<T>& q, const reference::Heads<T>& k,
              const reference::Heads<T>& v) {
    query.insert(query.end(), q.data.begin(), q.data.end());
    key.insert(key.end(), k.data.begin(), k.data.end());
    value.insert(value.end(), v.data.begin(), v.data.end());
  }
};

/// What the weights of a golden layer and its metadata make, in the compute type T: heed's layer
/// and the naive one, which share the memory of the weights.
template <class T>
class GroupedModel {
 public:
  using Cache = KvCache<FullKv<>, T>;
  using Stages = GroupedStages<T>;

  explicit GroupedModel(const Case& golden)
      : parameters_(golden.kind == Kind::mha
                        ? read_mha<T>(golden, WeightReader(golden))
                        : read_self_attention<T>(golden, WeightReader(golden))),
        shape_{.model_dim = golden.metadata.integer("hidden_size"),
               .num_heads = golden.num_heads,
               .num_kv_heads = golden.num_kv_heads,
               .head_dim = golden.head_dim,
               .head_dim_v = golden.head_dim_v} {
    if (parameters_.query_gain.empty()) return;
    epsilon_ = static_cast<T>(golden.metadata.real("rms_norm_eps"));
    gain_ = golden.metadata.sentence<RmsNormGain>(
        "qk_norm", {{"rmsnorm over head_dim, multiply by (1+w)", RmsNormGain::one_plus_weight},
                    {"rmsnorm over head_dim, multiply by w", RmsNormGain::weight}});
  }

  GroupedQueryAttention<T> layer(std::optional<Rope> rope) const {
    GroupedWeights<T> weights{.query = linear_view(parameters_.query),
                              .key = linear_view(parameters_.key),
                              .value = linear_view(parameters_.value),
                              .out = linear_view(parameters_.out),
                              .sinks = parameters_.sinks};
    if (!parameters_.query_gain.empty()) {
      weights.query_norm = RmsNorm<T>{parameters_.query_gain, epsilon_, gain_};
      weights.key_norm = RmsNorm<T>{parameters_.key_gain, epsilon_, gain_};
    }
    return {shape_, weights, std::move(rope)};
  }

  reference::GroupedLayer<T> naive(std::optional<reference::Rope> rope) const {
    reference::GroupedLayer<T> layer{.num_heads = shape_.num_heads,
                                     .num_kv_heads = shape_.num_kv_heads,
                                     .query = parameters_.query,
                                     .key = parameters_.key,
                                     .value = parameters_.value,
                                     .out = parameters_.out,
                                     .rope = std::move(rope),
                                     .sinks = parameters_.sinks};
    if (!parameters_.query_gain.empty()) {
      layer.query_norm = reference::RmsNorm<T>{factors(parameters_.query_gain), epsilon_};
      layer.key_norm = reference::RmsNorm<T>{factors(parameters_.key_gain), epsilon_};
    }
    return layer;
  }

  Cache make_cache(Index capacity) const { return Cache(capacity, kv_entry(shape_)); }
  ForwardOptions options(std::span<const Index> positions) const {
    return {.positions = positions};
  }

  /// Adds what a cache holds.
  void read_back(const Cache& cache, Stages& into) const {
    reference::Heads<T> keys(shape_.num_kv_heads, cache.seqlen(), shape_.head_dim);
    reference::Heads<T> values(shape_.num_kv_heads, cache.seqlen(), shape_.head_dim_v);
    for (Index head = 0; head < shape_.num_kv_heads; ++head) {
      cache.read_key(head, RowsView<T>(&keys(head, 0, 0), keys.rows, keys.cols));
      cache.read_value(head, RowsView<T>(&values(head, 0, 0), values.rows, values.cols));
    }
    into.append({}, keys, values);
  }

  const GroupedShape& shape() const { return shape_; }
  const GroupedParameters<T>& parameters() const { return parameters_; }

 private:
  std::vector<T> factors(std::vector<T> gain) const {
    if (gain_ == RmsNormGain::one_plus_weight)
      for (T& factor : gain) factor += 1;
    return gain;
  }

  GroupedParameters<T> parameters_;
  GroupedShape shape_;
  T epsilon_ = 0;
  RmsNormGain gain_ = RmsNormGain::weight;
};

}  // namespace heed::golden
