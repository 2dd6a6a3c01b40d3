// SPDX-License-Identifier: MIT
/// \file
/// merge: attention over parts of the keys becomes attention over all of them.

#include "heed/attention/merge.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "support/attention_case.hpp"    // normal_inputs, attend_matrices
#include "support/expect_attention.hpp"  // expect_attention, WorstError

namespace heed {
namespace {

using test::AttentionInputs;
using test::AttentionResult;
using test::AttentionShape;
using test::middle_rows;
using test::Random;
using test::view;

template <class T>
RowsView<const T> lse_of(const AttentionResult<T>& result) {
  return {result.lse.data.data(), result.lse.heads, result.lse.rows};
}

template <class T>
AttentionResult<T> merged(const AttentionResult<T>& a, const AttentionResult<T>& b) {
  AttentionResult<T> result(a.out.heads, a.out.rows, a.out.cols);
  merge(view(a.out), lse_of(a), view(b.out), lse_of(b), view(result.out), result.lse_view());
  return result;
}

/// Attention over the keys begin .. end alone.
template <class T>
AttentionResult<T> attend_part(const AttentionInputs<T>& inputs, Index begin, Index end) {
  const AttentionInputs<T> part{inputs.query, middle_rows(inputs.key, begin, end - begin),
                                middle_rows(inputs.value, begin, end - begin)};
  return test::attend_matrices(part, NoMask{}, 0.25);
}

template <class T>
class Merge : public testing::Test {
 protected:
  static AttentionInputs<T> inputs(Index seqlen_kv) {
    Random random(1);
    return test::normal_inputs<T>(
        {.num_heads = 3, .num_kv_heads = 1, .seqlen_q = 4, .seqlen_kv = seqlen_kv, .head_dim_v = 9},
        random);
  }
  static void expect_whole(const AttentionResult<T>& result, const AttentionInputs<T>& all) {
    test::expect_attention(result, all, {.scale = 0.25});
  }
  /// Equal up to the roundings of a merge: exp of a difference, product, sum, division, and log.
  static void expect_close(const AttentionResult<T>& a, const AttentionResult<T>& b) {
    test::WorstError worst;
    const auto largest = [](const std::vector<T>& x) {
      T result = 0;
      for (const T element : x) result = std::max(result, std::abs(element));
      return static_cast<double>(result);
    };
    const double lse = largest(a.lse.data), out = largest(a.out.data);
    const double roundings = 10 + 4 * lse;
    for (std::size_t i = 0; i < a.out.data.size(); ++i)
      worst.compare(a.out.data[i], b.out.data[i], roundings * out * test::unit_roundoff<T>,
                    [&](auto& words) { words << "out " << i; });
    for (std::size_t i = 0; i < a.lse.data.size(); ++i)
      worst.compare(a.lse.data[i], b.lse.data[i], roundings * test::unit_roundoff<T>,
                    [&](auto& words) { words << "lse " << i; });
    worst.expect_within_bounds();
  }
};
using Elements = testing::Types<float, double>;
TYPED_TEST_SUITE(Merge, Elements);

TYPED_TEST(Merge, HalvesAreTheWhole) {
  for (const Index seqlen_kv : {2, 65, 200, 3000}) {
    const auto all = this->inputs(seqlen_kv);
    for (const Index cut : {Index{1}, seqlen_kv / 2, seqlen_kv - 1})
      this->expect_whole(merged(attend_part(all, 0, cut), attend_part(all, cut, seqlen_kv)), all);
  }
}

TYPED_TEST(Merge, ThreePartsInAnyOrderAndGrouping) {
  const auto all = this->inputs(150);
  const auto a = attend_part(all, 0, 20), b = attend_part(all, 20, 21),
             c = attend_part(all, 21, 150);
  const auto left = merged(merged(a, b), c);
  this->expect_whole(left, all);
  for (const auto& other :
       {merged(a, merged(b, c)), merged(merged(c, a), b), merged(b, merged(c, a))})
    this->expect_close(other, left);
}

TYPED_TEST(Merge, IsCommutative) {
  const auto all = this->inputs(100);
  const auto a = attend_part(all, 0, 30), b = attend_part(all, 30, 100);
  this->expect_close(merged(a, b), merged(b, a));
}

TYPED_TEST(Merge, AnEmptyPartChangesNothing) {
  const auto all = this->inputs(100);
  const auto whole = attend_part(all, 0, 100), empty = attend_part(all, 100, 100);
  EXPECT_EQ(merged(whole, empty), whole);
  EXPECT_EQ(merged(empty, whole), whole);
  EXPECT_EQ(merged(empty, empty), empty);
}

TYPED_TEST(Merge, IntoAnInput) {
  const auto all = this->inputs(100);
  const auto a = attend_part(all, 0, 30), b = attend_part(all, 30, 100);
  const auto expected = merged(a, b);
  auto into_a = a, into_b = b;
  merge(view(into_a.out), into_a.lse_view(), view(b.out), lse_of(b), view(into_a.out),
        into_a.lse_view());
  EXPECT_EQ(into_a, expected);
  merge(view(a.out), lse_of(a), view(into_b.out), into_b.lse_view(), view(into_b.out),
        into_b.lse_view());
  EXPECT_EQ(into_b, expected);
}

TYPED_TEST(Merge, PartsOfAnySize) {
  const TypeParam largest = std::numeric_limits<TypeParam>::max();
  for (const TypeParam lse : {TypeParam(0), TypeParam(1e4), TypeParam(1e30), largest, -largest}) {
    AttentionResult<TypeParam> a(1, 1, 2), b(1, 1, 2);
    a.out.data = {1, 2};
    b.out.data = {3, 6};
    a.lse.data = b.lse.data = {lse};
    EXPECT_EQ(merged(a, b).out.data, (std::vector<TypeParam>{2, 4}));  // equal weights
    a.lse.data = {-largest};
    if (lse == -largest) continue;
    EXPECT_EQ(merged(a, b), b);  // all weight on one
    EXPECT_EQ(merged(b, a), b);
  }
}

TYPED_TEST(Merge, NanReachesItsRowAndNoOther) {
  const auto all = this->inputs(100);
  const auto a = attend_part(all, 0, 30), b = attend_part(all, 30, 100);
  const auto clean = merged(a, b);
  auto bad = b;
  bad.lse(1, 2, 0) = std::numeric_limits<TypeParam>::quiet_NaN();
  bad.out(2, 0, 3) = std::numeric_limits<TypeParam>::quiet_NaN();
  for (const auto& result : {merged(a, bad), merged(bad, a)})
    for (Index head = 0; head < 3; ++head)
      for (Index q_row = 0; q_row < 4; ++q_row) {
        const bool row_is_nan = head == 1 && q_row == 2;
        EXPECT_EQ(std::isnan(result.lse(head, q_row, 0)), row_is_nan);
        for (Index c = 0; c < 9; ++c)
          EXPECT_EQ(std::isnan(result.out(head, q_row, c)),
                    row_is_nan || (head == 2 && q_row == 0 && c == 3));
      }
  EXPECT_EQ(merged(a, bad).out(0, 0, 0), clean.out(0, 0, 0));
}

}  // namespace
}  // namespace heed
