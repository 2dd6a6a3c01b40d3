// SPDX-License-Identifier: MIT
/// \file
/// Scores of any size the type can hold, and of -inf.

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "heed/attention/attend.hpp"
#include "heed/cache/kv_cache.hpp"
#include "support/attention_case.hpp"    // normal_inputs, attend_matrices
#include "support/expect_attention.hpp"  // expect_attention
#include "support/mask_cases.hpp"        // Booleans

namespace heed {
namespace {

using test::AttentionInputs;
using test::AttentionShape;
using test::Heads;
using test::Random;
using test::view;

template <class T>
class AttendExtremes : public testing::Test {
 protected:
  static constexpr T infinity = std::numeric_limits<T>::infinity();
  static constexpr T largest = std::numeric_limits<T>::max();

  /// One query whose scores are exactly `scores`, over random values.
  static AttentionInputs<T> with_scores(const std::vector<T>& scores, Random& random) {
    const Index seqlen_kv = std::ssize(scores);
    return {{1, 1, 1, {T{1}}},
            {1, seqlen_kv, 1, scores},
            test::normal_heads<T>(1, seqlen_kv, 5, random)};
  }

  /// With `largest_at` far above all others, the result is that key's value.
  static void expect_one_hot(const std::vector<T>& scores, Index largest_at) {
    Random random(1);
    const auto inputs = with_scores(scores, random);
    const auto result = test::attend_matrices(inputs, NoMask{}, 1.0);
    for (Index c = 0; c < 5; ++c) EXPECT_EQ(result.out(0, 0, c), inputs.value(0, largest_at, c));
    EXPECT_EQ(result.lse(0, 0, 0), scores[static_cast<std::size_t>(largest_at)]);
  }
};
using Elements = testing::Types<float, double>;
TYPED_TEST_SUITE(AttendExtremes, Elements);

// The bound grows with the scores, and the result stays within it.
TYPED_TEST(AttendExtremes, RandomScoresOfTenThousand) {
  for (const double size : {1e2, 1e4}) {
    const AttentionShape shape{.num_heads = 2, .num_kv_heads = 2, .seqlen_q = 20, .seqlen_kv = 150};
    Random random(2);
    auto inputs = test::normal_inputs<TypeParam>(shape, random);
    inputs.query = test::normal_heads<TypeParam>(2, 20, 16, random, size);
    test::expect_attention(test::attend_matrices(inputs, NoMask{}, 0.25), inputs, {.scale = 0.25});
  }
}

// A constant on all scores changes the lse by it, and the output not at all: adding 2^14 to
// multiples of 1/64 is exact in float.
TYPED_TEST(AttendExtremes, AnOffsetOfTenThousandChangesNothing) {
  Random random(3);
  std::vector<TypeParam> scores(200), raised(200);
  for (std::size_t k = 0; k < scores.size(); ++k) {
    scores[k] = static_cast<TypeParam>(random.integer(-256, 256)) / 64;
    raised[k] = scores[k] + 16384;
  }
  const auto inputs = this->with_scores(scores, random);
  auto offset = inputs;
  offset.key.data = raised;
  const auto small = test::attend_matrices(inputs, NoMask{}, 1.0);
  const auto large = test::attend_matrices(offset, NoMask{}, 1.0);
  EXPECT_EQ(large.out.data, small.out.data);
  const double lse_bound = 16384 * test::unit_roundoff<TypeParam>;
  EXPECT_NEAR(static_cast<double>(large.lse(0, 0, 0)),
              16384 + static_cast<double>(small.lse(0, 0, 0)), lse_bound);
}

// The largest score in every place of a page, and in other pages and splits.
TYPED_TEST(AttendExtremes, TheLargestScoreTakesAll) {
  for (const TypeParam size : {TypeParam(1e4), TypeParam(1e30), this->largest})
    for (const Index seqlen_kv : {1, 2, 64, 65, 130, 3000})
      for (const Index at : {0, 1, 31, 63, 64, 100, 129, 1023, 1024, 2999}) {
        if (at >= seqlen_kv) continue;
        SCOPED_TRACE(std::to_string(seqlen_kv) + " keys, the largest at " + std::to_string(at));
        std::vector<TypeParam> scores(static_cast<std::size_t>(seqlen_kv), -size);
        scores[static_cast<std::size_t>(at)] = size;
        this->expect_one_hot(scores, at);
        for (std::size_t k = 0; k < scores.size(); ++k) scores[k] = k % 3 == 0 ? -size : -size / 2;
        scores[static_cast<std::size_t>(at)] = 0;
        this->expect_one_hot(scores, at);
      }
}

// Each page raises the maximum by more than exp can hold.
TYPED_TEST(AttendExtremes, ScoresThatGrowWithoutEnd) {
  std::vector<TypeParam> scores;
  for (Index k = 0; k < 1500; ++k) scores.push_back(static_cast<TypeParam>(k * 1000 - 700'000));
  this->expect_one_hot(scores, 1499);
  std::reverse(scores.begin(), scores.end());
  this->expect_one_hot(scores, 0);
}

TYPED_TEST(AttendExtremes, EqualScoresGiveTheMean) {
  for (const TypeParam score :
       {TypeParam(0), TypeParam(1e4), TypeParam(1e30), this->largest, -this->largest}) {
    Random random(4);
    // 64 values that are multiples of 1/64 and a power of two of equal weights: the mean is exact.
    auto inputs = this->with_scores(std::vector<TypeParam>(64, score), random);
    TypeParam sum = 0;
    for (TypeParam& value : inputs.value.data)
      value = static_cast<TypeParam>(random.integer(-512, 512)) / 64;
    for (Index k = 0; k < 64; ++k) sum += inputs.value(0, k, 2);
    const auto result = test::attend_matrices(inputs, NoMask{}, 1.0);
    EXPECT_EQ(result.out(0, 0, 2), sum / 64);
    const double exact_lse = static_cast<double>(score) + std::log(64.0);
    EXPECT_NEAR(static_cast<double>(result.lse(0, 0, 0)), exact_lse,
                3 * test::unit_roundoff<TypeParam> * std::abs(exact_lse));
  }
}

// A bias of -inf hides a key as a mask does, to the bit.
TYPED_TEST(AttendExtremes, MinusInfinityAsBiasIsAMask) {
  for (const Index seqlen_q : {1, 30})
    for (const Index seqlen_kv : {1, 40, 64, 150, 1500}) {
      const AttentionShape shape{
          .num_heads = 4, .num_kv_heads = 2, .seqlen_q = seqlen_q, .seqlen_kv = seqlen_kv};
      SCOPED_TRACE(shape.text());
      Random random(5);
      const auto inputs = test::normal_inputs<TypeParam>(shape, random);
      const test::Booleans allowed(4, {seqlen_q, seqlen_kv}, random);
      Heads<TypeParam> bias(4, seqlen_q, seqlen_kv);
      for (Index head = 0; head < 4; ++head)
        for (Index q_row = 0; q_row < seqlen_q; ++q_row)
          for (Index k = 0; k < seqlen_kv; ++k)
            bias(head, q_row, k) = allowed.view()(head, q_row, k) ? TypeParam{0} : -this->infinity;
      EXPECT_EQ(
          test::attend_matrices(inputs, NoMask{}, chain(Scale{0.25}, Bias<TypeParam>{view(bias)})),
          test::attend_matrices(inputs, DenseMask{allowed.view()}, 0.25));
    }
}

// Rows of nothing but -inf are empty, like rows that a mask leaves no key: whole, and for some
// pages.
TYPED_TEST(AttendExtremes, RowsOfMinusInfinity) {
  for (const Index seqlen_q : {1, 2, 50})
    for (const Index seqlen_kv : {1, 63, 64, 200, 2100}) {
      const AttentionShape shape{
          .num_heads = 2, .num_kv_heads = 1, .seqlen_q = seqlen_q, .seqlen_kv = seqlen_kv};
      SCOPED_TRACE(shape.text());
      Random random(6);
      auto inputs = test::normal_inputs<TypeParam>(shape, random);
      inputs.sinks = {TypeParam(1), TypeParam(-3)};
      Heads<TypeParam> bias(1, seqlen_q, seqlen_kv);
      for (Index q_row = 0; q_row < seqlen_q; ++q_row)
        for (Index k = 0; k < seqlen_kv; ++k)
          bias(0, q_row, k) = q_row % 2 == 0 || k < 130 ? -this->infinity : 1;
      const auto result =
          test::attend_matrices(inputs, NoMask{}, chain(Scale{0.25}, Bias<TypeParam>{view(bias)}));
      test::expect_attention(
          result, inputs, {.scale = 0.25, .bias = test::converted<test::Exact<TypeParam>>(bias)});
      for (Index q_row = 0; q_row < seqlen_q; q_row += 2) {
        EXPECT_EQ(result.lse(1, q_row, 0), -this->infinity);
        for (Index c = 0; c < shape.head_dim_v; ++c) EXPECT_EQ(result.out(1, q_row, c), 0);
      }
    }
}

// Products in bf16 round probabilities, but for the row's largest, which is 1 on whatever page it
// is.
TEST(AttendNative, TheLargestProbabilityIsNotRounded) {
  KvCache<FullKv<1, 16>, Native<bf16>> cache{2 * page_size};
  Heads<float> query(1, 1, 16), key(1, page_size + 1, 16), value(1, page_size + 1, 16),
      out(1, 1, 16);
  query(0, 0, 0) = 1;
  key(0, page_size, 0) = 3.5F;  // the others' scores are 0, and so are their values
  for (Index c = 0; c < 16; ++c) value(0, page_size, c) = 1;
  cache.append(view(std::as_const(key)), view(std::as_const(value)));
  attend(view(std::as_const(query)), cache, NoMask{}, 1.0, view(out));
  const double weight = std::exp(3.5);
  EXPECT_NEAR(out(0, 0, 5), weight / (weight + page_size), 1e-6);
}

// Probabilities far below the smallest normal number count as nothing, and do no harm.
TYPED_TEST(AttendExtremes, ProbabilitiesThatVanish) {
  std::vector<TypeParam> scores(100);
  for (std::size_t k = 0; k < scores.size(); ++k)
    scores[k] = static_cast<TypeParam>(-20.0 * static_cast<double>(k));
  Random random(7);
  const auto inputs = this->with_scores(scores, random);
  test::expect_attention(test::attend_matrices(inputs, NoMask{}, 1.0), inputs, {.scale = 1});
}

}  // namespace
}  // namespace heed
