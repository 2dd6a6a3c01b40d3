// SPDX-License-Identifier: MIT
/// \file
/// Sequences so long that their keys are split, and that the splits come in waves, against the
/// formula.

#include <string>

#include <gtest/gtest.h>

#include "heed/attention/attend.hpp"
#include "support/attention_case.hpp"    // normal_inputs, attend_matrices
#include "support/expect_attention.hpp"  // expect_attention

namespace heed {
namespace {

using test::AttentionShape;
using test::Random;

template <class T, class Mask>
void check(const AttentionShape& shape, const Mask& mask, const reference::Visible& visible) {
  SCOPED_TRACE(shape.text());
  Random random(1);
  const auto inputs = test::normal_inputs<T>(shape, random);
  const double scale = shape.softmax_scale();
  test::expect_attention(test::attend_matrices(inputs, mask, scale), inputs,
                         {.scale = static_cast<test::Exact<T>>(scale)}, visible);
}

/// Causal, and without a mask.
template <class T>
void check(const AttentionShape& shape) {
  check<T>(shape, NoMask{}, {});
  check<T>(shape, CausalMask{}, test::causal_on(shape));
}

template <class T>
class AttendLong : public testing::Test {};
using Elements = testing::Types<float, double>;
TYPED_TEST_SUITE(AttendLong, Elements);

// Around the ends of splits, which are 1024 keys long.
TYPED_TEST(AttendLong, Splits) {
  for (const Index seqlen_kv : {1023, 1024, 1025, 1088, 2047, 2048, 2049, 3100, 4096})
    check<TypeParam>({.num_heads = 4,
                      .num_kv_heads = 2,
                      .seqlen_q = 3,
                      .seqlen_kv = seqlen_kv,
                      .head_dim = 7,
                      .head_dim_v = 5});
}

// Few tiles are split along the keys, many are not: two ways of one result.
TYPED_TEST(AttendLong, FewTilesAndMany) {
  for (const Index num_heads : {1, 63, 64, 65})
    check<TypeParam>({.num_heads = num_heads,
                      .num_kv_heads = num_heads,
                      .seqlen_q = 1,
                      .seqlen_kv = 1100,
                      .head_dim = 3,
                      .head_dim_v = 3});
}

// Partial results of 64 tiles and splits are held at a time.
TYPED_TEST(AttendLong, Waves) {
  check<TypeParam>({.num_heads = 1,
                    .num_kv_heads = 1,
                    .seqlen_q = 1,
                    .seqlen_kv = 66 * 1024 + 37,
                    .head_dim = 4,
                    .head_dim_v = 3});
  check<TypeParam>({.num_heads = 6,
                    .num_kv_heads = 3,
                    .seqlen_q = 1,
                    .seqlen_kv = 43 * 1024 + 5,
                    .head_dim = 2,
                    .head_dim_v = 2});
  check<TypeParam>({.num_heads = 33,
                    .num_kv_heads = 33,
                    .seqlen_q = 1,
                    .seqlen_kv = 2 * 1024 + 1,
                    .head_dim = 2,
                    .head_dim_v = 2});
}

// Windows leave whole splits unseen.
TYPED_TEST(AttendLong, Windows) {
  for (const Index window_left : {0, 100, 1500})
    for (const Index seqlen_q : {1, 5, 130}) {
      const Index seqlen_kv = 5000;
      const Index shift = seqlen_kv - seqlen_q;
      check<TypeParam>(
          {.seqlen_q = seqlen_q, .seqlen_kv = seqlen_kv, .head_dim = 2, .head_dim_v = 1},
          SlidingWindowMask{.window_left = window_left}, [=](Index, Index q_row, Index k) {
            return shift + q_row - window_left <= k && k <= shift + q_row;
          });
    }
}

}  // namespace
}  // namespace heed
