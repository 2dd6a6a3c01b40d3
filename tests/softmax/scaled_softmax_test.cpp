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
    const T factor =
        detail::raise_row_max(scores.data(), vectors, visible, Scale{0.5},
                              {.head = 0, .q_row = 0, .kv_row = 0, .extent = {1, page_size}},
                              detail::most_above_row_max, state);
    state.row_sum *= factor;
    detail::exponentiate(scores.data(), vectors, state, [&](Index key, const auto& probs) {
      simd::store(scores.data() + key, probs);
    });
    return factor;
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
    EXPECT_EQ(this->step(scores, visible, state), 1);
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

// Page after page, the factor brings what was summed to the new maximum, which follows scores that
// are larger by more than most_above_row_max and no others.
TYPED_TEST(SoftmaxStep, RescalesWhatWasSummed) {
  Random random(2);
  SoftmaxState<TypeParam> state;
  std::vector<TypeParam> seen;
  TypeParam rescaled_sum = 0;  // of the probabilities, as a sum of values would be rescaled
  int raised = 0;
  for (int page = 0; page < 12; ++page) {
    auto scores = random.normals<TypeParam>(page_size, 1 + page);
    seen.insert(seen.end(), scores.begin(), scores.end());
    const TypeParam before = state.row_max;
    const TypeParam factor = this->step(scores, detail::all_visible, state);
    rescaled_sum *= factor;
    for (const TypeParam prob : scores) rescaled_sum += prob;
    const TypeParam largest = *std::ranges::max_element(seen) / 2;
    const bool grew = largest > before + detail::most_above_row_max;
    EXPECT_EQ(state.row_max, grew ? largest : before);
    EXPECT_EQ(factor, grew && page > 0 ? std::exp(before - largest) : 1);
    raised += grew;
  }
  EXPECT_GT(raised, 2);
  EXPECT_LT(raised, 12);
  long double sum = 0;
  for (const TypeParam score : seen)
    sum += std::exp(static_cast<long double>(score) / 2 - state.row_max);
  const double bound = static_cast<double>(sum) * static_cast<double>(seen.size() + 40) *
                       test::unit_roundoff<TypeParam>;
  EXPECT_NEAR(static_cast<double>(state.row_sum), static_cast<double>(sum), bound);
  EXPECT_NEAR(static_cast<double>(rescaled_sum), static_cast<double>(sum), bound);
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
        EXPECT_TRUE(std::isnan(state.row_max)) << at << ", or the state might be empty";
        EXPECT_TRUE(std::isnan(state.lse())) << at;
        scores.assign(page_size, TypeParam(1));
        this->step(scores, detail::all_visible, state);
        EXPECT_TRUE(std::isnan(state.lse())) << at << ", after a later page";
      }
}

}  // namespace
}  // namespace heed
