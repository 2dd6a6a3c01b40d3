// SPDX-License-Identifier: MIT
/// \file
/// Gradients of golden layers that project keys and values: torch's MHA and the relatives of Llama.
#pragma once

#include <cstddef>
#include <vector>

#include "golden/case.hpp"            // Case
#include "golden/comparison.hpp"      // Report
#include "golden/gradients.hpp"       // RecordedGradients, TrainedLinear
#include "golden/grouped_model.hpp"   // GroupedModel
#include "golden/grouped_stages.hpp"  // GroupedInputs, is_cross
#include "golden/policies.hpp"        // CasePolicies
#include "golden/rope.hpp"            // CaseRope
#include "golden/sequences.hpp"       // Sequences
#include "golden/weights.hpp"         // WeightReader

namespace heed::golden {

/// One case in the compute type T: heed has no backward pass of a layer, so this one is made of
/// Eigen's products, Rope and attend_backward.
template <class T>
class GroupedGradients {
 public:
  GroupedGradients(const Case& golden, Report& report)
      : case_(golden), report_(report), policies_(golden, report), rope_(golden, report),
        model_(golden), inputs_(golden, model_), r_(golden, "r", golden.seqlen_q, model_dim()),
        query_(model_.parameters().query), key_(model_.parameters().key),
        value_(model_.parameters().value), out_(model_.parameters().out),
        grad_query_(golden.batch, golden.seqlen_q, query_.weight.cols()),
        grad_key_(golden.batch, golden.seqlen_kv, key_.weight.cols()),
        grad_value_(golden.batch, golden.seqlen_kv, value_.weight.cols()) {
    require_no_sinks(golden);
    if (!model_.parameters().query_gain.empty()) throw NotUnderstood("gradients of normed heads");
  }

  void run() {
    for (Index s = 0; s < case_.batch; ++s) train(s);
    const RecordedGradients recorded(case_, test::grouped_stages, report_);
    if (is_cross(case_)) {
      recorded.compare("grad_query", grad_query_.data(), shape(grad_query_));
      recorded.compare("grad_key", grad_key_.data(), shape(grad_key_));
      recorded.compare("grad_value", grad_value_.data(), shape(grad_value_));
    } else {
      std::vector<T> sum = grad_query_.data();
      for (std::size_t i = 0; i < sum.size(); ++i)
        sum[i] += grad_key_.data()[i] + grad_value_.data()[i];
      recorded.compare("grad_x", sum, shape(grad_query_));
    }
    if (case_.kind == Kind::mha)
      compare_mha(recorded);
    else
      compare_self_attention(recorded);
  }

 private:
  /// The pass of one sequence, forward and back.
  void train(Index s) {
    const RowMajor<T> x_query = matrix(inputs_.query[s]), x_key = matrix(inputs_.key[s]),
                      x_value = matrix(inputs_.value[s]), r = matrix(r_[s]);
    RowMajor<T> query = query_.forward(x_query), key = key_.forward(x_key);
    const RowMajor<T> value = value_.forward(x_value), grad_heads = out_.grad_input(r);
    const std::vector<Index> positions = case_.positions(s);
    for_turned(query, key,
               [&](const Rope& rope, HeadsView<T> heads) { rope.rotate(heads, positions); });

    RowMajor<T> heads(query.rows(), out_.weight.cols());
    RowMajor<T> grad_query(query.rows(), query.cols()), grad_key(key.rows(), key.cols()),
        grad_value(value.rows(), value.cols());
    const auto of_queries = [&](auto& m) { return split_heads(m, case_.num_heads); };
    const auto of_keys = [&](auto& m) { return split_heads(m, case_.num_kv_heads); };
    attend_both_ways<T>(policies_, s, of_queries(query), of_keys(key), of_keys(value),
                        of_queries(grad_heads), of_queries(heads),
                        {of_queries(grad_query), of_keys(grad_key), of_keys(grad_value)});

    for_turned(grad_query, grad_key,
               [&](const Rope& rope, HeadsView<T> part) { rope.rotate_inverse(part, positions); });
    out_.add(heads, r);
    write(query_.backward(x_query, grad_query), grad_query_[s]);
    write(key_.backward(x_key, grad_key), grad_key_[s]);
    write(value_.backward(x_value, grad_value), grad_value_[s]);
  }

  /// Calls f(rope, heads) for queries and for keys, if there is a rope.
  template <class F>
  void for_turned(RowMajor<T>& query, RowMajor<T>& key, const F& f) const {
    if (!rope_.whole) return;
    f(*rope_.whole, split_heads(query, case_.num_heads));
    f(*rope_.whole, split_heads(key, case_.num_kv_heads));
  }

  /// torch's names; it packs query, key and value in one matrix if their inputs are of one width.
  void compare_mha(const RecordedGradients& recorded) const {
    const auto stacked = [&](const RowMajor<T> TrainedLinear<T>::* part) {
      const RowMajor<T>&q = query_.*part, &k = key_.*part, &v = value_.*part;
      RowMajor<T> all(q.rows() + k.rows() + v.rows(), q.cols());
      all << q, k, v;
      return all;
    };
    if (case_.has("w.in_proj_weight")) {
      recorded.compare("grad.in_proj_weight", stacked(&TrainedLinear<T>::grad_weight));
    } else {
      recorded.compare("grad.q_proj_weight", query_.grad_weight);
      recorded.compare("grad.k_proj_weight", key_.grad_weight);
      recorded.compare("grad.v_proj_weight", value_.grad_weight);
    }
    RowMajor<T> bias(1, query_.grad_bias.cols() + key_.grad_bias.cols() + value_.grad_bias.cols());
    bias << query_.grad_bias, key_.grad_bias, value_.grad_bias;
    recorded.compare_row("grad.in_proj_bias", bias);
    recorded.compare_linear("out_proj", out_);
  }

  /// Names of transformers.
  void compare_self_attention(const RecordedGradients& recorded) const {
    recorded.compare_linear("q_proj", query_);
    recorded.compare_linear("k_proj", key_);
    recorded.compare_linear("v_proj", value_);
    recorded.compare_linear(WeightReader(case_).first_of({"o_proj", "dense", "out_proj"}), out_);
  }

  Index model_dim() const { return model_.shape().model_dim; }
  std::vector<Index> shape(const Sequences<T>& all) const {
    return {case_.batch, all[0].rows, all[0].cols};
  }
  static void write(const RowMajor<T>& from, RowsView<T> to) {
    Eigen::Map<RowMajor<T>>(to.data, to.rows, to.cols) = from;
  }

  const Case& case_;
  Report& report_;
  const CasePolicies policies_;
  const CaseRope rope_;
  const GroupedModel<T> model_;
  const GroupedInputs<T> inputs_;
  const Sequences<T> r_;  // d loss / d out
  TrainedLinear<T> query_, key_, value_, out_;
  Sequences<T> grad_query_, grad_key_, grad_value_;  // of the inputs
};

}  // namespace heed::golden
