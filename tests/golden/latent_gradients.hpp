// SPDX-License-Identifier: MIT
/// \file
/// Gradients of golden layers of multi-head latent attention, with keys and values rebuilt in full.
#pragma once

#include <cmath>
#include <optional>
#include <vector>

#include "golden/case.hpp"          // Case
#include "golden/comparison.hpp"    // Report
#include "golden/gradients.hpp"     // RecordedGradients, TrainedLinear
#include "golden/latent_model.hpp"  // LatentModel
#include "golden/policies.hpp"      // CasePolicies
#include "golden/rope.hpp"          // CaseRope
#include "golden/sequences.hpp"     // Sequences
#include "golden/weights.hpp"       // WeightReader

namespace heed::golden {

/// y = x gain / sqrt(mean(x^2) + epsilon), and the gradient of the gain.
template <class T>
struct TrainedNorm {
  std::vector<T> gain;
  T epsilon;
  RowMajor<T> grad_gain;  // [1, dim]

  TrainedNorm(const std::vector<T>& gain_, T epsilon_)
      : gain(gain_), epsilon(epsilon_),
        grad_gain(RowMajor<T>::Zero(1, static_cast<Index>(gain_.size()))) {}

  RowMajor<T> forward(const RowMajor<T>& x) const { return normed(x) * factors().asDiagonal(); }

  /// d loss / d x. Besides scaling it, the norm takes from a row's gradient what is along the row:
  /// with x' = x / rms,  d loss / d x = (g - x' mean(g x')) / rms  for  g = d loss / d x'.
  RowMajor<T> backward(const RowMajor<T>& x, const RowMajor<T>& grad_y) {
    const RowMajor<T> unit = normed(x);
    grad_gain += grad_y.cwiseProduct(unit).colwise().sum();
    RowMajor<T> grad = grad_y * factors().asDiagonal();
    for (Index row = 0; row < x.rows(); ++row) {
      const T along = grad.row(row).cwiseProduct(unit.row(row)).mean();
      grad.row(row) = (grad.row(row) - along * unit.row(row)) / rms(x, row);
    }
    return grad;
  }

 private:
  Eigen::Map<const Eigen::Vector<T, Eigen::Dynamic>> factors() const {
    return {gain.data(), static_cast<Index>(gain.size())};
  }
  T rms(const RowMajor<T>& x, Index row) const {
    return std::sqrt(x.row(row).squaredNorm() / static_cast<T>(x.cols()) + epsilon);
  }
  RowMajor<T> normed(RowMajor<T> x) const {
    for (Index row = 0; row < x.rows(); ++row) x.row(row) /= rms(x, row);
    return x;
  }
};

/// One case in the compute type T, made of Eigen's products, Rope and attend_backward.
template <class T>
class LatentGradients {
 public:
  LatentGradients(const Case& golden, Report& report)
      : case_(golden), report_(report), policies_(golden, report), rope_(golden, report),
        model_(golden), x_(golden, "x", golden.seqlen_q, shape_.model_dim),
        r_(golden, "r", golden.seqlen_q, shape_.model_dim), query_up_(parameters_.query_up),
        kv_down_(parameters_.kv_down), kv_up_(parameters_.kv_up), out_(parameters_.out),
        kv_norm_(parameters_.kv_gain, epsilon()) {
    require_no_sinks(golden);
    if (!rope_.whole) throw NotUnderstood("latent attention without rope_layout");
    if (!parameters_.query_down) return;
    query_down_.emplace(*parameters_.query_down);
    query_norm_.emplace(parameters_.query_gain, epsilon());
  }

  void run() {
    std::vector<T> grad_x;
    for (Index s = 0; s < case_.batch; ++s) {
      const RowMajor<T> grad = train(s);
      grad_x.insert(grad_x.end(), grad.data(), grad.data() + grad.size());
    }
    const RecordedGradients recorded(case_, test::latent_stages, report_);
    const WeightReader reader(case_);
    recorded.compare("grad_x", grad_x, {case_.batch, case_.seqlen_q, shape_.model_dim});
    if (query_down_) {
      recorded.compare_linear(reader.first_of({"q_a_proj", "wq_a"}), *query_down_);
      recorded.compare_row("grad." + reader.first_of({"q_a_layernorm", "q_norm"}) + ".weight",
                           query_norm_->grad_gain);
      recorded.compare_linear(reader.first_of({"q_b_proj", "wq_b"}), query_up_);
    } else {
      recorded.compare_linear(reader.first_of({"q_proj", "wq"}), query_up_);
    }
    recorded.compare_linear(reader.first_of({"kv_a_proj_with_mqa", "wkv_a"}), kv_down_);
    recorded.compare_row("grad." + reader.first_of({"kv_a_layernorm", "kv_norm"}) + ".weight",
                         kv_norm_.grad_gain);
    recorded.compare_linear(reader.first_of({"kv_b_proj", "wkv_b"}), kv_up_);
    recorded.compare_linear(reader.first_of({"o_proj", "wo"}), out_);
  }

