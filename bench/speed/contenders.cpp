// SPDX-License-Identifier: MIT
#include <cmath>

#include "heed/attention/attend.hpp"
#include "heed/cache/kv_cache.hpp"
#include "speed/case.hpp"

namespace heed::bench {
namespace {

template <class Cache>
class Heed final : public Contender {
 public:
  Heed(const SpeedCase& c, const Inputs& inputs, Cache cache, Index num_threads)
      : case_(c), inputs_(inputs), cache_(std::move(cache)), executor_(OpenMpExecutor{num_threads}),
        out_(c.seqlen_q, c.num_heads * c.head_dim_v) {}

  void run() override {
    if (case_.visible == Visible::causal)
      attend_all(CausalMask{});
    else
      attend_all(NoMask{});
  }
  const Matrix& out() const override { return out_; }

 private:
  template <class Mask>
  void attend_all(const Mask& mask) {
    attend(split_heads(inputs_.query, case_.num_heads), cache_, mask,
           1 / std::sqrt(double(case_.head_dim)), split_heads(out_, case_.num_heads),
           {.executor = executor_, .workspace = &workspace_});
  }

  SpeedCase case_;
  const Inputs& inputs_;
  Cache cache_;
  AnyExecutor executor_;
  Workspace workspace_;
  Matrix out_;
};

class EigenMaterialised final : public Contender {
 public:
  EigenMaterialised(const SpeedCase& c, const Inputs& inputs, Index num_threads)
      : case_(c), inputs_(inputs), num_threads_(static_cast<int>(num_threads)),
        out_(c.seqlen_q, c.num_heads * c.head_dim_v) {}

  void run() override {
    Eigen::setNbThreads(num_threads_);
    const SpeedCase& c = case_;
    const Index group = c.num_heads / c.num_kv_heads;
    const float scale = 1 / std::sqrt(static_cast<float>(c.head_dim));
    for (Index kv_head = 0; kv_head < c.num_kv_heads; ++kv_head) {
      const auto key = inputs_.key.middleCols(kv_head * c.head_dim, c.head_dim);
      const auto value = inputs_.value.middleCols(kv_head * c.head_dim_v, c.head_dim_v);
      if (c.seqlen_q == 1) {  // the heads of a group lie side by side: one product for all of them
        const Eigen::Map<const Matrix> query(inputs_.query.data() + kv_head * group * c.head_dim,
                                             group, c.head_dim);
        Eigen::Map<Matrix> out(out_.data() + kv_head * group * c.head_dim_v, group, c.head_dim_v);
        attend_rows(scale * query, key, value, out);
        continue;
      }
      for (Index head = kv_head * group; head < (kv_head + 1) * group; ++head)
        attend_rows(scale * inputs_.query.middleCols(head * c.head_dim, c.head_dim), key, value,
                    out_.middleCols(head * c.head_dim_v, c.head_dim_v));
    }
  }
  const Matrix& out() const override { return out_; }

 private:
  template <class Query, class Key, class Value, class Out>
  void attend_rows(const Query& query, const Key& key, const Value& value, Out&& out) {
    scores_.noalias() = query * key.transpose();
    for (Index row = 0; row < scores_.rows(); ++row) {
      const Index seen = case_.visible == Visible::full || case_.seqlen_q == 1
                             ? case_.seqlen_kv
                             : case_.seqlen_kv - case_.seqlen_q + row + 1;
      auto visible = scores_.row(row).head(seen);
      visible = (visible.array() - visible.maxCoeff()).exp();
      visible /= visible.sum();
      scores_.row(row).tail(case_.seqlen_kv - seen).setZero();
    }
    out.noalias() = scores_ * value;
  }

  SpeedCase case_;
  const Inputs& inputs_;
  int num_threads_;
  Matrix scores_;
  Matrix out_;
};

}  // namespace

std::unique_ptr<Contender> make_heed(const SpeedCase& c, const Inputs& inputs, Index num_threads) {
  if (c.kv == Kv::latent) {
    KvCache<LatentKv<>> cache(c.seqlen_kv,
                              {.latent_dim = c.head_dim_v, .rope_dim = c.head_dim - c.head_dim_v});
    cache.append(inputs.key.leftCols(c.head_dim_v),
                 inputs.key.rightCols(c.head_dim - c.head_dim_v));
    return std::make_unique<Heed<KvCache<LatentKv<>>>>(c, inputs, std::move(cache), num_threads);
  }
  KvCache<FullKv<>> cache(
      c.seqlen_kv,
      {.num_kv_heads = c.num_kv_heads, .head_dim = c.head_dim, .head_dim_v = c.head_dim_v});
  cache.append(split_heads(inputs.key, c.num_kv_heads), split_heads(inputs.value, c.num_kv_heads));
  return std::make_unique<Heed<KvCache<FullKv<>>>>(c, inputs, std::move(cache), num_threads);
}

std::unique_ptr<Contender> make_eigen(const SpeedCase& c, const Inputs& inputs, Index num_threads) {
  return std::make_unique<EigenMaterialised>(c, inputs, num_threads);
}

}  // namespace heed::bench
