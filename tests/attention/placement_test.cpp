// SPDX-License-Identifier: MIT
/// \file
/// Attention gives the same bits wherever a cache's pages are: in a block of its own, in a pool,
/// shared with others, or sliding.

#include <map>
#include <optional>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "heed/attention/attend.hpp"
#include "heed/cache/kv_cache.hpp"
#include "support/attention_case.hpp"  // normal_inputs, attend_source
#include "support/executors.hpp"       // executors

namespace heed {
namespace {

using test::AttentionInputs;
using test::AttentionResult;
using test::AttentionShape;
using test::Random;
using test::view;

constexpr AttentionShape shape{.num_heads = 6,
                               .num_kv_heads = 2,
                               .seqlen_q = 1500,
                               .seqlen_kv = 1500,
                               .head_dim = 24,
                               .head_dim_v = 17};

template <class EntryOf, class ElementOf>
struct Kind {
  using Entry = EntryOf;
  using Element = ElementOf;
};
using Full = FullKv<2, 24, 17>;
using Latent = LatentKv<17, 7>;  // a key of one head, as wide as those of the others

template <class Kind>
class Placement : public testing::Test {
 protected:
  using Element = typename Kind::Element;
  using T = ComputeType<Element>;
  using Entry = typename Kind::Entry;
  using Cache = KvCache<Entry, Element>;
  using Pool = PagePool<Entry, Element>;

  void append(Cache& cache, Index begin, Index count) const {
    const HeadsView<const T> key = view(inputs_.key).middle_rows(begin, count);
    if constexpr (Cache::key_layout == KeyLayout::row_major)
      cache.append(key.head(0).middle_cols(0, 17), key.head(0).middle_cols(17, 7));
    else
      cache.append(key, view(inputs_.value).middle_rows(begin, count));
  }
  HeadsView<const T> query(Index begin, Index count) const {
    return view(inputs_.query).middle_rows(begin, count);
  }
  /// Appends the tokens in chunks and attends to each as a prefill does.
  template <class Mask>
  AttentionResult<T> in_chunks(Cache cache, Index chunk, const Mask& mask) const {
    AttentionResult<T> result(shape.num_heads, shape.seqlen_q, shape.head_dim_v);
    for (Index begin = 0; begin < shape.seqlen_q; begin += chunk) {
      const Index count = std::min(chunk, shape.seqlen_q - begin);
      append(cache, begin, count);
      attend(query(begin, count), cache, mask, shape.softmax_scale(),
             view(result.out).middle_rows(begin, count),
             {.lse = result.lse_view().middle_cols(begin, count)});
    }
    return result;
  }

  /// The same over all tokens in memory of the cache's own. Chunks matter only to keys with scales
  /// per channel, which are in float until their page is full.
  template <class Mask>
  const AttentionResult<T>& plain(Index chunk, const Mask& mask) {
    if (Cache::key_scales == KeyScales::per_token) chunk = shape.seqlen_q;
    auto& result = plain_[chunk];
    if (!result) result.emplace(in_chunks(Cache(shape.seqlen_kv), chunk, mask));
    return *result;
  }

