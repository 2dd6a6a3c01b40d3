// SPDX-License-Identifier: MIT
/// \file
/// attend under every mask against the formula, at train and at decode time.

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "heed/attention/attend.hpp"
#include "support/attention_case.hpp"    // normal_inputs, attend_matrices
#include "support/expect_attention.hpp"  // expect_attention
#include "support/mask_cases.hpp"        // for_each_mask

namespace heed {
namespace {

using test::AttentionShape;
using test::Random;

/// Every mask on one shape.
template <class T>
void check_masks(const AttentionShape& shape, std::uint64_t seed) {
  Random random(seed);
  const auto inputs = test::normal_inputs<T>(shape, random);
  const double scale = shape.softmax_scale();
  const MaskExtent extent{shape.seqlen_q, shape.seqlen_kv};
  test::for_each_mask(extent, shape.num_heads, random,
                      [&](const char* name, const auto& mask, const reference::Visible& visible) {
                        SCOPED_TRACE(std::string(name) + " on " + shape.text());
                        const auto result = test::attend_matrices(inputs, mask, scale);
                        test::expect_attention(
                            result, inputs, {.scale = static_cast<test::Exact<T>>(scale)}, visible);
                      });
}

TEST(AttendMasks, Training) {
  check_masks<float>({.num_heads = 6,
                      .num_kv_heads = 2,
                      .seqlen_q = 70,
                      .seqlen_kv = 70,
                      .head_dim = 8,
                      .head_dim_v = 8},
                     1);
  check_masks<float>({.num_heads = 1,
                      .num_kv_heads = 1,
                      .seqlen_q = 200,
                      .seqlen_kv = 200,
                      .head_dim = 5,
                      .head_dim_v = 3},
                     2);
  check_masks<double>({.num_heads = 3,
                       .num_kv_heads = 3,
                       .seqlen_q = 65,
                       .seqlen_kv = 65,
                       .head_dim = 8,
                       .head_dim_v = 8},
                      3);
}

TEST(AttendMasks, Decode) {
  for (const Index seqlen_kv : {1, 2, 63, 64, 65, 128, 150})
    check_masks<float>({.num_heads = 6,
                        .num_kv_heads = 2,
                        .seqlen_q = 1,
                        .seqlen_kv = seqlen_kv,
                        .head_dim = 8,
                        .head_dim_v = 8},
                       static_cast<std::uint64_t>(seqlen_kv));
}

TEST(AttendMasks, RandomLengths) {
  Random random(4);
  for (std::uint64_t seed = 0; seed < 15; ++seed) {
    const Index num_kv_heads = random.integer(1, 3);
    check_masks<float>({.num_heads = num_kv_heads * random.integer(1, 3),
                        .num_kv_heads = num_kv_heads,
                        .seqlen_q = random.integer(1, 80),
                        .seqlen_kv = random.integer(1, 200),
                        .head_dim = 7,
                        .head_dim_v = 4},
                       seed);
  }
}

/// Rows that a mask leaves no key give 0 and -inf; their neighbours in the tile do not notice.
template <class Mask>
void expect_empty_rows(const AttentionShape& shape, const Mask& mask,
                       const reference::Visible& visible) {
  SCOPED_TRACE(shape.text());
  Random random(5);
  const auto inputs = test::normal_inputs<float>(shape, random);
  const auto result = test::attend_matrices(inputs, mask, 0.25);
  test::expect_attention(result, inputs, {.scale = 0.25}, visible);
  Index empty = 0;
  for (Index q_row = 0; q_row < shape.seqlen_q; ++q_row) {
    bool any = false;
    for (Index k = 0; k < shape.seqlen_kv; ++k) any = any || visible(0, q_row, k);
    if (any) continue;
    ++empty;
    for (Index head = 0; head < shape.num_heads; ++head) {
      EXPECT_EQ(result.lse(head, q_row, 0), -std::numeric_limits<float>::infinity());
      for (Index c = 0; c < shape.head_dim_v; ++c) EXPECT_EQ(result.out(head, q_row, c), 0.0F);
    }
  }
  EXPECT_GT(empty, 0);
}

TEST(AttendMasks, RowsThatSeeNoKey) {
  for (const Index seqlen_q : {1, 2, 7, 100})
    for (const Index seqlen_kv : {1, 64, 100, 3000})
      expect_empty_rows({.num_heads = 2, .seqlen_q = seqlen_q, .seqlen_kv = seqlen_kv},
                        PaddingMask{5, 5}, [](Index, Index, Index) { return false; });
  const auto second_only = [](Index query, Index key) { return query % 2 == 1 && key > 70; };
  expect_empty_rows({.num_heads = 2, .seqlen_q = 20, .seqlen_kv = 100}, CustomMask{second_only},
                    [&](Index, Index q_row, Index k) { return second_only(80 + q_row, k); });
  expect_empty_rows({.num_heads = 2, .seqlen_q = 30, .seqlen_kv = 20}, CausalMask{},
                    [](Index, Index q_row, Index k) { return k <= q_row - 10; });
}

/// Odd rows see `odd`, the others every key.
struct OddRowsSee {
  KeyRange odd;
  KeyRange visible(Index q_row, const MaskExtent& extent) const {
    return q_row % 2 == 1 ? odd : KeyRange{0, extent.seqlen_kv};
  }
};

// However far a mask's range is from the keys there are.
TEST(AttendMasks, RangesOutsideOfAllKeysAreEmpty) {
  constexpr Index least = std::numeric_limits<Index>::min(),
                  most = std::numeric_limits<Index>::max();
  const auto even = [](Index, Index q_row, Index) { return q_row % 2 == 0; };
  for (const KeyRange odd :
       {KeyRange{0, least}, KeyRange{least, least}, KeyRange{least, least + 1},
        KeyRange{most, least}, KeyRange{most, most}, KeyRange{200, most}, KeyRange{least, 0}}) {
    SCOPED_TRACE(std::to_string(odd.begin) + " to " + std::to_string(odd.end));
    const AttentionShape shape{.num_heads = 2, .seqlen_q = 4, .seqlen_kv = 200};
    expect_empty_rows(shape, OddRowsSee{odd}, even);
    expect_empty_rows(shape, both(NoMask{}, OddRowsSee{odd}), even);
  }
}

}  // namespace
}  // namespace heed
