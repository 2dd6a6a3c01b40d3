// SPDX-License-Identifier: MIT
/// \file
/// Golden cases of layers that cache keys and values: torch's MHA and the relatives of Llama.
#pragma once

#include <string>
#include <type_traits>
#include <vector>

#include "golden/case.hpp"            // Case
#include "golden/comparison.hpp"      // Report
#include "golden/grouped_model.hpp"   // GroupedModel
#include "golden/grouped_stages.hpp"  // GroupedStages, NaiveGrouped
#include "golden/layer_runs.hpp"      // LayerRuns
#include "golden/policies.hpp"        // CasePolicies
#include "golden/recorded_out.hpp"    // RecordedOut
#include "golden/rope.hpp"            // CaseRope
#include "golden/sequences.hpp"       // Sequences

namespace heed::golden {

/// One case in the compute type T.
template <class T>
class Grouped {
 public:
  Grouped(const Case& golden, Report& report)
      : case_(golden), report_(report), policies_(golden, report), rope_(golden, report),
        model_(golden), inputs_(golden, model_),
        source_(NaiveGrouped<float>(golden, policies_, rope_.recorded).stages) {}

  void run() {
    const std::vector<double> naive = NaiveGrouped<double>(case_, policies_, rope_.recorded).out;
    const RecordedOut recorded(case_, policies_.mask(),
                               {case_.batch, case_.seqlen_q, model_.shape().model_dim}, naive);
    const auto compare_out = [&](const std::string& how, const std::vector<T>& out) {
      recorded.compare(report_, "out" + how, out, test::grouped_stages);
    };
    const auto compare_held = [&](const std::string& how, const GroupedStages<T>& held) {
      compare_stages(case_, rope_, held, source_, how, report_);
    };
    if constexpr (std::is_same_v<T, double>) compare_out(", naive", naive);
    compare_held("", projected());
    if (is_cross(case_)) {
      compare_out("", cross());
      compare_out(", cached memory", cross_cached());
    } else {
      LayerRuns<T, GroupedModel<T>>(case_, policies_, rope_, model_, inputs_.query)
          .all(compare_out, compare_held);
    }
  }

 private:
  /// heed's projections, normed and rotated.
  GroupedStages<T> projected() const {
    GroupedStages<T> stages;
    const auto layer = model_.layer(rope_.whole);
    for (Index s = 0; s < case_.batch; ++s) {
      reference::Matrix<T> query(case_.seqlen_q, layer.query_width());
      reference::Matrix<T> key(case_.seqlen_kv, layer.key_width());
      reference::Matrix<T> value(case_.seqlen_kv, layer.value_width());
      const std::vector<Index> positions = told_positions(case_, s);
      layer.project_query(inputs_.query[s], view(query), RowPositions{positions});
      layer.project_key_value(inputs_.key[s], inputs_.value[s], view(key), view(value),
                              RowPositions{positions});
      stages.append(reference::split(query, case_.num_heads),
                    reference::split(key, case_.num_kv_heads),
                    reference::split(value, case_.num_kv_heads));
    }
    return stages;
  }

  /// Cross-attention to a second input.
  std::vector<T> cross() const {
    return for_each_sequence(
        [&](Index s, const auto& layer, const auto& mask, const auto& score, RowsView<T> out) {
          layer.forward_cross(inputs_.query[s], inputs_.key[s], inputs_.value[s], mask, score, out);
        });
  }
  /// The same with the second input's keys and values in a cache.
  std::vector<T> cross_cached() const {
    return for_each_sequence(
        [&](Index s, const auto& layer, const auto& mask, const auto& score, RowsView<T> out) {
          auto memory = model_.make_cache(case_.seqlen_kv);
          layer.append_memory(inputs_.key[s], inputs_.value[s], memory);
          layer.forward_cross(inputs_.query[s], memory, mask, score, out);
        });
  }

  template <class Pass>
  std::vector<T> for_each_sequence(const Pass& pass) const {
    Sequences<T> out(case_.batch, case_.seqlen_q, model_.shape().model_dim);
    const auto layer = model_.layer(rope_.whole);
    for (Index s = 0; s < case_.batch; ++s) {
      const CaseScore::Policies<T> scores(policies_.score(), s);
      policies_.with<T>(scores, s, policies_.whole(), [&](const auto& mask, const auto& score) {
        pass(s, layer, mask, score, out[s]);
      });
    }
    return out.data();
  }

  const Case& case_;
  Report& report_;
  const CasePolicies policies_;
  const CaseRope rope_;
  const GroupedModel<T> model_;
  const GroupedInputs<T> inputs_;
  const GroupedStages<float> source_;  // the naive layer's, in float32
};

}  // namespace heed::golden
