// SPDX-License-Identifier: MIT
/// \file
/// attend with every score policy, and with sinks, against the formula.

#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "heed/attention/attend.hpp"
#include "support/attention_case.hpp"    // normal_inputs, attend_matrices
#include "support/expect_attention.hpp"  // expect_attention
#include "support/score_cases.hpp"       // for_each_score

namespace heed {
namespace {

using test::AttentionShape;
using test::Random;

/// Every policy on one shape, causal.
template <class T>
void check_scores(const AttentionShape& shape, std::uint64_t seed) {
  Random random(seed);
  const auto inputs = test::normal_inputs<T>(shape, random);
  test::for_each_score<T>(
      shape, random, [&](const char* name, const auto& score, const auto& formula) {
        SCOPED_TRACE(std::string(name) + " on " + shape.text());
        test::expect_attention(test::attend_matrices(inputs, CausalMask{}, score), inputs, formula,
                               test::causal_on(shape));
      });
}

template <class T>
class AttendScores : public testing::Test {};
using Elements = testing::Types<float, double>;
TYPED_TEST_SUITE(AttendScores, Elements);

TYPED_TEST(AttendScores, Training) {
  check_scores<TypeParam>({.num_heads = 6, .num_kv_heads = 2, .seqlen_q = 70, .seqlen_kv = 70}, 1);
}

TYPED_TEST(AttendScores, Decode) {
  for (const Index seqlen_kv : {1, 15, 17, 64, 65, 100})
    check_scores<TypeParam>(
        {.num_heads = 6, .num_kv_heads = 2, .seqlen_q = 1, .seqlen_kv = seqlen_kv},
        static_cast<std::uint64_t>(seqlen_kv));
}

TYPED_TEST(AttendScores, RandomLengths) {
  Random random(2);
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    const Index num_kv_heads = random.integer(1, 3);
    check_scores<TypeParam>({.num_heads = num_kv_heads * random.integer(1, 3),
                             .num_kv_heads = num_kv_heads,
                             .seqlen_q = random.integer(1, 40),
                             .seqlen_kv = random.integer(1, 140),
                             .head_dim = 9,
                             .head_dim_v = 5},
                            seed);
  }
}

// In a chain as by itself, a number is a scale. (A scale that comes first is worked into the
// queries, one that comes later is not.)
TYPED_TEST(AttendScores, ANumberInAChainIsAScale) {
  Random random(5);
  const auto inputs = test::normal_inputs<TypeParam>(
      {.num_heads = 2, .num_kv_heads = 1, .seqlen_q = 5, .seqlen_kv = 70}, random);
  const auto attended = [&](const auto& score) {
    return test::attend_matrices(inputs, CausalMask{}, score);
  };
  EXPECT_EQ(attended(chain(0.3, Softcap{2})), attended(chain(Scale{0.3}, Softcap{2})));
  EXPECT_EQ(attended(chain(Softcap{2}, 3.0F)), attended(chain(Softcap{2}, Scale{3})));
  EXPECT_EQ(attended(chain(0.3)), attended(0.3));
  // By powers of two nothing is rounded, wherever it comes.
  EXPECT_EQ(
      attended(chain(0.25, Softcap{2})),
      attended(chain(CustomScore([](auto x, Index, Index, Index) { return x / 4; }), Softcap{2})));
}

TYPED_TEST(AttendScores, Sinks) {
  for (const Index seqlen_q : {1, 30})
    for (const Index seqlen_kv : {0, 1, 29, 90, 2100}) {
      const AttentionShape shape{
          .num_heads = 4, .num_kv_heads = 2, .seqlen_q = seqlen_q, .seqlen_kv = seqlen_kv};
      SCOPED_TRACE(shape.text());
      Random random(3);
      auto inputs = test::normal_inputs<TypeParam>(shape, random);
      inputs.sinks = {TypeParam(-2), TypeParam(0), TypeParam(3.5), TypeParam(11)};
      const auto result = test::attend_matrices(inputs, CausalMask{}, shape.softmax_scale());
      test::expect_attention(result, inputs,
                             {.scale = static_cast<test::Exact<TypeParam>>(shape.softmax_scale())},
                             test::causal_on(shape));

      // The log-sum-exp is that of the keys alone, and a sink of -inf is none.
      auto without = inputs;
      without.sinks.clear();
      const auto keys_alone = test::attend_matrices(without, CausalMask{}, shape.softmax_scale());
      EXPECT_EQ(result.lse.data, keys_alone.lse.data);
      inputs.sinks.assign(4, -std::numeric_limits<TypeParam>::infinity());
      EXPECT_EQ(test::attend_matrices(inputs, CausalMask{}, shape.softmax_scale()), keys_alone);
    }
}

// Whatever the row's scores, a sink far above them takes all, and one far below them nothing.
TEST(AttendSinks, OfAnySize) {
  const AttentionShape shape{.seqlen_q = 3, .seqlen_kv = 70};
  Random random(4);
  auto inputs = test::normal_inputs<float>(shape, random);
  const auto without = test::attend_matrices(inputs, NoMask{}, 1.0);
  for (const float sink : {-1e30F, -1e4F}) {
    inputs.sinks = {sink};
    EXPECT_EQ(test::attend_matrices(inputs, NoMask{}, 1.0), without);
  }
  for (const float sink : {1e4F, 1e30F, std::numeric_limits<float>::max()}) {
    inputs.sinks = {sink};
    const auto result = test::attend_matrices(inputs, NoMask{}, 1.0);
    EXPECT_EQ(result.out.data, std::vector<float>(result.out.data.size(), 0.0F));
    EXPECT_EQ(result.lse.data, without.lse.data);
  }
}

// Positions count from the last key on, so a policy says the same at train and at decode time.
TEST(AttendScorePositions, AreThoseOfTheSequence) {
  const AttentionShape shape{.num_heads = 4, .num_kv_heads = 4, .seqlen_q = 40, .seqlen_kv = 40};
  Random random(5);
  const auto inputs = test::normal_inputs<float>(shape, random);
  const std::vector<float> slopes = alibi_slopes<float>(4);
  const auto score =
      chain(Scale{0.25}, Alibi<float>{slopes}, CustomScore{test::HalvedWithStripes{}});
  const auto whole = test::attend_matrices(inputs, CausalMask{}, score);
  for (Index row = 0; row < 40; ++row) {
    const test::AttentionInputs<float> step{test::middle_rows(inputs.query, row, 1),
                                            test::middle_rows(inputs.key, 0, row + 1),
                                            test::middle_rows(inputs.value, 0, row + 1)};
    EXPECT_EQ(test::attend_matrices(step, CausalMask{}, score).out.data,
              test::middle_rows(whole.out, row, 1).data);
  }
}

}  // namespace
}  // namespace heed
