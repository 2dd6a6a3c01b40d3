// SPDX-License-Identifier: MIT
/// \file
/// What every mask lets be seen, pair by pair, against its definition.

#include "heed/policy/mask.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "heed/policy/mask_element.hpp"
#include "support/mask_cases.hpp"  // for_each_mask
#include "support/random.hpp"      // Random

namespace heed {
namespace {

constexpr bool same(KeyRange a, KeyRange b) { return a.begin == b.begin && a.end == b.end; }
static_assert(KeyRange{}.empty() && KeyRange{5, 3}.empty() && !KeyRange{3, 5}.empty());
static_assert(KeyRange{5, 3}.size() == 0 && KeyRange{3, 5}.size() == 2);
static_assert(KeyRange{3, 5}.contains(3) && !KeyRange{3, 5}.contains(5));
static_assert(KeyRange{3, 9}.contains(KeyRange{3, 9}) && !KeyRange{3, 9}.contains(KeyRange{2, 4}));
constexpr KeyRange joined(KeyRange a, KeyRange b) { return hull(a, b); }
static_assert(same(joined({3, 5}, {8, 9}), {3, 9}) && same(joined({8, 9}, {3, 5}), {3, 9}));
static_assert(same(joined({}, {3, 5}), {3, 5}) && same(joined({3, 5}, {9, 7}), {3, 5}));
static_assert(same(joined({0, -5}, {9, 7}), {}));

using test::Random;

/// Every pair of every page, and that nothing is visible beyond the last key.
template <class Mask>
void expect_visible(const Mask& mask, Index num_heads, const MaskExtent& extent,
                    const reference::Visible& visible) {
  if constexpr (PageMask<Mask>) mask.check("test", num_heads, extent);
  for (Index head = 0; head < num_heads; ++head)
    for (Index q_row = 0; q_row < extent.seqlen_q; ++q_row)
      for (Index page_begin = 0; page_begin < extent.seqlen_kv + page_size;
           page_begin += page_size) {
        std::uint64_t expected = 0;
        for (Index i = 0; i < page_size; ++i) {
          const Index k = page_begin + i;
          if (k < extent.seqlen_kv && visible(head, q_row, k)) expected |= std::uint64_t{1} << i;
        }
        ASSERT_EQ(detail::mask_bits(mask, head, q_row, page_begin, extent), expected)
            << "head " << head << ", q_row " << q_row << ", page of key " << page_begin;
      }
}

// Lengths around the ends of pages, more queries than keys, no keys.
TEST(Masks, ShowWhatTheyDefine) {
  Random random(1);
  for (const Index seqlen_q : {1, 2, 5, 63, 64, 65, 130})
    for (const Index seqlen_kv : {0, 1, 2, 63, 64, 65, 128, 200})
      test::for_each_mask(
          {seqlen_q, seqlen_kv}, 3, random,
          [&](const char* name, const auto& mask, const reference::Visible& visible) {
            SCOPED_TRACE(std::string(name) + ", " + std::to_string(seqlen_q) + " queries, " +
                         std::to_string(seqlen_kv) + " keys");
            expect_visible(mask, 3, {seqlen_q, seqlen_kv}, visible);
          });
}

/// The mask as a picture, a line per query.
template <class Mask>
std::string picture(const Mask& mask, Index seqlen_q, Index seqlen_kv) {
  std::string lines;
  for (Index q_row = 0; q_row < seqlen_q; ++q_row) {
    const std::uint64_t bits = detail::mask_bits(mask, 0, q_row, 0, {seqlen_q, seqlen_kv});
    for (Index k = 0; k < seqlen_kv; ++k) lines += (bits >> k & 1) != 0 ? '1' : '0';
    lines += '\n';
  }
  return lines;
}

// "All of them" is often written as the largest number there is.
TEST(Masks, TakeTheLargestNumbersForAllKeys) {
  constexpr Index most = std::numeric_limits<Index>::max();
  for (const auto& [seqlen_q, seqlen_kv] : {std::pair<Index, Index>{2, 3}, {3, 2}, {8, 3}}) {
    EXPECT_EQ(picture(SlidingWindowMask{.window_left = most}, seqlen_q, seqlen_kv),
              picture(CausalMask{}, seqlen_q, seqlen_kv));
    EXPECT_EQ(
        picture(SlidingWindowMask{.window_left = most, .window_right = most}, seqlen_q, seqlen_kv),
        picture(NoMask{}, seqlen_q, seqlen_kv));
    EXPECT_EQ(
        picture(SinkWindowMask{.num_sink_tokens = most, .window_left = most}, seqlen_q, seqlen_kv),
        picture(CausalMask{}, seqlen_q, seqlen_kv));
  }
}

// The pictures of the documentation.
TEST(Masks, LookAsTheyAreDrawn) {
  EXPECT_EQ(picture(NoMask{}, 2, 3), "111\n111\n");
  EXPECT_EQ(picture(CausalMask{}, 2, 4), "1110\n1111\n");
  EXPECT_EQ(picture(TopLeftCausalMask{}, 2, 4), "1000\n1100\n");
  EXPECT_EQ(picture(SlidingWindowMask{.window_left = 1}, 4, 4), "1000\n1100\n0110\n0011\n");
  EXPECT_EQ(picture(SinkWindowMask{.num_sink_tokens = 1, .window_left = 1}, 4, 4),
            "1000\n1100\n1110\n1011\n");
  EXPECT_EQ(picture(PrefixMask{.prefix_len = 2}, 4, 4), "1100\n1100\n1110\n1111\n");
  EXPECT_EQ(picture(PaddingMask{.begin = 1, .end = 3}, 2, 4), "0110\n0110\n");
}

// The first rows stand before the first key.
TEST(Masks, WithMoreQueriesThanKeys) {
  EXPECT_EQ(picture(CausalMask{}, 4, 2), "00\n00\n10\n11\n");
  EXPECT_EQ(picture(TopLeftCausalMask{}, 4, 2), "10\n11\n11\n11\n");
  EXPECT_EQ(picture(SlidingWindowMask{.window_left = 0}, 4, 2), "00\n00\n10\n01\n");
  EXPECT_EQ(picture(SinkWindowMask{.num_sink_tokens = 2, .window_left = 0}, 4, 2),
            "00\n00\n10\n11\n");
  EXPECT_EQ(picture(PrefixMask{.prefix_len = 1}, 4, 2), "10\n10\n10\n11\n");
}

TEST(Masks, AtDecode) {
  EXPECT_EQ(picture(CausalMask{}, 1, 5), "11111\n");
  EXPECT_EQ(picture(SlidingWindowMask{.window_left = 2}, 1, 5), "00111\n");
  EXPECT_EQ(picture(SinkWindowMask{.num_sink_tokens = 1, .window_left = 2}, 1, 5), "10111\n");
  EXPECT_EQ(picture(TopLeftCausalMask{}, 1, 5), "10000\n");
}

// Ranges that reach beyond the keys, or are turned around, are cut to what is there.
TEST(Masks, CutRangesToTheKeys) {
  EXPECT_EQ(picture(PaddingMask{.begin = -7, .end = 900}, 1, 5), "11111\n");
  EXPECT_EQ(picture(PaddingMask{.begin = 4, .end = 2}, 1, 5), "00000\n");
  EXPECT_EQ(picture(PaddingMask{.begin = 6, .end = 9}, 1, 5), "00000\n");
  EXPECT_EQ(picture(PrefixMask{.prefix_len = 900}, 2, 5), "11111\n11111\n");
  EXPECT_EQ(picture(SlidingWindowMask{.window_left = 900, .window_right = 900}, 2, 5),
            "11111\n11111\n");
}

TEST(Masks, SayWhetherHeadsDiffer) {
  Random random(2);
  const test::Booleans one(1, {2, 3}, random), three(3, {2, 3}, random);
  EXPECT_FALSE(detail::varies_by_head(CausalMask{}));
  EXPECT_FALSE(detail::varies_by_head(DenseMask{one.view()}));
  EXPECT_TRUE(detail::varies_by_head(DenseMask{three.view()}));
  EXPECT_FALSE(detail::varies_by_head(both(CausalMask{}, DenseMask{one.view()})));
  EXPECT_TRUE(detail::varies_by_head(both(CausalMask{}, both(DenseMask{three.view()}))));
}

// A conjunction looks no further than the narrowest of its ranges, so that pages are skipped.
TEST(Masks, ConjunctionsIntersectRanges) {
  const auto mask =
      both(CausalMask{}, PaddingMask{100, 5000}, SlidingWindowMask{.window_left = 300});
  const KeyRange range = mask.range(500, {1000, 1000});
  EXPECT_EQ(range.begin, 200);
  EXPECT_EQ(range.end, 501);
}

// CustomMask does not call the lambda for pages that a mask beside it rules out.
TEST(Masks, CustomMasksAreAskedOnlyWhereOthersAllow) {
  Index calls = 0;
  const auto mask = both(PaddingMask{0, 10}, CustomMask{[&](Index, Index) { return ++calls > 0; }});
  for (Index page_begin = 0; page_begin < 640; page_begin += page_size)
    detail::mask_bits(mask, 0, 0, page_begin, {1, 640});
  EXPECT_GT(calls, 0);
  EXPECT_LE(calls, page_size);
}

// Nor for keys that the last page would have room for: the lambda may look up what it is given.
TEST(Masks, CustomMasksAreAskedOnlyForKeysThereAre) {
  Index last = 0;
  const CustomMask mask{[&](Index, Index key) {
    last = std::max(last, key);
    return true;
  }};
  detail::mask_bits(mask, 0, 0, page_size, {1, page_size + 5});
  EXPECT_EQ(last, page_size + 4);
}

struct NoVisible {};
static_assert(MaskPolicy<CausalMask> && MaskPolicy<DenseMask> && MaskPolicy<test::DiagonalBand>);
static_assert(RangeMask<CausalMask> && !PageMask<CausalMask> && PageMask<DenseMask> &&
              !RangeMask<DenseMask>);
static_assert(!MaskPolicy<NoVisible>);

}  // namespace
}  // namespace heed
