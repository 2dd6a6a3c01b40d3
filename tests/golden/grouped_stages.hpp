// SPDX-License-Identifier: MIT
/// \file
/// What a grouped layer computes on the way to its output, and how the naive layer computes it.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "golden/case.hpp"           // Case
#include "golden/comparison.hpp"     // Report
#include "golden/grouped_model.hpp"  // GroupedModel
#include "golden/policies.hpp"       // CasePolicies
#include "golden/rope.hpp"           // CaseRope
#include "golden/sequences.hpp"      // Sequences

namespace heed::golden {

inline bool is_cross(const Case& golden) {
  return golden.kind == Kind::mha &&
         !golden.metadata.choice<bool>("self_attention", {{"true", true}, {"false", false}});
}

/// What queries, keys and values are projected from.
template <class T>
struct GroupedInputs {
  Sequences<T> query, key, value;

  GroupedInputs(const Case& golden, const GroupedModel<T>& model) {
    const Index model_dim = model.shape().model_dim;
    if (is_cross(golden)) {
      query = {golden, "query", golden.seqlen_q, model_dim};
      key = {golden, "key", golden.seqlen_kv, model.parameters().key.weight.cols};
      value = {golden, "value", golden.seqlen_kv, model.parameters().value.weight.cols};
    } else {
      if (golden.seqlen_q != golden.seqlen_kv)
        throw NotUnderstood("q_len differs from kv_len in self-attention");
      query = key = value = {golden, "x", golden.seqlen_q, model_dim};
    }
  }
};

/// The naive layer, in T throughout.
template <class T>
struct NaiveGrouped {
  GroupedStages<T> stages;
  std::vector<T> out;  // [batch, seqlen_q, model_dim]

  NaiveGrouped(const Case& golden, const CasePolicies& policies,
               const std::optional<reference::Rope>& rope) {
    const GroupedModel<T> model(golden);
    const GroupedInputs<T> inputs(golden, model);
    reference::GroupedLayer<T> layer = model.naive(rope);
    for (Index s = 0; s < golden.batch; ++s) {
      layer.score = policies.score().naive<T>(s);
      const auto result =
          layer(inputs.query.matrix(s), inputs.key.matrix(s), inputs.value.matrix(s),
                golden.positions(s), policies.naive_mask(s));
      stages.append(result.query, result.key, result.value);
      out.insert(out.end(), result.out.data.begin(), result.out.data.end());
    }
  }
};

/// Holds stages against all that the file recorded of them. The file has no float32 run of the
/// stages; the naive layer's takes its place.
template <class T>
void compare_stages(const Case& golden, const CaseRope& rope, const GroupedStages<T>& ours,
                    const GroupedStages<float>& source, const std::string& how, Report& report) {
  constexpr Index stages = 3;  // projection, norm, RoPE
  const auto compare = [&](const std::string& name, const std::vector<T>& values,
                           const std::vector<float>& naive, Index heads, Index rows, Index width,
                           Index count) {
    if (!golden.has(name) || values.empty()) return;
    report.add(name + how, first_columns(values, width, count),
               golden.values<double>(name, {golden.batch, heads, rows, count}),
               first_columns(naive, width, count), stages, rope.angle_error);
  };
  const Index heads = golden.num_heads, kv_heads = golden.num_kv_heads;
  const Index dim = golden.head_dim, dim_v = golden.head_dim_v;
  const Index q = golden.seqlen_q, kv = golden.seqlen_kv;
  const Index rope_dim =
      golden.metadata.has("rope_dim") ? golden.metadata.integer("rope_dim") : dim;
  compare("q_rope", ours.query, source.query, heads, q, dim, dim);
  compare("q_rotated_part", ours.query, source.query, heads, q, dim, rope_dim);
  compare("k_rope", ours.key, source.key, kv_heads, kv, dim, dim);
  compare("k_rotated_part", ours.key, source.key, kv_heads, kv, dim, rope_dim);
  compare("cache_k", ours.key, source.key, kv_heads, kv, dim, dim);
  compare("v", ours.value, source.value, kv_heads, kv, dim_v, dim_v);
  compare("cache_v", ours.value, source.value, kv_heads, kv, dim_v, dim_v);
}

}  // namespace heed::golden