 private:
  /// The pass of one sequence, forward and back. Returns d loss / d x.
  RowMajor<T> train(Index s) {
    const RowMajor<T> x = matrix(x_[s]), r = matrix(r_[s]);
    const Index heads = case_.num_heads, dim = case_.head_dim, latent = shape_.latent_dim,
                rope = shape_.rope_dim, nope = shape_.nope_dim, dim_v = shape_.head_dim_v;
    const std::vector<Index> positions = case_.positions(s);
    const RowMajor<T> query_latent = query_down_ ? query_down_->forward(x) : x;
    const RowMajor<T> c_q = query_norm_ ? query_norm_->forward(query_latent) : query_latent;
    RowMajor<T> query = query_up_.forward(c_q);  // per head [nope | rope]
    rope_.whole->rotate(rope_parts(query), positions);
    const RowMajor<T> down = kv_down_.forward(x);  // [latent | rope]
    const RowMajor<T> c_kv = kv_norm_.forward(down.leftCols(latent));
    RowMajor<T> k_rope = down.rightCols(rope);
    rope_.whole->rotate(k_rope, positions);
    const RowMajor<T> up = kv_up_.forward(c_kv);  // per head [nope | v]
    RowMajor<T> key(x.rows(), heads * dim);       // per head [nope | rope]
    for (Index head = 0; head < heads; ++head)
      key.middleCols(head * dim, dim) << up.middleCols(head * (nope + dim_v), nope), k_rope;

    const RowMajor<T> grad_heads = out_.grad_input(r);
    RowMajor<T> heads_out(x.rows(), heads * dim_v), grad_query(x.rows(), heads * dim),
        grad_key(x.rows(), heads * dim), grad_up(x.rows(), heads * (nope + dim_v));
    attend_both_ways<T>(policies_, s, split_heads(query, heads), split_heads(key, heads),
                        split_heads(up, heads).middle_cols(nope, dim_v),
                        split_heads(grad_heads, heads), split_heads(heads_out, heads),
                        {split_heads(grad_query, heads), split_heads(grad_key, heads),
                         split_heads(grad_up, heads).middle_cols(nope, dim_v)});

    out_.add(heads_out, r);
    rope_.whole->rotate_inverse(rope_parts(grad_query), positions);
    RowMajor<T> grad_k_rope = RowMajor<T>::Zero(x.rows(), rope);  // which all heads share
    for (Index head = 0; head < heads; ++head) {
      grad_up.middleCols(head * (nope + dim_v), nope) = grad_key.middleCols(head * dim, nope);
      grad_k_rope += grad_key.middleCols(head * dim + nope, rope);
    }
    rope_.whole->rotate_inverse(grad_k_rope, positions);
    RowMajor<T> grad_down(x.rows(), latent + rope);
    grad_down << kv_norm_.backward(down.leftCols(latent), kv_up_.backward(c_kv, grad_up)),
        grad_k_rope;
    const RowMajor<T> grad_x_of_keys = kv_down_.backward(x, grad_down);
    const RowMajor<T> grad_c_q = query_up_.backward(c_q, grad_query);
    if (!query_down_) return grad_c_q + grad_x_of_keys;
    return query_down_->backward(x, query_norm_->backward(query_latent, grad_c_q)) + grad_x_of_keys;
  }

  /// The last columns of every head.
  HeadsView<T> rope_parts(RowMajor<T>& heads) const {
    return split_heads(heads, case_.num_heads).middle_cols(shape_.nope_dim, shape_.rope_dim);
  }

  T epsilon() const { return static_cast<T>(case_.metadata.real("rms_norm_eps")); }

  const Case& case_;
  Report& report_;
  const CasePolicies policies_;
  const CaseRope rope_;
  const LatentModel<T> model_;
  const LatentParameters<T>& parameters_ = model_.parameters();
  const LatentShape& shape_ = model_.shape();
  const Sequences<T> x_, r_;  // r_ is d loss / d out
  std::optional<TrainedLinear<T>> query_down_;
  std::optional<TrainedNorm<T>> query_norm_;
  TrainedLinear<T> query_up_, kv_down_, kv_up_, out_;
  TrainedNorm<T> kv_norm_;
};

}  // namespace heed::golden
