// SPDX-License-Identifier: MIT
// The shortest program with a layer and a cache; the README shows it.
#include <cstdio>

#include <heed/heed.hpp>

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

int main() {
  constexpr heed::GroupedShape shape{
      .model_dim = 64, .num_heads = 8, .num_kv_heads = 2, .head_dim = 8};
  const Matrix query = Matrix::Constant(64, 64, 0.1F), key = Matrix::Constant(16, 64, 0.1F);
  const Matrix value = Matrix::Constant(16, 64, 0.1F), output = Matrix::Constant(64, 64, 0.1F);
  const heed::GroupedWeights<float> weights{{query}, {key}, {value}, {output}};  // [out, in], views
  const heed::GroupedQueryAttention<float, shape> attention{weights, heed::Rope{{.rope_dim = 8}}};
  heed::KvCache<heed::FullKv<2, 8>> cache{1024};  // room for 1024 tokens

  const Matrix prompt = Matrix::Ones(5, 64), token = Matrix::Ones(1, 64);
  Matrix out(5, 64), next(1, 64);
  attention.forward(prompt, cache, heed::CausalMask{}, out);  // prefill: five tokens
  attention.forward(token, cache, heed::CausalMask{}, next);  // decode: one more
  std::printf("%td tokens cached, %zu bytes each\n", cache.seqlen(), cache.bytes_per_token());
  std::printf("out from %.2f to %.2f\n", next.cast<double>().minCoeff(),
              next.cast<double>().maxCoeff());
}
