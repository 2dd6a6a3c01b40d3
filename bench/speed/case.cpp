// SPDX-License-Identifier: MIT
#include "speed/case.hpp"

#include <cmath>
#include <random>

namespace heed::bench {
namespace {

Matrix normal(Index rows, Index cols, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> distribution;
  return Matrix::NullaryExpr(rows, cols, [&] { return distribution(engine); });
}

}  // namespace

std::vector<SpeedCase> speed_cases() {
  std::vector<SpeedCase> cases;
  const auto prefill = [&](const char* name, Index n, Index heads, Index kv_heads, Index head_dim,
                           Visible visible) {
    cases.push_back({name, n, n, heads, kv_heads, head_dim, head_dim, visible, Kv::full});
  };
  const auto decode = [&](const char* name, Index m, Index heads, Index kv_heads, Index head_dim) {
    cases.push_back({name, 1, m, heads, kv_heads, head_dim, head_dim, Visible::causal, Kv::full});
  };
  prefill("prefill/gqa", 2048, 8, 2, 128, Visible::causal);
  prefill("prefill/mha", 2048, 8, 8, 128, Visible::causal);
  prefill("prefill/full", 1024, 8, 8, 128, Visible::full);
  for (const Index head_dim : {64, 80, 96, 112, 192, 256})
    prefill(("prefill/dim" + std::to_string(head_dim)).c_str(), 1024, 8, 2, head_dim,
            Visible::causal);
  for (const Index n : {16, 64, 128})
    prefill(("short/" + std::to_string(n)).c_str(), n, 8, 2, 128, Visible::causal);
  decode("decode/mha", 8192, 32, 32, 128);
  decode("decode/gqa", 8192, 32, 8, 128);
  decode("decode/mqa", 8192, 32, 1, 128);
  cases.push_back({"decode/mla16", 1, 8192, 16, 1, 576, 512, Visible::causal, Kv::latent});
  cases.push_back({"decode/mla128", 1, 8192, 128, 1, 576, 512, Visible::causal, Kv::latent});
  return cases;
}

Inputs::Inputs(const SpeedCase& c)
    : query(normal(c.seqlen_q, c.num_heads * c.head_dim, 1)),
      key(normal(c.seqlen_kv, c.num_kv_heads * c.head_dim, 2)),
      value(c.kv == Kv::latent ? Matrix(key.leftCols(c.head_dim_v))
                               : normal(c.seqlen_kv, c.num_kv_heads * c.head_dim_v, 3)) {}

double largest_error(const SpeedCase& c, const Inputs& inputs, const Matrix& out) {
  using Row = Eigen::RowVectorXd;
  const double scale = 1 / std::sqrt(static_cast<double>(c.head_dim));
  double largest = 0;
  for (Index head = 0; head < c.num_heads; head += std::max<Index>(1, c.num_heads / 4)) {
    const Index kv_head = head / (c.num_heads / c.num_kv_heads);
    const auto key = inputs.key.middleCols(kv_head * c.head_dim, c.head_dim);
    const auto value = inputs.value.middleCols(kv_head * c.head_dim_v, c.head_dim_v);
    for (Index q_row = 0; q_row < c.seqlen_q; q_row += std::max<Index>(1, c.seqlen_q / 7)) {
      const Index seen =
          c.visible == Visible::full ? c.seqlen_kv : c.seqlen_kv - c.seqlen_q + q_row + 1;
      const Row query =
          inputs.query.row(q_row).segment(head * c.head_dim, c.head_dim).cast<double>();
      Row prob = scale * query * key.topRows(seen).cast<double>().transpose();
      prob = (prob.array() - prob.maxCoeff()).exp().matrix().eval();
      const Row expected = prob * value.topRows(seen).cast<double>() / prob.sum();
      const Row found = out.row(q_row).segment(head * c.head_dim_v, c.head_dim_v).cast<double>();
      largest = std::max(largest, (found - expected).cwiseAbs().maxCoeff());
    }
  }
  return largest;
}

}  // namespace heed::bench
