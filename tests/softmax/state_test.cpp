// SPDX-License-Identifier: MIT
/// \file
/// The softmax state: what it says of the scores it took in, and how states merge.

#include "heed/softmax/state.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "support/random.hpp"     // Random
#include "support/tolerance.hpp"  // unit_roundoff

namespace heed {
namespace {

using test::Random;

template <class T>
class State : public testing::Test {
 protected:
  static constexpr T infinity = std::numeric_limits<T>::infinity();
  static constexpr T largest = std::numeric_limits<T>::max();
  static constexpr T nan = std::numeric_limits<T>::quiet_NaN();

  /// Takes the scores in one by one.
  static SoftmaxState<T> over(const std::vector<T>& scores) {
    SoftmaxState<T> state;
    for (const T score : scores) state.merge({score, T{1}});
    return state;
  }
  static SoftmaxState<T> merged(SoftmaxState<T> a, const SoftmaxState<T>& b) {
    a.merge(b);
    return a;
  }
  /// log sum exp of all scores, in a wider type.
  static double exact_lse(const std::vector<T>& scores) {
    long double row_max = -std::numeric_limits<long double>::infinity(), sum = 0;
    for (const T score : scores) row_max = std::max(row_max, static_cast<long double>(score));
    for (const T score : scores) sum += std::exp(static_cast<long double>(score) - row_max);
    return static_cast<double>(row_max + std::log(sum));
  }
  /// Per score a difference of up to 30 rounds, exp by two units in the last place, and the sum is
  /// multiplied by another exp and added to; then the logarithm, and its sum with the maximum.
  static double bound(std::size_t num_scores, double lse) {
    return test::unit_roundoff<T> *
           (30 + 4 + 6 * static_cast<double>(num_scores) + 3 * std::abs(lse));
  }
};
using Elements = testing::Types<float, double>;
TYPED_TEST_SUITE(State, Elements);

TYPED_TEST(State, OfNoScores) {
  const SoftmaxState<TypeParam> state;
  EXPECT_TRUE(state.empty());
  EXPECT_EQ(state.row_sum, 0);
  EXPECT_EQ(state.lse(), -this->infinity);
}

TYPED_TEST(State, IsTheLogSumExp) {
  Random random(1);
  for (const Index count : {1, 2, 5, 17, 30})
    for (const double deviation : {0.1, 1.0, 5.0}) {
      const auto scores = random.normals<TypeParam>(count, deviation);
      const double exact = this->exact_lse(scores);
      EXPECT_NEAR(static_cast<double>(this->over(scores).lse()), exact,
                  this->bound(scores.size(), exact));
    }
}

TYPED_TEST(State, OfOneScoreIsTheScore) {
  for (const TypeParam score :
       {TypeParam(0), TypeParam(-3.5), TypeParam(1e30), this->largest, -this->largest})
    EXPECT_EQ(this->over({score}).lse(), score);
}

TYPED_TEST(State, MergesToTheStateOverAll) {
  Random random(2);
  for (int i = 0; i < 50; ++i) {
    const auto a = random.normals<TypeParam>(random.integer(1, 20), 3),
               b = random.normals<TypeParam>(random.integer(1, 20), 3);
    auto all = a;
    all.insert(all.end(), b.begin(), b.end());
    const auto state = this->merged(this->over(a), this->over(b));
    const double exact = this->exact_lse(all);
    EXPECT_NEAR(static_cast<double>(state.lse()), exact, this->bound(all.size(), exact));
    EXPECT_EQ(state.row_max, this->over(all).row_max);
  }
}

// The factors bring sums of values with either's weights to the merged weights.
TYPED_TEST(State, MergeFactorsAreThoseOfTheSums) {
  SoftmaxState<TypeParam> low{TypeParam(1), TypeParam(2)}, high{TypeParam(4), TypeParam(3)};
  const auto factors = low.merge(high);
  EXPECT_EQ(factors.self, std::exp(TypeParam(-3)));
  EXPECT_EQ(factors.other, 1);
  EXPECT_NEAR(static_cast<double>(low.row_sum), 2 * std::exp(-3.0) + 3,
              6 * test::unit_roundoff<TypeParam> * 4);
  EXPECT_EQ(low.row_max, 4);
}

TYPED_TEST(State, MergeIsAssociativeAndCommutative) {
  Random random(3);
  for (int i = 0; i < 50; ++i) {
    const auto a = this->over(random.normals<TypeParam>(5, 4)),
               b = this->over(random.normals<TypeParam>(5, 4)),
               c = this->over(random.normals<TypeParam>(5, 4));
    const auto left = this->merged(this->merged(a, b), c);
    for (const auto& other :
         {this->merged(a, this->merged(b, c)), this->merged(this->merged(c, b), a),
          this->merged(b, this->merged(a, c))}) {
      EXPECT_EQ(other.row_max, left.row_max);
      // Two merges round the sum: an exp of two units in the last place, a product and a sum each.
      EXPECT_NEAR(static_cast<double>(other.row_sum / left.row_sum), 1,
                  2 * 2 * 6 * test::unit_roundoff<TypeParam>);
    }
  }
}

TYPED_TEST(State, TheEmptyStateIsTheIdentity) {
  const SoftmaxState<TypeParam> empty, some{TypeParam(-7), TypeParam(3)};
  for (const auto& state : {this->merged(some, empty), this->merged(empty, some)}) {
    EXPECT_EQ(state.row_max, some.row_max);
    EXPECT_EQ(state.row_sum, some.row_sum);
  }
  EXPECT_TRUE(this->merged(empty, empty).empty());
  SoftmaxState<TypeParam> left = some, right = empty;
  const auto kept = left.merge(empty), taken = right.merge(some);
  EXPECT_EQ(kept.self, 1);
  EXPECT_EQ(kept.other, 0);
  EXPECT_EQ(taken.self, 0);
  EXPECT_EQ(taken.other, 1);
}

TYPED_TEST(State, MergesMaximaOfAnySize) {
  for (const TypeParam low : {-this->largest, TypeParam(-1e30), TypeParam(0)})
    for (const TypeParam high : {TypeParam(1e30), this->largest}) {
      const SoftmaxState<TypeParam> a{low, TypeParam(5)}, b{high, TypeParam(2)};
      for (const auto& state : {this->merged(a, b), this->merged(b, a)}) {
        EXPECT_EQ(state.row_max, high);
        EXPECT_EQ(state.row_sum, 2);
      }
    }
}

TYPED_TEST(State, OfALogSumExpHasIt) {
  EXPECT_EQ(SoftmaxState<TypeParam>::of(TypeParam(-3)).lse(), TypeParam(-3));
  const auto nothing = SoftmaxState<TypeParam>::of(-std::numeric_limits<TypeParam>::infinity());
  EXPECT_TRUE(nothing.empty());
  EXPECT_EQ(nothing.row_sum, 0);
  EXPECT_TRUE(std::isnan(SoftmaxState<TypeParam>::of(this->nan).lse()));
}

// In the maximum or in the sum, on either side.
TYPED_TEST(State, NanStaysNan) {
  const SoftmaxState<TypeParam> some{TypeParam(1), TypeParam(2)};
  for (const TypeParam row_max : {TypeParam(1), this->nan}) {
    const SoftmaxState<TypeParam> bad{row_max, this->nan};
    EXPECT_TRUE(std::isnan(bad.lse()));
    EXPECT_TRUE(std::isnan(this->merged(some, bad).lse()));
    EXPECT_TRUE(std::isnan(this->merged(bad, some).lse()));
  }
  // A NaN maximum on either side reaches the merged sum of values, whatever the sums are.
  SoftmaxState<TypeParam> left = some, right{this->nan, TypeParam(1)};
  const auto a = left.merge({this->nan, TypeParam(1)}), b = right.merge(some);
  EXPECT_TRUE(std::isnan(a.self * 0 + a.other * 0));
  EXPECT_TRUE(std::isnan(b.self * 0 + b.other * 0));
}

}  // namespace
}  // namespace heed
