// SPDX-License-Identifier: MIT
/// \file
/// A batch whose sequences share a cache is refused before anything is written.

#include <vector>

#include <gtest/gtest.h>

#include "heed/heed.hpp"
#include "support/shape_error.hpp"  // expect_shape_error

namespace heed {
namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

TEST(SharedCache, IsRefusedByGroupedQueryAttention) {
  const Matrix weight = Matrix::Constant(8, 8, 0.1F);
  const GroupedShape shape = multi_head(8, 2, 4);
  const GroupedQueryAttention<float> layer(shape, {{weight}, {weight}, {weight}, {weight}});
  KvCache<FullKv<>> cache(6, {.num_kv_heads = 2, .head_dim = 4, .head_dim_v = 4});
  const std::vector<BatchSequence<KvCache<FullKv<>>, CausalMask>> sequences{{4, &cache},
                                                                            {4, &cache}};
  const Matrix x = Matrix::Ones(8, 8);
  Matrix out = Matrix::Constant(8, 8, 7.0F);
  test::expect_shape_error({"GroupedQueryAttention::forward_batch", "0 and 1 share a cache"}, [&] {
    layer.forward_batch(x, std::span(sequences), layer.softmax_scale(), out);
  });
  EXPECT_EQ(cache.seqlen(), 0);
  EXPECT_EQ(out, Matrix::Constant(8, 8, 7.0F));
}

TEST(SharedCache, IsRefusedByMultiHeadLatentAttention) {
  const LatentShape shape{.model_dim = 8,
                          .num_heads = 2,
                          .latent_dim = 4,
                          .rope_dim = 2,
                          .nope_dim = 2,
                          .head_dim_v = 4};
  const Matrix query = Matrix::Constant(8, 8, 0.1F), down = Matrix::Constant(6, 8, 0.1F);
  const Matrix up = Matrix::Constant(12, 4, 0.1F), last = Matrix::Constant(8, 8, 0.1F);
  const MultiHeadLatentAttention<float> layer(
      shape, {.query = Linear<float>{query}, .kv_down = {down}, .kv_up = {up}, .out = {last}});
  KvCache<LatentKv<>> cache(6, {.latent_dim = 4, .rope_dim = 2});
  const std::vector<BatchSequence<KvCache<LatentKv<>>, CausalMask>> sequences{{4, &cache},
                                                                              {4, &cache}};
  const Matrix x = Matrix::Ones(8, 8);
  Matrix out = Matrix::Constant(8, 8, 7.0F);
  test::expect_shape_error(
      {"MultiHeadLatentAttention::forward_batch", "0 and 1 share a cache"},
      [&] { layer.forward_batch(x, std::span(sequences), layer.softmax_scale(), out); });
  EXPECT_EQ(cache.seqlen(), 0);
  EXPECT_EQ(out, Matrix::Constant(8, 8, 7.0F));
}

}  // namespace
}  // namespace heed
