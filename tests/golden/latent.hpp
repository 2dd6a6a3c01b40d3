// SPDX-License-Identifier: MIT
/// \file
/// Golden cases of multi-head latent attention.
#pragma once

#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "golden/case.hpp"           // Case
#include "golden/comparison.hpp"     // Report
#include "golden/latent_model.hpp"   // LatentModel
#include "golden/latent_stages.hpp"  // LatentStages, NaiveLatent
#include "golden/layer_runs.hpp"     // LayerRuns
#include "golden/policies.hpp"       // CasePolicies
#include "golden/recorded_out.hpp"   // RecordedOut
#include "golden/rope.hpp"           // CaseRope
#include "golden/sequences.hpp"      // Sequences

namespace heed::golden {

/// One case in the compute type T, by each path.
template <class T>
class Latent {
 public:
  Latent(const Case& golden, Report& report)
      : case_(golden), report_(report), policies_(golden, report), rope_(golden, report),
        model_(golden), x_(golden, "x", golden.seqlen_q, model_.shape().model_dim) {
    if (!rope_.recorded) throw NotUnderstood("latent attention without rope_layout");
    source_ = NaiveLatent<float>(golden, policies_, *rope_.recorded).stages;
  }

  void run() {
    const std::vector<double> naive = NaiveLatent<double>(case_, policies_, *rope_.recorded).out;
    const RecordedOut recorded(case_, policies_.mask(),
                               {case_.batch, case_.seqlen_q, model_.shape().model_dim}, naive);
    if constexpr (std::is_same_v<T, double>)
      recorded.compare(report_, "out, naive", naive, test::latent_stages);
    compare_stages(case_, model_.shape(), rope_, projected(), source_, "", report_);
    for (const auto& [path, name] :
         {std::pair{MlaPath::automatic, ", automatic"}, std::pair{MlaPath::absorbed, ", absorbed"},
          std::pair{MlaPath::expanded, ", expanded"}}) {
      model_.path = path;
      LayerRuns<T, LatentModel<T>>(case_, policies_, rope_, model_, x_)
          .all(
              [&](const std::string& how, const std::vector<T>& out) {
                recorded.compare(report_, "out" + (name + how), out, test::latent_stages);
              },
              [&](const std::string& how, const LatentStages<T>& held) {
                compare_stages(case_, model_.shape(), rope_, held, source_, name + how, report_);
              });
    }
  }

 private:
  /// heed's projections, normed and rotated.
  LatentStages<T> projected() const {
    LatentStages<T> stages;
    const auto layer = model_.layer(rope_.whole);
    for (Index s = 0; s < case_.batch; ++s) {
      reference::Matrix<T> query(case_.seqlen_q, layer.query_width());
      reference::Matrix<T> latent(case_.seqlen_q, layer.latent_width());
      const std::vector<Index> positions = told_positions(case_, s);
      layer.project_query(x_[s], view(query), RowPositions{positions});
      layer.project_latent(x_[s], view(latent), RowPositions{positions});
      LatentStages<T>::append(stages.query, reference::split(query, case_.num_heads).data);
      const LatentShape& shape = model_.shape();
      auto c_kv = reference::columns(latent, 0, shape.latent_dim);
      model_.expand(c_kv, reference::columns(latent, shape.latent_dim, shape.rope_dim), stages);
    }
    return stages;
  }

  const Case& case_;
  Report& report_;
  const CasePolicies policies_;
  const CaseRope rope_;
  LatentModel<T> model_;
  const Sequences<T> x_;
  LatentStages<float> source_;  // the naive layer's, in float32
};

}  // namespace heed::golden
