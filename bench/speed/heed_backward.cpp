// SPDX-License-Identifier: MIT
#include <utility>

#include "heed/attention/attend.hpp"
#include "heed/attention/backward.hpp"
#include "heed/policy/mask.hpp"
#include "shared/executor.hpp"
#include "speed/contender.hpp"

namespace heed::bench {
namespace {

template <class Mask>
class HeedBackward final : public BackwardContender {
 public:
  HeedBackward(const SpeedCase& c, const Inputs& inputs, Index num_threads)
      : case_(c), inputs_(inputs), executor_(make_executor(num_threads)),
        out_(c.rows_q(), c.num_heads * c.head_dim_v), lse_(c.num_heads, c.rows_q()),
        grad_{Matrix(c.rows_q(), c.num_heads * c.head_dim),
              Matrix(c.rows_kv(), c.num_kv_heads * c.head_dim),
              Matrix(c.rows_kv(), c.num_kv_heads * c.head_dim_v)} {
    attend(query(), key(), value(), Mask{}, scale(), split_heads(out_, c.num_heads),
           {.lse = RowsView<float>(lse_), .executor = executor_, .workspace = &workspace_});
  }

  void run() override {
    attend_backward(query(), key(), value(), Mask{}, scale(),
                    {.out = split_heads(std::as_const(out_), case_.num_heads),
                     .lse = RowsView<const float>(lse_)},
                    split_heads(inputs_.grad_out, case_.num_heads),
                    {.query = split_heads(grad_.query, case_.num_heads),
                     .key = split_heads(grad_.key, case_.num_kv_heads),
                     .value = split_heads(grad_.value, case_.num_kv_heads)},
                    {.executor = executor_, .workspace = &workspace_});
  }
  Gradients gradients() const override { return grad_; }

 private:
  HeadsView<const float> query() const { return split_heads(inputs_.query, case_.num_heads); }
  HeadsView<const float> key() const { return split_heads(inputs_.key, case_.num_kv_heads); }
  HeadsView<const float> value() const { return split_heads(inputs_.value, case_.num_kv_heads); }
  double scale() const { return default_softmax_scale(case_.head_dim); }

  SpeedCase case_;
  const Inputs& inputs_;
  AnyExecutor executor_;
  Workspace workspace_;
  Matrix out_, lse_;
  Gradients grad_;
};

bool can(const SpeedCase&, Index) { return true; }

std::unique_ptr<Contender> make(const SpeedCase& c, const Inputs& inputs, Index num_threads) {
  if (c.visible == Visible::full)
    return std::make_unique<HeedBackward<NoMask>>(c, inputs, num_threads);
  return std::make_unique<HeedBackward<CausalMask>>(c, inputs, num_threads);
}

}  // namespace

ContenderKind heed_backward_kind() { return {heed_name, can, make}; }

}  // namespace heed::bench
