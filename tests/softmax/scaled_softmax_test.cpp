// SPDX-License-Identifier: MIT
/// \file
/// One step of the online softmax on one page, and steps over several, against the formula.

#include "heed/softmax/scaled_softmax.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "support/expect_attention.hpp"  // WorstError
#include "support/random.hpp"            // Random

namespace heed {
namespace {

using test::Random;

template <class T>
class SoftmaxStep : public testing::Test {
 protected:
  static constexpr Index n = simd::lanes<T>;
  static constexpr T infinity = std::numeric_limits<T>::infinity();
  static constexpr T nan = std::numeric_limits<T>::quiet_NaN();

  /// The vectors around the visible keys.
  static detail::VectorRange vectors_of(std::uint64_t visible) {
    return {std::countr_zero(visible) / n, (page_size - std::countl_zero(visible) + n - 1) / n};
  }
  static T step(std::vector<T>& scores, std::uint64_t visible, SoftmaxState<T>& state) {
    const detail::VectorRange vectors = vectors_of(visible);
    T carry = detail::raise_row_max(scores.data(), vectors, visible, Scale{0.5},
                                    {.head = 0, .q_row = 0, .kv_row = 0, .extent = {1, page_size}},
                                    state);
    detail::exponentiate_carries(&carry, 1);
    detail::exponentiate(scores.data(), vectors, carry, state, [&](Index key, const auto& probs) {
      simd::store(scores.data() + key, probs);
    });
    return carry;
  }
  static bool sees(std::uint64_t visible, Index i) { return (visible >> i & 1) != 0; }

