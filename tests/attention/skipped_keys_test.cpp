// SPDX-License-Identifier: MIT
/// \file
/// Keys that no query of a call sees cost nothing, and change no bit.

#include <atomic>
#include <span>
#include <stdexcept>
#include <vector>

#include <gtest/gtest.h>

#include "heed/attention/attend.hpp"
#include "heed/cache/kv_cache.hpp"
#include "heed/policy/mask_element.hpp"
#include "support/attention_case.hpp"  // normal_inputs, view
#include "support/executors.hpp"       // executors

namespace heed {
namespace {

using test::Random;
using test::view;

/// Runs tasks one after another and counts them.
struct Counting {
  Index* tasks;

  Index concurrency() const { return 1; }
  template <class Body>
  void parallel_for(Index count, const Body& body) const {
    *tasks += count;
    SerialExecutor{}.parallel_for(count, body);
  }
};

/// A cache of so many random tokens, and queries for it.
struct Sequence {
  test::Heads<float> query;
  KvCache<FullKv<1, 16>> cache;

  Sequence(Index seqlen, Index queries, Random& random) : cache(seqlen) {
    auto inputs = test::normal_inputs<float>(
        {.num_heads = 4, .num_kv_heads = 1, .seqlen_q = queries, .seqlen_kv = seqlen}, random);
    cache.append(view(inputs.key), view(inputs.value));
    query = std::move(inputs.query);
  }
  template <class Mask>
  std::vector<float> attend_with(const Mask& mask, const AnyExecutor& executor) {
    test::AttentionResult<float> result(4, query.rows, 16);
    attend(view(query), cache, mask, 0.25, view(result.out), {.executor = executor});
    return result.out.data;
  }
};

// A decode step in a model with windows costs what its window costs, however long the text is.
TEST(SkippedKeys, MakeNoTasks) {
  Random random(1);
  const auto tasks = [&](Index seqlen, const auto& mask) {
    Index count = 0;
    Sequence(seqlen, 1, random).attend_with(mask, Counting{&count});
    return count;
  };
  const SlidingWindowMask window{.window_left = 3071};
  EXPECT_EQ(tasks(4096, window), 3);
  EXPECT_EQ(tasks(8192, window), 3);
  EXPECT_EQ(tasks(65536, window), 3);
  EXPECT_EQ(tasks(65536, PaddingMask{.begin = 60000, .end = 65000}), 6);
  EXPECT_EQ(tasks(8192, CausalMask{}), 8) << "the count is that of parts of 1024 keys";
}

// Nor do those between sinks and the window of a cache that keeps both.
TEST(SkippedKeys, ThatAreDroppedBehindSinksMakeNoTasks) {
  Random random(6);
  const CacheWindow window{.num_sink_tokens = 4, .window_left = 1000};
  constexpr Index chunk = 500;
  KvCache<FullKv<1, 16>> cache(window.capacity(chunk), {}, window);
  const auto tokens = test::normal_inputs<float>(
      {.num_heads = 4, .num_kv_heads = 1, .seqlen_q = 1, .seqlen_kv = chunk}, random);
  const SinkWindowMask mask{.num_sink_tokens = 4, .window_left = 1000};
  for (int i = 0; i < 40; ++i) cache.append(view(tokens.key), view(tokens.value));
  test::AttentionResult<float> alone(4, 1, 16), in_batch(4, 1, 16);
  Index count = 0;
  attend(view(tokens.query), cache, mask, 0.25, view(alone.out), {.executor = Counting{&count}});
  EXPECT_EQ(count, 3) << "the sinks' part and two of the window";
  const AttendSequence<float, KvCache<FullKv<1, 16>>, SinkWindowMask> sequence{
      view(tokens.query), &cache, mask, view(in_batch.out)};
  attend_batch(std::span(&sequence, 1), 0.25);
  EXPECT_EQ(in_batch.out.data, alone.out.data);
}

// Nor does the part of the keys that is left out change what the others give: a mask that says it
// only in bits visits all pages.
TEST(SkippedKeys, ChangeNoBits) {
  Random random(2);
  for (const Index queries : {1, 3, 40, 700}) {
    Sequence sequence(5000, queries, random);
    for (const Index window_left : {0, 900, 1500, 4000}) {
      const SlidingWindowMask window{.window_left = window_left};
      const CustomMask same{[window_left](Index query, Index key) {
        return query - window_left <= key && key <= query;
      }};
      const std::vector<float> expected = sequence.attend_with(same, SerialExecutor{});
      for (const AnyExecutor& executor : test::executors())
        EXPECT_EQ(sequence.attend_with(window, executor), expected)
            << queries << " queries, window " << window_left;
    }
  }
}

TEST(SkippedKeys, MayBeAll) {
  Random random(3);
  Sequence sequence(3000, 2, random);
  EXPECT_EQ(sequence.attend_with(PaddingMask{.begin = 3000, .end = 3000}, SerialExecutor{}),
            std::vector<float>(4 * 2 * 16, 0.0F));
}

struct Refused : std::runtime_error {
  Refused() : std::runtime_error("refused") {}
};
/// Throws at the query at one position.
struct ThrowingRange {
  Index position;
  KeyRange visible(Index q_row, const MaskExtent& extent) const {
    if (extent.query_position(q_row) == position) throw Refused();
    return {0, extent.query_position(q_row) + 1};
  }
};

TEST(Masks, MayThrowOnAnyThread) {
  Random random(4);
  Sequence sequence(3000, 600, random);
  const CustomMask pairs{[](Index query, Index key) {
    if (query == 2990 && key == 1000) throw Refused();
    return key <= query;
  }};
  for (const AnyExecutor& executor : test::executors()) {
    EXPECT_THROW(sequence.attend_with(pairs, executor), Refused);
    EXPECT_THROW(sequence.attend_with(both(CausalMask{}, pairs), executor), Refused);
    EXPECT_THROW(sequence.attend_with(ThrowingRange{2700}, executor), Refused);
  }
}

// Views are values, const or not.
TEST(AttendOnViews, TakesConstOnesForOutAndLse) {
  Random random(5);
  Sequence sequence(100, 2, random);
  test::AttentionResult<float> found(4, 2, 16), expected(4, 2, 16);
  const HeadsView<float> out = view(found.out);
  const RowsView<float> lse = found.lse_view();
  attend(view(sequence.query), sequence.cache, CausalMask{}, 0.25, out, lse);
  attend(view(sequence.query), sequence.cache, CausalMask{}, 0.25, view(expected.out),
         {.lse = expected.lse_view()});
  EXPECT_EQ(found.out.data, expected.out.data);
  EXPECT_EQ(found.lse.data, expected.lse.data);
}

}  // namespace
}  // namespace heed
