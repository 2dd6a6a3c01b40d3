// SPDX-License-Identifier: MIT
// PyTorch's scaled_dot_product_attention through its C++ library: its fused CPU kernel where values
// are as wide as keys, else product, softmax, product.
#include <limits>

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <c10/core/InferenceMode.h>
#include <torch/headeronly/version.h>

#include "heed/policy/score.hpp"
#include "peers/peers.hpp"

namespace heed::bench {
namespace {

/// [1, heads, rows, width]
at::Tensor tensor(Matrix& matrix, Index heads, Index rows, Index head_stride, Index row_stride,
                  Index width) {
  return at::from_blob(matrix.data(), {1, heads, rows, width},
                       {matrix.size(), head_stride, row_stride, 1}, at::kFloat);
}

/// Rows of [token, head, column] as [head, token, column], as a cache of PyTorch's has them.
Matrix by_head(const Matrix& all, Index first_row, Index num_rows, Index num_heads) {
  const Index width = all.cols() / num_heads;
  Matrix heads(num_heads * num_rows, width);
  for (Index head = 0; head < num_heads; ++head)
    heads.middleRows(head * num_rows, num_rows) =
        all.block(first_row, head * width, num_rows, width);
  return heads;
}

/// Memory and views of one sequence.
class Sequence {
 public:
  Sequence(const SpeedCase& c, const Inputs& inputs, const SequenceRows& s)
      : scale_(default_softmax_scale(c.head_dim)),
        query_memory_(inputs.query.middleRows(s.q_begin, s.seqlen_q)),
        key_memory_(by_head(inputs.key, s.kv_begin, s.seqlen_kv, c.num_kv_heads)) {
    const c10::InferenceMode inference;
    const Index d = c.head_dim, dv = c.head_dim_v, m = s.seqlen_kv;
    key_ = tensor(key_memory_, c.num_kv_heads, m, m * d, d, d);
    if (c.kv == Kv::latent) {
      value_ = key_.narrow(3, 0, dv);
    } else {
      value_memory_ = by_head(inputs.value, s.kv_begin, m, c.num_kv_heads);
      value_ = tensor(value_memory_, c.num_kv_heads, m, m * dv, dv, dv);
    }
    if (c.kv == Kv::latent && s.seqlen_q == 1) {
      // The heads as rows of one head: without the fused kernel, each head would get a copy.
      query_ = tensor(query_memory_, 1, c.num_heads, 0, d, d);
      heads_ = Heads::as_rows;
    } else {
      query_ = tensor(query_memory_, c.num_heads, s.seqlen_q, d, c.num_heads * d, d);
      heads_ = c.num_heads == c.num_kv_heads ? Heads::alike : Heads::grouped;
    }
    if (c.visible == Visible::full || s.seqlen_q == 1) return;
    if (s.seqlen_q == s.seqlen_kv) {
      mask_ = Mask::causal;
    } else {  // is_causal would set the first query against the first key
      mask_memory_.setZero(s.seqlen_q, s.seqlen_kv);
      for (Index q_row = 0; q_row < s.seqlen_q; ++q_row)
        mask_memory_.row(q_row)
            .tail(m - c.seen(s, q_row))
            .setConstant(-std::numeric_limits<float>::infinity());
      mask_tensor_ = tensor(mask_memory_, 1, s.seqlen_q, 0, m, m);
    }
  }
  Sequence(Sequence&&) = default;

  void run() {
    out_ =
        at::scaled_dot_product_attention(query_, key_, value_, mask_tensor_, 0,
                                         mask_ == Mask::causal, scale_, heads_ == Heads::grouped);
  }
  /// \param out  [seqlen_q, num_heads * head_dim_v]
  template <class Rows>
  void copy_out(Rows&& out) const {
    const c10::InferenceMode inference;
    const at::Tensor rows =
        heads_ == Heads::as_rows ? out_.contiguous() : out_.transpose(1, 2).contiguous();
    out = Eigen::Map<const Matrix>(rows.const_data_ptr<float>(), out.rows(), out.cols());
  }

 private:
  enum class Heads { alike, grouped, as_rows };
  enum class Mask { none, causal };

  double scale_;
  Heads heads_ = Heads::alike;
  Mask mask_ = Mask::none;
  Matrix query_memory_, key_memory_, value_memory_, mask_memory_;
  at::Tensor query_, key_, value_, out_;
  std::optional<at::Tensor> mask_tensor_;
};

/// A batch is run one sequence after another: the fused kernel takes no ragged ones.
class Torch final : public AttendContender {
 public:
  Torch(const SpeedCase& c, const Inputs& inputs, Index num_threads)
      : case_(c), num_threads_(static_cast<int>(num_threads)) {
    for (const SequenceRows& s : c.sequences) sequences_.emplace_back(c, inputs, s);
  }
  void run() override {
    const c10::InferenceMode inference;
    at::set_num_threads(num_threads_);
    for (Sequence& sequence : sequences_) sequence.run();
  }
  Matrix out() const override {
    Matrix all(case_.rows_q(), case_.num_heads * case_.head_dim_v);
    for (std::size_t i = 0; i < sequences_.size(); ++i)
      sequences_[i].copy_out(
          all.middleRows(case_.sequences[i].q_begin, case_.sequences[i].seqlen_q));
    return all;
  }

 private:
  SpeedCase case_;
  int num_threads_;
  std::vector<Sequence> sequences_;
};

/// Without the fused kernel, all heads' scores are in memory at once.
bool can(const SpeedCase& c, Index) {
  return c.head_dim == c.head_dim_v ||
         4.0 * static_cast<double>(c.most_scores() * c.num_heads) <= most_bytes;
}

std::unique_ptr<Contender> make(const SpeedCase& c, const Inputs& inputs, Index num_threads) {
  return std::make_unique<Torch>(c, inputs, num_threads);
}

}  // namespace

Peer torch_peer() {
  return {"PyTorch", TORCH_VERSION, {{"torch", can, make}}, {torch_backward_kind()}};
}

}  // namespace heed::bench
