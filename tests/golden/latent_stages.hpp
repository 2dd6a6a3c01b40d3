// SPDX-License-Identifier: MIT
/// \file
/// The naive latent layer over a golden case, and its stages against the recorded ones.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "golden/case.hpp"          // Case
#include "golden/comparison.hpp"    // Report
#include "golden/latent_model.hpp"  // LatentModel, LatentStages
#include "golden/policies.hpp"      // CasePolicies
#include "golden/rope.hpp"          // CaseRope
#include "golden/sequences.hpp"     // Sequences

namespace heed::golden {

/// The naive layer, in T throughout.
template <class T>
struct NaiveLatent {
  LatentStages<T> stages;
  std::vector<T> out;  // [batch, seqlen, model_dim]

  NaiveLatent(const Case& golden, const CasePolicies& policies, const reference::Rope& rope) {
    const LatentModel<T> model(golden);
    const Sequences<T> x(golden, "x", golden.seqlen_q, model.shape().model_dim);
    reference::LatentLayer<T> layer = model.naive(rope);
    for (Index s = 0; s < golden.batch; ++s) {
      layer.score = policies.score().naive<T>(s);
      const auto result = layer(x.matrix(s), golden.positions(s), policies.naive_mask(s));
      LatentStages<T>::append(stages.c_kv, result.c_kv.data);
      LatentStages<T>::append(stages.k_rope, result.k_rope.data);
      LatentStages<T>::append(stages.query, result.query.data);
      LatentStages<T>::append(stages.key, result.key.data);
      LatentStages<T>::append(stages.value, result.value.data);
      out.insert(out.end(), result.out.data.begin(), result.out.data.end());
    }
  }
};

/// How a source orders what it made of interleaved pairs.
enum class RopeOutput { in_place, evens_then_odds };

inline RopeOutput rope_output(const Case& golden) {
  if (!golden.metadata.has("rope_output_order")) return RopeOutput::in_place;
  return golden.metadata.sentence<RopeOutput>(
      "rope_output_order", {{"de-interleaved as [all even | all odd]", RopeOutput::evens_then_odds},
                            {"complex pairs stay interleaved", RopeOutput::in_place},
                            {"half split in and out", RopeOutput::in_place}});
}

/// Rows of `width` columns of which the last `rope_dim` were rotated in place, as the source orders
/// them.
template <class T>
std::vector<T> in_source_order(const Case& golden, std::vector<T> rows, Index width,
                               Index rope_dim) {
  if (rope_output(golden) == RopeOutput::in_place) return rows;
  std::vector<T> rotated(static_cast<std::size_t>(rope_dim));
  for (auto row = rows.begin(); row != rows.end(); row += width) {
    const auto rope = row + (width - rope_dim);
    std::copy(rope, rope + rope_dim, rotated.begin());
    for (Index pair = 0; pair < rope_dim / 2; ++pair) {
      rope[pair] = rotated[static_cast<std::size_t>(2 * pair)];
      rope[pair + rope_dim / 2] = rotated[static_cast<std::size_t>(2 * pair + 1)];
    }
  }
  return rows;
}

/// [batch, heads, seqlen, dim] to [batch, seqlen, heads, dim].
template <class T>
std::vector<T> token_major(const Case& golden, const std::vector<T>& heads, Index dim) {
  std::vector<T> tokens;
  if (heads.empty()) return tokens;
  for (Index s = 0; s < golden.batch; ++s)
    for (Index token = 0; token < golden.seqlen_q; ++token)
      for (Index head = 0; head < golden.num_heads; ++head) {
        const Index row = (s * golden.num_heads + head) * golden.seqlen_q + token;
        tokens.insert(tokens.end(), heads.begin() + row * dim, heads.begin() + (row + 1) * dim);
      }
  return tokens;
}

/// The last `count` of every `width` columns.
template <class T>
std::vector<T> last_columns(const std::vector<T>& rows, Index width, Index count) {
  std::vector<T> columns;
  for (auto row = rows.begin(); row != rows.end(); row += width)
    columns.insert(columns.end(), row + (width - count), row + width);
  return columns;
}

/// Holds stages against all that the file recorded of them. The file has no float32 run of the
/// stages; the naive layer's takes its place.
template <class T>
void compare_stages(const Case& golden, const LatentShape& shape, const CaseRope& angles,
                    const LatentStages<T>& ours, const LatentStages<float>& source,
                    const std::string& how, Report& report) {
  constexpr Index stages = 6;  // down, norm, up, for queries and keys; RoPE
  const Index batch = golden.batch, heads = golden.num_heads, tokens = golden.seqlen_q;
  const Index latent = shape.latent_dim, rope = shape.rope_dim, dim = golden.head_dim,
              dim_v = golden.head_dim_v;
  // transform(stages) gives the values in the order of the tensor.
  const auto compare = [&](const std::string& name, const std::vector<Index>& expected,
                           auto transform) {
    if (!golden.has(name)) return;
    const std::vector<T> values = transform(ours);
    if (values.empty()) return;
    report.add(name + how, values, golden.values<double>(name, expected), transform(source), stages,
               angles.angle_error);
  };
  const auto rotated = [&](const auto& rows, Index width) {
    return in_source_order(golden, rows, width, rope);
  };

  for (const char* name : {"c_kv", "kv_cache"})
    compare(name, {batch, tokens, latent}, [](const auto& s) { return s.c_kv; });
  const bool has_head_axis = golden.has("k_pe") && golden.tensor("k_pe").shape.size() == 4;
  const std::vector<Index> rows{batch, tokens, rope}, rows_of_one_head{batch, 1, tokens, rope};
  compare("k_pe", has_head_axis ? rows_of_one_head : rows,
          [&](const auto& s) { return rotated(s.k_rope, rope); });
  compare("pe_cache", rows, [&](const auto& s) { return rotated(s.k_rope, rope); });
  compare("q_full", {batch, heads, tokens, dim},
          [&](const auto& s) { return rotated(s.query, dim); });
  for (const char* name : {"k_full", "cache_k"})
    compare(name, {batch, heads, tokens, dim}, [&](const auto& s) { return rotated(s.key, dim); });
  for (const char* name : {"v", "cache_v"})
    compare(name, {batch, heads, tokens, dim_v}, [](const auto& s) { return s.value; });
  // DeepSeek's own program puts the tokens before the heads.
  compare("q_pe", {batch, tokens, heads, rope}, [&](const auto& s) {
    return token_major(golden, last_columns(rotated(s.query, dim), dim, rope), rope);
  });
  compare("k_cache", {batch, tokens, heads, dim},
          [&](const auto& s) { return token_major(golden, rotated(s.key, dim), dim); });
  compare("v_cache", {batch, tokens, heads, dim_v},
          [&](const auto& s) { return token_major(golden, s.value, dim_v); });
}

}  // namespace heed::golden
