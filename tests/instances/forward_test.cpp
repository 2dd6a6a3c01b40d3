// SPDX-License-Identifier: MIT
/// \file
/// A layer whose forward another source file has compiled gives the bits of one compiled here.

#include <gtest/gtest.h>

#include "instances/layer.hpp"  // SmallAttention, SmallCache

namespace heed::test {
namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

TEST(ExternForward, SameBitsAsCompiledHere) {
  const Matrix query = Matrix::Random(32, 32), key = Matrix::Random(16, 32);
  const Matrix value = Matrix::Random(16, 32), output = Matrix::Random(32, 32);
  const Matrix x = Matrix::Random(7, 32);
  const GroupedWeights<float> weights{{query}, {key}, {value}, {output}};
  const Rope rope{{.rope_dim = 8}};

  Matrix elsewhere(7, 32), here(7, 32);
  SmallCache cache(16);
  SmallAttention(weights, rope).forward(x, cache, CausalMask{}, elsewhere);
  KvCache<FullKv<>> dynamic_cache(16, {.num_kv_heads = 2, .head_dim = 8, .head_dim_v = 8});
  GroupedQueryAttention<float>(small, weights, rope).forward(x, dynamic_cache, CausalMask{}, here);
  EXPECT_EQ(elsewhere, here);
}

}  // namespace
}  // namespace heed::test