  Random random_{1};
  AttentionInputs<T> inputs_ = test::normal_inputs<T>(shape, random_);
  std::map<Index, std::optional<AttentionResult<T>>> plain_;  // of one mask, by chunk
};
using Kinds =
    testing::Types<Kind<Full, float>, Kind<Full, Native<bf16>>, Kind<Full, Rotated<int4>>,
                   Kind<Full, Native<int4>>, Kind<Latent, bf16>, Kind<Latent, Rotated<int8>>>;
TYPED_TEST_SUITE(Placement, Kinds);

TYPED_TEST(Placement, InAPoolIsAsInMemoryOfItsOwn) {
  using Kv = typename TestFixture::Cache;
  const typename TestFixture::Pool pool(60);
  std::vector<Kv> holes;  // so that pages do not lie in order
  for (Index i = 0; i < 60; ++i) {
    holes.emplace_back(pool, 1);
    this->append(holes.back(), 0, 1);
  }
  for (std::size_t i = 0; i < holes.size(); ++i) holes[i * 7 % 60].clear();
  for (const Index chunk : {1500, 130, 1})
    EXPECT_EQ(this->in_chunks(Kv(pool, 1500), chunk, CausalMask{}),
              this->plain(chunk, CausalMask{}))
        << chunk;
}

// The same mask over all tokens.
TYPED_TEST(Placement, SlidingIsAMask) {
  using Kv = typename TestFixture::Cache;
  for (const CacheWindow window :
       {CacheWindow{.window_left = 200}, CacheWindow{.num_sink_tokens = 4, .window_left = 0},
        CacheWindow{.num_sink_tokens = 70, .window_left = 90}}) {
    const SinkWindowMask mask{window.num_sink_tokens, window.window_left};
    this->plain_.clear();
    const typename TestFixture::Pool pool(30);
    for (const Index chunk : {1500, 100, 64, 1}) {
      SCOPED_TRACE("chunks of " + std::to_string(chunk));
      const Index capacity = window.capacity(chunk);
      const auto& whole = this->plain(chunk, mask);
      EXPECT_EQ(this->in_chunks(Kv(capacity, {}, window), chunk, mask), whole);
      EXPECT_EQ(this->in_chunks(Kv(pool, capacity, window), chunk, mask), whole);
      if (window.num_sink_tokens == 0) {
        EXPECT_EQ(this->in_chunks(Kv(pool, capacity, window), chunk,
                                  SlidingWindowMask{.window_left = window.window_left}),
                  whole);
      }
    }
    // Token by token, the cache's window alone hides as much.
    EXPECT_EQ(this->in_chunks(Kv(pool, window.capacity(1), window), 1, CausalMask{}),
              this->plain(1, mask));
  }
}

// A draft is appended, rejected, and the sequence goes on as if it had not been.
TYPED_TEST(Placement, SpeculationLeavesNoTrace) {
  using Kv = typename TestFixture::Cache;
  const CacheWindow window{.num_sink_tokens = 3, .window_left = 100};
  const SinkWindowMask mask{window.num_sink_tokens, window.window_left};
  const auto& whole = this->plain(9, mask);
  const typename TestFixture::Pool pool(30);
  std::vector<Kv> caches;
  caches.emplace_back(pool, window.capacity(30), window);
  caches.emplace_back(1500);
  for (Kv& cache : caches)
    for (Index token = 0; token < 700; token += 9) {
      this->append(cache, 800, 30);  // of other tokens
      cache.truncate(token);
      this->append(cache, token, 9);
      const auto step =
          test::attend_source(this->query(token, 9), cache, mask, shape.softmax_scale());
      EXPECT_EQ(step.out.data, test::middle_rows(whole.out, token, 9).data) << token;
    }
}

// Prefill, chunks and single tokens of sequences that share a prefix, in one call.
TYPED_TEST(Placement, BatchesOverSharedPagesAreCallsOneByOne) {
  using Kv = typename TestFixture::Cache;
  using Number = typename TestFixture::T;
  using Sequence = AttendSequence<Number, Kv, CausalMask>;
  const typename TestFixture::Pool pool(60);
  Kv prefix(pool, 1500);
  this->append(prefix, 0, 1100);
  std::vector<Kv> caches;
  std::vector<AttentionResult<Number>> results;
  const std::vector<Index> lengths = {1, 1, 40, 1, 200, 7};
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    caches.push_back(i == 4 ? Kv(pool, 1500) : prefix.fork());
    this->append(caches.back(), static_cast<Index>(100 * i), lengths[i]);
    results.emplace_back(shape.num_heads, lengths[i], shape.head_dim_v);
  }
  for (const AnyExecutor& executor : test::executors()) {
    std::vector<Sequence> sequences;
    for (std::size_t i = 0; i < caches.size(); ++i)
      sequences.push_back({this->query(static_cast<Index>(50 * i), lengths[i]), &caches[i],
                           CausalMask{}, view(results[i].out), results[i].lse_view()});
    attend_batch(std::span<const Sequence>(sequences), 0.25, {.executor = executor});
    for (std::size_t i = 0; i < caches.size(); ++i)
      EXPECT_EQ(results[i], test::attend_source(sequences[i].query, caches[i], CausalMask{}, 0.25))
          << "sequence " << i;
  }
}

}  // namespace
}  // namespace heed
