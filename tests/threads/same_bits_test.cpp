// SPDX-License-Identifier: MIT
/// \file
/// The bits of a row depend on nothing but its query and the keys it sees: not on the chunks a
/// prompt came in, not on the threads, not on the sequences beside it.

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "heed/attention/attend.hpp"
#include "heed/cache/kv_cache.hpp"
#include "heed/policy/mask_element.hpp"
#include "support/attention_case.hpp"  // normal_inputs, attend_matrices, attend_source
#include "support/executors.hpp"       // executors

namespace heed {
namespace {

using test::AttentionInputs;
using test::AttentionResult;
using test::AttentionShape;
using test::Heads;
using test::middle_rows;
using test::Random;
using test::view;

template <class T>
class SameBits : public testing::Test {};
using Elements = testing::Types<float, double>;
TYPED_TEST_SUITE(SameBits, Elements);

/// Feeds rows of `inputs` to the cache chunk by chunk, and compares each chunk's result with the
/// rows of `whole`, which came at once.
template <class T, class Cache, class Append>
void expect_chunks(const Heads<T>& query, Cache& cache, double scale, Index chunk,
                   const AttentionResult<T>& whole, const Append& append) {
  SCOPED_TRACE("chunks of " + std::to_string(chunk));
  for (Index begin = 0; begin < query.rows; begin += chunk) {
    const Index count = std::min(chunk, query.rows - begin);
    append(begin, count);
    const auto part =
        test::attend_source(view(query).middle_rows(begin, count), cache, CausalMask{}, scale);
    EXPECT_EQ(part.out.data, middle_rows(whole.out, begin, count).data);
    EXPECT_EQ(part.lse.data, middle_rows(whole.lse, begin, count).data);
  }
}

// Wide heads come in tiles of fewer rows.
TYPED_TEST(SameBits, InChunksOfAnySize) {
  for (const auto& [seqlen, head_dim, head_dim_v] :
       {std::array<Index, 3>{130, 20, 12}, {1100, 20, 12}, {130, 320, 300}}) {
    const AttentionShape shape{.num_heads = 6,
                               .num_kv_heads = 2,
                               .seqlen_q = seqlen,
                               .seqlen_kv = seqlen,
                               .head_dim = head_dim,
                               .head_dim_v = head_dim_v};
    Random random(1);
    const auto inputs = test::normal_inputs<TypeParam>(shape, random);
    const auto whole = test::attend_matrices(inputs, CausalMask{}, 0.25);
    for (const Index chunk : {1, 7, 64, 100}) {
      KvCache<FullKv<>, TypeParam> cache{seqlen, {2, head_dim, head_dim_v}};
      expect_chunks(inputs.query, cache, 0.25, chunk, whole, [&](Index begin, Index count) {
        cache.append(view(inputs.key).middle_rows(begin, count),
                     view(inputs.value).middle_rows(begin, count));
      });
    }
  }
}

TYPED_TEST(SameBits, OfLatentsInChunksOfAnySize) {
  const Index seqlen = 200;
  for (const LatentKv<> entry : {LatentKv<>{33, 7}, LatentKv<>{512, 64}}) {
    Random random(2);
    const Index width = entry.key_width();
    const auto query = test::normal_heads<TypeParam>(5, seqlen, width, random);
    const auto latent = test::normal_heads<TypeParam>(1, seqlen, width, random);
    const auto append_to = [&](auto& cache) {
      return [&](Index begin, Index count) {
        const auto rows = view(latent).head(0).middle_rows(begin, count);
        cache.append(rows.middle_cols(0, entry.latent_dim),
                     rows.middle_cols(entry.latent_dim, entry.rope_dim));
      };
    };
    KvCache<LatentKv<>, TypeParam> all{seqlen, entry};
    append_to(all)(0, seqlen);
    const auto whole = test::attend_source(view(query), all, CausalMask{}, 0.05);
    for (const Index chunk : {1, 7, 64, 100}) {
      KvCache<LatentKv<>, TypeParam> cache{seqlen, entry};
      expect_chunks(query, cache, 0.05, chunk, whole, append_to(cache));
    }
  }
}

// With every policy at once, a chunk of a prefill is what the whole prefill is there.
TYPED_TEST(SameBits, InChunksUnderMasksAndPolicies) {
  const AttentionShape shape{.num_heads = 4, .num_kv_heads = 2, .seqlen_q = 150, .seqlen_kv = 150};
  Random random(3);
  const auto inputs = test::normal_inputs<TypeParam>(shape, random);
  const auto slopes = alibi_slopes<TypeParam>(4);
  const auto score = chain(Scale{0.25}, Softcap{5}, Alibi<TypeParam>{slopes});
  const auto mask = both(SlidingWindowMask{.window_left = 90}, PaddingMask{10, 140},
                         CustomMask{[](Index query, Index key) { return (query + key) % 5 != 0; }});
  const auto whole = test::attend_matrices(inputs, mask, score);
  for (const Index chunk : {1, 7, 64, 100})
    for (Index begin = 0; begin < 150; begin += chunk) {
      const Index count = std::min(chunk, 150 - begin);
      const AttentionInputs<TypeParam> part{middle_rows(inputs.query, begin, count),
                                            middle_rows(inputs.key, 0, begin + count),
                                            middle_rows(inputs.value, 0, begin + count)};
      EXPECT_EQ(test::attend_matrices(part, mask, score).out.data,
                middle_rows(whole.out, begin, count).data);
    }
}

// Prefills of many tiles, and decodes of many splits; each large enough to be worth a thread.
TYPED_TEST(SameBits, OnAnyThreads) {
  for (const auto& [seqlen_q, seqlen_kv] :
       {std::pair<Index, Index>{300, 400}, {1, 20'000}, {3, 70'000}, {1, 600}}) {
    const AttentionShape shape{.num_heads = 40,
                               .num_kv_heads = seqlen_q == 300 ? 20 : 2,
                               .seqlen_q = seqlen_q,
                               .seqlen_kv = seqlen_kv};
    SCOPED_TRACE(shape.text());
    Random random(4);
    const auto inputs = test::normal_inputs<TypeParam>(shape, random);
    const auto serial = test::attend_matrices<TypeParam>(inputs, CausalMask{}, 0.25,
                                                         {.executor = SerialExecutor{}});
    for (const AnyExecutor& executor : test::executors())
      for (int repeat = 0; repeat < 2; ++repeat)
        EXPECT_EQ(
            test::attend_matrices<TypeParam>(inputs, CausalMask{}, 0.25, {.executor = executor}),
            serial);
    EXPECT_EQ(test::attend_matrices<TypeParam>(inputs, CausalMask{}, 0.25), serial);  // the default
  }
}

// However the rows that share a key are cut into tiles: in one, in halves, in quarters.
TYPED_TEST(SameBits, OfAHeadAlone) {
  for (const Index num_heads : {5, 40, 120}) {
    const AttentionShape shape{.num_heads = num_heads, .seqlen_kv = 1000};
    SCOPED_TRACE(shape.text());
    Random random(6);
    const auto inputs = test::normal_inputs<TypeParam>(shape, random);
    const auto whole = test::attend_matrices(inputs, CausalMask{}, 0.25);
    for (Index head = 0; head < num_heads; ++head) {
      AttentionInputs<TypeParam> one{Heads<TypeParam>(1, 1, 16), inputs.key, inputs.value};
      AttentionResult<TypeParam> expected(1, 1, 16);
      for (Index c = 0; c < 16; ++c) {
        one.query(0, 0, c) = inputs.query(head, 0, c);
        expected.out(0, 0, c) = whole.out(head, 0, c);
      }
      expected.lse(0, 0, 0) = whole.lse(head, 0, 0);
      EXPECT_EQ(test::attend_matrices(one, CausalMask{}, 0.25), expected) << "head " << head;
    }
  }
}

// A batch of sequences of any lengths gives each the bits it has alone.
TYPED_TEST(SameBits, InABatch) {
  using Cache = KvCache<FullKv<2, 16>, TypeParam>;
  using Sequence = AttendSequence<TypeParam, Cache, SlidingWindowMask>;
  const std::vector<std::pair<Index, Index>> lengths = {{1, 1},  {1, 3000}, {70, 70}, {0, 5},
                                                        {2, 64}, {5, 0},    {1, 200}, {40, 1500}};
  for (const AnyExecutor& executor : test::executors()) {
    Random random(5);
    std::vector<Heads<TypeParam>> queries;
    std::vector<Cache> caches;
    std::vector<AttentionResult<TypeParam>> results;
    for (const auto& [seqlen_q, seqlen_kv] : lengths) {
      const auto inputs = test::normal_inputs<TypeParam>(
          {.num_heads = 6, .num_kv_heads = 2, .seqlen_q = seqlen_q, .seqlen_kv = seqlen_kv},
          random);
      queries.push_back(inputs.query);
      caches.emplace_back(seqlen_kv + 10);
      caches.back().append(view(inputs.key), view(inputs.value));
      results.emplace_back(6, seqlen_q, 16);
    }
    const std::vector<TypeParam> sinks = {0, 1, 2, 3, 4, 5};
    std::vector<Sequence> sequences;
    for (std::size_t i = 0; i < lengths.size(); ++i)
      sequences.push_back({view(std::as_const(queries[i])),
                           &caches[i],
                           {.window_left = static_cast<Index>(500 * i)},
                           view(results[i].out),
                           results[i].lse_view()});
    attend_batch(std::span<const Sequence>(sequences), 0.25,
                 {.sinks = sinks, .executor = executor});
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      const auto alone = test::attend_source(view(queries[i]), caches[i], sequences[i].mask, 0.25,
                                             {.sinks = sinks});
      EXPECT_EQ(results[i], alone) << "sequence " << i;
    }
  }
  attend_batch(std::span<const Sequence>(), 0.25);  // nothing to do
}

}  // namespace
}  // namespace heed
