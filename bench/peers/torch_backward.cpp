// SPDX-License-Identifier: MIT
// PyTorch's gradients of scaled_dot_product_attention: its autograd goes backward alone, again and
// again, over a forward pass that is kept.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <torch/csrc/autograd/autograd.h>

#include "heed/policy/score.hpp"
#include "peers/peers.hpp"

namespace heed::bench {
namespace {

/// [1, heads, rows, width] of rows that are tokens, as a layer's projections give them.
at::Tensor tensor(Matrix& matrix, Index heads) {
  const Index width = matrix.cols() / heads;
  return at::from_blob(matrix.data(), {1, heads, matrix.rows(), width},
                       {matrix.size(), width, matrix.cols(), 1}, at::kFloat);
}

/// Back to rows that are tokens.
Matrix rows_of(const at::Tensor& tensor) {
  const at::Tensor rows = tensor.transpose(1, 2).contiguous();
  return Eigen::Map<const Matrix>(rows.const_data_ptr<float>(), rows.size(1),
                                  rows.size(2) * rows.size(3));
}

class TorchBackward final : public BackwardContender {
 public:
  TorchBackward(const SpeedCase& c, const Inputs& inputs, Index num_threads)
      : num_threads_(static_cast<int>(num_threads)), query_memory_(inputs.query),
        key_memory_(inputs.key), value_memory_(inputs.value), grad_memory_(inputs.grad_out),
        operands_{tensor(query_memory_, c.num_heads), tensor(key_memory_, c.num_kv_heads),
                  tensor(value_memory_, c.num_kv_heads)},
        grad_out_(tensor(grad_memory_, c.num_heads)) {
    at::set_num_threads(num_threads_);
    for (at::Tensor& operand : operands_) operand.set_requires_grad(true);
    out_ = at::scaled_dot_product_attention(
        operands_[0], operands_[1], operands_[2], {}, 0, c.visible == Visible::causal,
        default_softmax_scale(c.head_dim), c.num_heads != c.num_kv_heads);
  }
  void run() override {
    at::set_num_threads(num_threads_);
    gradients_ = torch::autograd::grad({out_}, operands_, {grad_out_}, /*retain_graph=*/true);
  }
  Gradients gradients() const override {
    return {rows_of(gradients_[0]), rows_of(gradients_[1]), rows_of(gradients_[2])};
  }

 private:
  int num_threads_;
  Matrix query_memory_, key_memory_, value_memory_, grad_memory_;
  std::vector<at::Tensor> operands_;
  at::Tensor grad_out_, out_;
  std::vector<at::Tensor> gradients_;
};

bool can(const SpeedCase&, Index) { return true; }

std::unique_ptr<Contender> make(const SpeedCase& c, const Inputs& inputs, Index num_threads) {
  return std::make_unique<TorchBackward>(c, inputs, num_threads);
}

}  // namespace

ContenderKind torch_backward_kind() { return {"torch", can, make}; }

}  // namespace heed::bench
