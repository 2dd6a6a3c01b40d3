// SPDX-License-Identifier: MIT
/// \file
/// The ways to run a self-attention layer of heed over a golden case. Each must give the same.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "golden/case.hpp"          // Case
#include "golden/policies.hpp"      // CasePolicies
#include "golden/rope.hpp"          // CaseRope
#include "golden/sequences.hpp"     // Sequences
#include "heed/layers/forward.hpp"  // BatchSequence

namespace heed::golden {

/// \tparam T      the compute type
/// \tparam Model  GroupedModel<T> or LatentModel<T>: makes layers, caches and options, and reads
///                caches back
template <class T, class Model>
class LayerRuns {
 public:
  using Cache = typename Model::Cache;
  using Stages = typename Model::Stages;
  using Scores = CaseScore::Policies<T>;

  LayerRuns(const Case& golden, const CasePolicies& policies, const CaseRope& rope,
            const Model& model, const Sequences<T>& x)
      : case_(golden), policies_(policies), rope_(rope), model_(model), x_(x) {}

  /// Without a cache.
  std::vector<T> uncached() const {
    Sequences<T> out = make_out();
    const auto layer = model_.layer(rope_.whole);
    for (Index s = 0; s < case_.batch; ++s) {
      const Scores scores(policies_.score(), s);
      const std::vector<Index> positions = told_positions(case_, s);
      policies_.with<T>(scores, s, policies_.whole(), [&](const auto& mask, const auto& score) {
        layer.forward(x_[s], mask, score, out[s], model_.options(positions));
      });
    }
    return out.data();
  }

  /// In chunks through a cache. \param held  takes what the caches hold in the end
  std::vector<T> cached(const std::vector<Index>& chunks, Stages& held) const {
    Sequences<T> out = make_out();
    const auto layer = model_.layer(chunks.size() == 1 ? rope_.whole : rope_.chunk);
    for (Index s = 0; s < case_.batch; ++s) {
      const Scores scores(policies_.score(), s);
      const std::vector<Index> positions = told_positions(case_, s);
      Cache cache = model_.make_cache(case_.seqlen_kv);
      Index begin = 0;
      for (const Index count : chunks) {
        policies_.with<T>(scores, s, {begin, count, begin + count},
                          [&](const auto& mask, const auto& score) {
                            layer.forward(x_[s].middle_rows(begin, count), cache, mask, score,
                                          out[s].middle_rows(begin, count),
                                          model_.options(chunk_of(positions, begin, count)));
                          });
        begin += count;
      }
      model_.read_back(cache, held);
    }
    return out.data();
  }

  /// All sequences in one pass, each with its own cache.
  std::vector<T> batched() const {
    Sequences<T> out = make_out();
    std::vector<Cache> caches;
    std::vector<Index> positions;
    for (Index s = 0; s < case_.batch; ++s) {
      caches.push_back(model_.make_cache(case_.seqlen_kv));
      const std::vector<Index> own = case_.positions(s);
      positions.insert(positions.end(), own.begin(), own.end());
    }
    std::vector<BatchSequence<Cache, AnyMask>> sequences;
    for (Index s = 0; s < case_.batch; ++s)
      sequences.push_back({case_.seqlen_q, &caches[static_cast<std::size_t>(s)],
                           policies_.mask().policy(s, 0, case_.seqlen_q, case_.seqlen_kv)});
    const Scores scores(policies_.score(), 0);
    model_.layer(rope_.chunk)
        .forward_batch(x_.all(), std::span<const BatchSequence<Cache, AnyMask>>(sequences),
                       scores.policy(0, case_.seqlen_q, case_.seqlen_kv), out.all(),
                       model_.options(positions));
    return out.data();
  }

  /// Every way that the case allows: calls compare(how, out), and compare_held(how, stages) for
  /// what the caches held.
  template <class Compare, class CompareHeld>
  void all(const Compare& compare, const CompareHeld& compare_held) const {
    compare("", uncached());
    const auto run_cached = [&](const std::string& how, const std::vector<Index>& chunks) {
      Stages held;
      compare(how, cached(chunks, held));
      compare_held(how, held);
    };
    run_cached(", cached", {case_.seqlen_q});
    if (case_.is_scheduled) run_cached(", scheduled", case_.schedule);
    if (policies_.mask().is_causal()) run_cached(", by token", token_by_token(case_));
    if (!policies_.score().varies_by_sequence()) compare(", batch", batched());
  }

 private:
  Sequences<T> make_out() const {
    return {case_.batch, case_.seqlen_q, case_.metadata.integer("hidden_size")};
  }

  const Case& case_;
  const CasePolicies& policies_;
  const CaseRope& rope_;
  const Model& model_;
  const Sequences<T>& x_;
};

}  // namespace heed::golden
