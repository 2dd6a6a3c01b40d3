// SPDX-License-Identifier: MIT
/// \file
/// attend against the formula, over shapes of every kind.

#include <algorithm>
#include <vector>

#include <gtest/gtest.h>

#include "heed/attention/attend.hpp"
#include "support/attention_case.hpp"    // normal_inputs, attend_matrices
#include "support/expect_attention.hpp"  // expect_attention

namespace heed {
namespace {

using test::AttentionShape;
using test::Random;
using test::view;

template <class T>
class AttendShapes : public testing::Test {
 protected:
  /// Without a mask and causal, against the formula.
  void check(const AttentionShape& shape, std::uint64_t seed) {
    SCOPED_TRACE(shape.text() + ", seed " + std::to_string(seed));
    Random random(seed);
    const auto inputs = test::normal_inputs<T>(shape, random);
    const double scale = shape.softmax_scale();
    const reference::Score<test::Exact<T>> formula{.scale = static_cast<test::Exact<T>>(scale)};
    test::expect_attention(test::attend_matrices(inputs, NoMask{}, scale), inputs, formula);
    test::expect_attention(test::attend_matrices(inputs, CausalMask{}, scale), inputs, formula,
                           test::causal_on(shape));
  }
};
using Elements = testing::Types<float, double>;
TYPED_TEST_SUITE(AttendShapes, Elements);

TYPED_TEST(AttendShapes, RandomShapes) {
  Random random(1);
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const Index num_kv_heads = random.integer(1, 4);
    const Index head_dim = random.integer(1, 150);
    this->check({.num_heads = num_kv_heads * random.integer(1, 4),
                 .num_kv_heads = num_kv_heads,
                 .seqlen_q = random.integer(1, 30),
                 .seqlen_kv = random.integer(1, 150),
                 .head_dim = head_dim,
                 .head_dim_v = random.uniform() < 0.5 ? head_dim : random.integer(1, 150)},
                seed);
  }
}

TYPED_TEST(AttendShapes, EveryHeadDim) {
  for (Index head_dim = 1; head_dim <= 300; ++head_dim)
    this->check({.num_heads = 3,
                 .seqlen_q = 3,
                 .seqlen_kv = 7,
                 .head_dim = head_dim,
                 .head_dim_v = head_dim},
                static_cast<std::uint64_t>(head_dim));
}

TYPED_TEST(AttendShapes, EveryValueHeadDim) {
  for (Index head_dim_v = 1; head_dim_v <= 140; ++head_dim_v)
    this->check(
        {.num_heads = 2, .seqlen_q = 2, .seqlen_kv = 66, .head_dim = 5, .head_dim_v = head_dim_v},
        static_cast<std::uint64_t>(head_dim_v));
}

TYPED_TEST(AttendShapes, LatentWidths) {
  this->check(
      {.num_heads = 16, .seqlen_q = 4, .seqlen_kv = 100, .head_dim = 576, .head_dim_v = 512}, 1);
  this->check({.num_heads = 1, .seqlen_q = 1, .seqlen_kv = 65, .head_dim = 576, .head_dim_v = 512},
              2);
}

// Tiles hold 96 rows, or 48 of wide heads, and register tiles 6: every remainder of both.
TYPED_TEST(AttendShapes, EveryTailOfTheQueries) {
  for (Index seqlen_q = 1; seqlen_q <= 110; ++seqlen_q)
    this->check({.seqlen_q = seqlen_q, .seqlen_kv = 30, .head_dim = 4, .head_dim_v = 3},
                static_cast<std::uint64_t>(seqlen_q));
  for (Index seqlen_q = 40; seqlen_q <= 60; ++seqlen_q)
    this->check({.seqlen_q = seqlen_q, .seqlen_kv = 9, .head_dim = 300, .head_dim_v = 216},
                static_cast<std::uint64_t>(seqlen_q));
}

// Pages hold 64 keys: every remainder, for one query and for several.
TYPED_TEST(AttendShapes, EveryTailOfTheKeys) {
  for (Index seqlen_kv = 1; seqlen_kv <= 135; ++seqlen_kv)
    for (const Index seqlen_q : {Index{1}, Index{7}})
      this->check({.seqlen_q = seqlen_q, .seqlen_kv = seqlen_kv, .head_dim = 6, .head_dim_v = 5},
                  static_cast<std::uint64_t>(seqlen_kv));
}

TYPED_TEST(AttendShapes, EveryGroupSize) {
  for (const Index num_kv_heads : {1, 2, 3})
    for (Index group_size = 1; group_size <= 14; ++group_size)
      for (const Index seqlen_q : {1, 2, 9})
        this->check({.num_heads = num_kv_heads * group_size,
                     .num_kv_heads = num_kv_heads,
                     .seqlen_q = seqlen_q,
                     .seqlen_kv = 70,
                     .head_dim = 8,
                     .head_dim_v = 8},
                    static_cast<std::uint64_t>(group_size));
}

TYPED_TEST(AttendShapes, MoreQueriesThanKeys) {
  for (const Index seqlen_kv : {1, 3, 63, 64, 65})
    for (const Index more : {1, 2, 50, 130})
      this->check({.num_heads = 2,
                   .seqlen_q = seqlen_kv + more,
                   .seqlen_kv = seqlen_kv,
                   .head_dim = 8,
                   .head_dim_v = 8},
                  static_cast<std::uint64_t>(more));
}

TYPED_TEST(AttendShapes, NoKeysGiveZero) {
  const AttentionShape shape{.num_heads = 4, .num_kv_heads = 2, .seqlen_q = 5, .seqlen_kv = 0};
  this->check(shape, 1);  // the formula gives out = 0, lse = -inf
  Random random(1);
  const auto result =
      test::attend_matrices(test::normal_inputs<TypeParam>(shape, random), NoMask{}, 1.0);
  EXPECT_TRUE(std::ranges::all_of(result.out.data, [](TypeParam x) { return x == 0; }));
  EXPECT_TRUE(
      std::ranges::all_of(result.lse.data, [](TypeParam x) { return std::isinf(x) && x < 0; }));
}

TYPED_TEST(AttendShapes, NoQueriesWriteNothing) {
  for (const Index seqlen_kv : {0, 5, 5000}) {
    Random random(1);
    const AttentionShape shape{
        .num_heads = 2, .num_kv_heads = 2, .seqlen_q = 0, .seqlen_kv = seqlen_kv};
    const auto inputs = test::normal_inputs<TypeParam>(shape, random);
    TypeParam untouched[] = {7, 7};
    const HeadsView<TypeParam> out(untouched, 2, 0, 16, 1, 16);
    attend(view(inputs.query), view(inputs.key), view(inputs.value), CausalMask{}, 1.0, out,
           RowsView<TypeParam>(untouched, 2, 0, 1));
    EXPECT_EQ(untouched[0], 7);
    EXPECT_EQ(untouched[1], 7);
  }
}

// All scores are 0, so each value weighs the same.
TYPED_TEST(AttendShapes, KeysOfNoColumnsMayBeNowhere) {
  using T = TypeParam;
  Random random(6);
  constexpr Index keys = 70, width = 5;
  const std::vector<T> values = random.normals<T>(keys * width);
  std::vector<T> out(width);
  attend(RowsView<const T>(nullptr, 1, 0, 32), RowsView<const T>(nullptr, keys, 0, 32),
         RowsView<const T>(values.data(), keys, width), NoMask{}, 0.25,
         RowsView<T>(out.data(), 1, width));
  for (Index c = 0; c < width; ++c) {
    double sum = 0;
    for (Index k = 0; k < keys; ++k) sum += values[static_cast<std::size_t>(k * width + c)];
    EXPECT_NEAR(out[static_cast<std::size_t>(c)], sum / keys, 1e-6) << "column " << c;
  }
}

TYPED_TEST(AttendShapes, OneKeyGivesItsValue) {
  Random random(3);
  const AttentionShape shape{
      .num_heads = 3, .num_kv_heads = 3, .seqlen_q = 4, .seqlen_kv = 1, .head_dim_v = 21};
  const auto inputs = test::normal_inputs<TypeParam>(shape, random);
  const auto result = test::attend_matrices(inputs, NoMask{}, shape.softmax_scale());
  for (Index head = 0; head < 3; ++head)
    for (Index q_row = 0; q_row < 4; ++q_row)
      for (Index c = 0; c < 21; ++c)
        EXPECT_EQ(result.out(head, q_row, c), inputs.value(head, 0, c));
}

}  // namespace
}  // namespace heed