  /// Masks of one page: all, one key, a range, and at random.
  static std::vector<std::uint64_t> masks(Random& random) {
    std::vector<std::uint64_t> result = {detail::all_visible, 1, std::uint64_t{1} << 63,
                                         std::uint64_t{1} << 17};
    for (int i = 0; i < 20; ++i) {
      const Index begin = random.integer(0, 63);
      result.push_back(detail::range_bits({begin, random.integer(begin + 1, 64)}, 0));
      result.push_back(result.back() &
                       static_cast<std::uint64_t>(random.integer(1, Index{1} << 62)) * 3);
      if (result.back() == 0) result.pop_back();
    }
    return result;
  }
};
using Elements = testing::Types<float, double>;
TYPED_TEST_SUITE(SoftmaxStep, Elements);

// exp errs by two units in the last place, the scaled score and its distance from the maximum round
// once.
TYPED_TEST(SoftmaxStep, MakesProbabilitiesOfAPage) {
  Random random(1);
  for (const std::uint64_t visible : this->masks(random)) {
    const auto before = random.normals<TypeParam>(page_size, 4);
    auto scores = before;
    SoftmaxState<TypeParam> state;
    EXPECT_EQ(this->step(scores, visible, state), 0);
    TypeParam row_max = -this->infinity;
    for (Index i = 0; i < page_size; ++i)
      if (this->sees(visible, i))
        row_max = std::max(row_max, before[static_cast<std::size_t>(i)] / 2);
    EXPECT_EQ(state.row_max, row_max);
    test::WorstError worst;
    long double sum = 0;
    const auto [begin, end] = this->vectors_of(visible);
    for (Index i = begin * this->n; i < end * this->n; ++i) {
      const TypeParam found = scores[static_cast<std::size_t>(i)];
      if (!this->sees(visible, i)) {
        EXPECT_EQ(found, 0) << i;
        continue;
      }
      const long double distance =
          static_cast<long double>(before[static_cast<std::size_t>(i)]) / 2 - row_max;
      const long double exact = std::exp(distance);
      sum += exact;
      const double roundings = 4 + 2 * static_cast<double>(-distance);
      worst.compare(found, exact,
                    static_cast<double>(exact) * roundings * test::unit_roundoff<TypeParam>,
                    [&](auto& words) { words << "key " << i; });
    }
    worst.compare(state.row_sum, sum,
                  static_cast<double>(sum) * (page_size + 40) * test::unit_roundoff<TypeParam>,
                  [](auto& words) { words << "row_sum"; });
    worst.expect_within_bounds();
  }
}

// Page after page, the carry brings what was summed to the new maximum.
TYPED_TEST(SoftmaxStep, CarriesWhatWasSummed) {
  Random random(2);
  SoftmaxState<TypeParam> state;
  std::vector<TypeParam> seen;
  TypeParam carried_sum = 0;  // of the probabilities, as a sum of values would be carried
  for (int page = 0; page < 6; ++page) {
    auto scores = random.normals<TypeParam>(page_size, 1 + page);
    seen.insert(seen.end(), scores.begin(), scores.end());
    const TypeParam carry = this->step(scores, detail::all_visible, state);
    carried_sum *= carry;
    for (const TypeParam prob : scores) carried_sum += prob;
    EXPECT_EQ(state.row_max, *std::ranges::max_element(seen) / 2);
  }
  long double sum = 0;
  for (const TypeParam score : seen)
    sum += std::exp(static_cast<long double>(score) / 2 - state.row_max);
  const double bound = static_cast<double>(sum) * static_cast<double>(seen.size() + 40) *
                       test::unit_roundoff<TypeParam>;
  EXPECT_NEAR(static_cast<double>(state.row_sum), static_cast<double>(sum), bound);
  EXPECT_NEAR(static_cast<double>(carried_sum), static_cast<double>(sum), bound);
}

// Whole vectors of rows and the rows that are left alike, or a row's bits would depend on the rows
// beside it.
TYPED_TEST(SoftmaxStep, CarriesAreTheSameForAnyNumberOfRows) {
  Random random(4);
  for (Index rows = 0; rows <= 2 * this->n + 1; ++rows) {
    auto logarithms = random.normals<TypeParam>(rows, 5);
    for (Index r = 0; r < rows; ++r) {
      TypeParam& x = logarithms[static_cast<std::size_t>(r)];
      x = r % 5 == 0 ? TypeParam(0) : r % 7 == 3 ? -this->infinity : -std::abs(x);
    }
    auto together = logarithms;
    together.push_back(TypeParam(-3));  // beyond the last row, not to be touched
    detail::exponentiate_carries(together.data(), rows);
    EXPECT_EQ(together.back(), -3);
    for (Index r = 0; r < rows; ++r) {
      TypeParam alone = logarithms[static_cast<std::size_t>(r)];
      const TypeParam found = together[static_cast<std::size_t>(r)];
      const auto exact = std::exp(static_cast<long double>(alone));
      EXPECT_NEAR(static_cast<double>(found), static_cast<double>(exact),
                  static_cast<double>(exact) * (4 - 2 * std::max(-1e3, double{alone})) *
                      test::unit_roundoff<TypeParam>);
      if (alone == 0) {
        EXPECT_EQ(found, 1);
      }
      detail::exponentiate_carries(&alone, 1);
      EXPECT_EQ(alone, found);
    }
  }
}

TYPED_TEST(SoftmaxStep, ScoresOfMinusInfinityLeaveTheStateEmpty) {
  std::vector<TypeParam> scores(page_size, -this->infinity);
  SoftmaxState<TypeParam> state;
  this->step(scores, detail::all_visible, state);
  EXPECT_TRUE(state.empty());
  EXPECT_EQ(state.row_sum, 0);
  EXPECT_EQ(scores, std::vector<TypeParam>(page_size, 0));

  state = {TypeParam(1), TypeParam(2)};
  scores.assign(page_size, -this->infinity);
  EXPECT_EQ(this->step(scores, detail::all_visible, state), 1);
  EXPECT_EQ(state.row_max, 1);
  EXPECT_EQ(state.row_sum, 2);
}

TYPED_TEST(SoftmaxStep, HiddenScoresMayBeAnything) {
  Random random(3);
  for (const std::uint64_t visible : this->masks(random)) {
    const auto clean = random.normals<TypeParam>(page_size);
    auto expected = clean, found = clean;
    for (Index i = 0; i < page_size; ++i)
      if (!this->sees(visible, i))
        found[static_cast<std::size_t>(i)] = i % 2 == 0 ? this->nan : this->infinity;
    SoftmaxState<TypeParam> state, poisoned;
    this->step(expected, visible, state);
    this->step(found, visible, poisoned);
    EXPECT_EQ(poisoned.row_max, state.row_max);
    EXPECT_EQ(poisoned.row_sum, state.row_sum);
    const auto [begin, end] = this->vectors_of(visible);
    EXPECT_TRUE(std::equal(found.begin() + begin * this->n, found.begin() + end * this->n,
                           expected.begin() + begin * this->n));
  }
}

// In any lane, above or below the other scores, on the first page or a later one, NaN and inf stay.
TYPED_TEST(SoftmaxStep, VisibleNanAndInfinityMakeTheStateNan) {
  for (const TypeParam bad : {this->nan, this->infinity})
    for (Index at = 0; at < page_size; ++at)
      for (const SoftmaxState<TypeParam>& before :
           {SoftmaxState<TypeParam>{}, SoftmaxState<TypeParam>{TypeParam(100), TypeParam(1)}}) {
        std::vector<TypeParam> scores(page_size, TypeParam(1));
        scores[static_cast<std::size_t>(at)] = bad;
        SoftmaxState<TypeParam> state = before;
        this->step(scores, detail::all_visible, state);
        EXPECT_TRUE(std::isnan(state.lse())) << at;
        scores.assign(page_size, TypeParam(1));
        EXPECT_TRUE(std::isnan(this->step(scores, detail::all_visible, state)))
            << "a later page carries it on";
        EXPECT_TRUE(std::isnan(state.lse())) << at;
      }
}

}  // namespace
}  // namespace heed
