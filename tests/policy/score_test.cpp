// SPDX-License-Identifier: MIT
/// \file
/// Score policies, lane by lane, against their scalar formulas.

#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "heed/policy/score_chain.hpp"
#include "support/expect_attention.hpp"  // WorstError, score_terms
#include "support/score_cases.hpp"       // for_each_score, HalvedWithStripes

namespace heed {
namespace {

using test::AttentionShape;
using test::Exact;
using test::Random;

template <class T>
class ScorePolicies : public testing::Test {};
using Elements = testing::Types<float, double>;
TYPED_TEST_SUITE(ScorePolicies, Elements);

/// `policy` on every vector of every row, scores of `size`, against `formula`.
template <class T, class Policy>
void expect_formula(const AttentionShape& shape, const Policy& policy,
                    const reference::Score<Exact<T>>& formula, double size, Random& random) {
  constexpr Index n = simd::lanes<T>;
  const MaskExtent extent{shape.seqlen_q, shape.seqlen_kv};
  policy.check("test", shape.num_heads, extent);
  test::WorstError worst;
  for (Index head = 0; head < shape.num_heads; ++head)
    for (Index q_row = 0; q_row < shape.seqlen_q; ++q_row)
      for (Index k = 0; k < shape.seqlen_kv; k += n) {
        const Index position = extent.query_position(q_row);
        const std::vector<T> dots = random.normals<T>(n, size);
        T found[n];
        simd::store(found,
                    policy.template apply<T>(simd::load(dots.data()), {head, q_row, k, extent}));
        for (Index i = 0; i < n && k + i < shape.seqlen_kv; ++i) {
          const auto dot = static_cast<Exact<T>>(dots[static_cast<std::size_t>(i)]);
          const Exact<T> exact = formula(dot, head, q_row, k + i, position);
          // Scale, cap and 1 / cap are rounded themselves; then two products, tanh (two units in
          // the last place), a third product, and a sum for each of ALiBi, bias and custom
          // function.
          constexpr double roundings = 12;
          const double terms =
              test::score_terms(formula, formula.scale * dot, head, q_row, k + i, position);
          worst.compare(found[i], exact, roundings * test::unit_roundoff<T> * terms,
                        [&](auto& words) {
                          words << "head " << head << ", q_row " << q_row << ", kv_row " << k + i;
                        });
        }
      }
  worst.expect_within_bounds();
}

TYPED_TEST(ScorePolicies, AreTheirFormulas) {
  Random random(1);
  for (const Index seqlen_q : {1, 3, 40})
    for (const Index seqlen_kv : {1, 7, 15, 16, 17, 70}) {
      const AttentionShape shape{
          .num_heads = 3, .num_kv_heads = 3, .seqlen_q = seqlen_q, .seqlen_kv = seqlen_kv};
      test::for_each_score<TypeParam>(
          shape, random, [&](const char* name, const auto& score, const auto& formula) {
            SCOPED_TRACE(std::string(name) + " on " + shape.text());
            for (const double size : {0.01, 1.0, 100.0, 1e4})
              expect_formula<TypeParam>(shape, detail::as_score_policy(score), formula, size,
                                        random);
          });
    }
}

// Softcap bounds any score, and passes small ones on.
TYPED_TEST(ScorePolicies, SoftcapIsBounded) {
  constexpr Index n = simd::lanes<TypeParam>;
  const auto capped = [](TypeParam score) {
    TypeParam lane[n];
    simd::store(lane, Softcap{30}.apply<TypeParam>(simd::broadcast(score), {}));
    return lane[0];
  };
  const TypeParam infinity = std::numeric_limits<TypeParam>::infinity();
  for (const TypeParam score : {TypeParam(1e3), TypeParam(1e30), infinity}) {
    EXPECT_EQ(capped(score), TypeParam(30));
    EXPECT_EQ(capped(-score), TypeParam(-30));
  }
  const double cubic_term = 1e-9 / (3 * 30 * 30);
  EXPECT_NEAR(static_cast<double>(capped(TypeParam(1e-3))), 1e-3 - cubic_term,
              1e-3 * 7 * test::unit_roundoff<TypeParam>);
  EXPECT_TRUE(std::isnan(capped(std::numeric_limits<TypeParam>::quiet_NaN())));
}

// A chain goes from left to right: scaled, then capped, is not capped, then scaled.
TYPED_TEST(ScorePolicies, ChainsGoFromLeftToRight) {
  constexpr Index n = simd::lanes<TypeParam>;
  const auto apply = [](const auto& policy) {
    TypeParam lane[n];
    simd::store(lane, policy.template apply<TypeParam>(simd::broadcast(TypeParam(1000)), {}));
    return lane[0];
  };
  EXPECT_EQ(apply(chain(Scale{10}, Softcap{30})), TypeParam(30));
  EXPECT_EQ(apply(chain(Softcap{30}, Scale{10})), TypeParam(300));
  EXPECT_EQ(apply(chain()), TypeParam(1000));
  EXPECT_EQ(apply(chain(chain(Scale{2}, Scale{3}), Scale{5})), TypeParam(30'000));
}

// CustomScore sees each pair once, with the positions of MaskExtent.
TYPED_TEST(ScorePolicies, CustomScoreIsToldWhereItStands) {
  constexpr Index n = simd::lanes<TypeParam>;
  std::vector<Index> keys;
  const CustomScore score{
      [&](TypeParam value, Index head, Index query_position, Index key_position) {
        EXPECT_EQ(head, 5);
        EXPECT_EQ(query_position, 100 - 10 + 3);
        keys.push_back(key_position);
        return value;
      }};
  score.template apply<TypeParam>(simd::broadcast(TypeParam(1)),
                                  {.head = 5, .q_row = 3, .kv_row = 99, .extent = {10, 100}});
  EXPECT_EQ(keys, std::vector<Index>{99});  // the other lanes are beyond the last key
  keys.clear();
  score.template apply<TypeParam>(simd::broadcast(TypeParam(1)),
                                  {.head = 5, .q_row = 3, .kv_row = 16, .extent = {10, 100}});
  EXPECT_EQ(std::ssize(keys), n);
  EXPECT_EQ(keys.front(), 16);
}

// The slopes that Press et al. print, and those their code gives for other numbers of heads.
TYPED_TEST(ScorePolicies, AlibiSlopesAreThePublishedOnes) {
  const auto expect_slopes = [](Index num_heads, const std::vector<double>& exponents) {
    const auto slopes = alibi_slopes<TypeParam>(num_heads);
    ASSERT_EQ(slopes.size(), exponents.size());
    for (std::size_t i = 0; i < slopes.size(); ++i) {
      const double exact = std::pow(2.0, -exponents[i]);
      EXPECT_NEAR(static_cast<double>(slopes[i]), exact, 2 * test::unit_roundoff<TypeParam> * exact)
          << num_heads << " heads, " << i;
    }
  };
  expect_slopes(0, {});
  expect_slopes(1, {8});
  expect_slopes(2, {4, 8});
  expect_slopes(3, {4, 8, 2});
  expect_slopes(6, {2, 4, 6, 8, 1, 3});
  expect_slopes(8, {1, 2, 3, 4, 5, 6, 7, 8});  // 1/2, 1/4, ... 1/256
  expect_slopes(12, {1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5, 3.5});
  expect_slopes(16, {0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6, 6.5, 7, 7.5, 8});
  EXPECT_EQ(alibi_slopes<TypeParam>(8).front(), TypeParam(0.5));
}

struct NoApply {
  void check(std::string_view, Index, const MaskExtent&) const {}
};
static_assert(ScorePolicy<Scale, float> && ScorePolicy<Softcap, double> &&
              ScorePolicy<Alibi<float>, float>);
static_assert(ScorePolicy<test::Negated, float> && !ScorePolicy<NoApply, float> &&
              !ScorePolicy<CausalMask, float>);

}  // namespace
}  // namespace heed
