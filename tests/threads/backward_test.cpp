// SPDX-License-Identifier: MIT
/// \file
/// Gradients have the same bits on any threads, and with scratch that was used before.

#include "heed/attention/backward.hpp"

#include <gtest/gtest.h>

#include "support/executors.hpp"         // executors
#include "support/expect_gradients.hpp"  // backward_matrices

namespace heed {
namespace {

using test::AttentionShape;
using test::Random;

template <class T>
class SameGradients : public testing::Test {};
using Elements = testing::Types<float, double>;
TYPED_TEST_SUITE(SameGradients, Elements);

// One key/value head, whose keys are many tasks; and so many that each task has all keys of one.
TYPED_TEST(SameGradients, OnAnyThreads) {
  for (const AttentionShape& shape :
       {AttentionShape{.num_heads = 3, .seqlen_q = 150, .seqlen_kv = 1300, .head_dim = 5},
        AttentionShape{.num_heads = 20, .num_kv_heads = 20, .seqlen_q = 60, .seqlen_kv = 600}}) {
    Random random(1);
    auto inputs = test::normal_inputs<TypeParam>(shape, random);
    inputs.sinks.assign(static_cast<std::size_t>(shape.num_heads), TypeParam(1));
    const auto grad_out =
        test::normal_heads<TypeParam>(shape.num_heads, shape.seqlen_q, shape.head_dim_v, random);
    const auto alone = test::backward_matrices(inputs, CausalMask{}, 0.25, grad_out,
                                               {.executor = SerialExecutor{}});
    Workspace workspace;
    for (const AnyExecutor& executor : test::executors())
      for (int repeat = 0; repeat < 2; ++repeat)
        EXPECT_EQ(test::backward_matrices(inputs, CausalMask{}, 0.25, grad_out,
                                          {.executor = executor, .workspace = &workspace}),
                  alone);
  }
}

}  // namespace
}  // namespace heed
