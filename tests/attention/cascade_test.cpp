// SPDX-License-Identifier: MIT
/// \file
/// Sequences of a batch that share pages read them together, and each has the bits that it has
/// alone.

#include <algorithm>
#include <atomic>
#include <limits>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "heed/attention/attend.hpp"
#include "heed/cache/kv_cache.hpp"
#include "heed/policy/mask_element.hpp"  // both
#include "support/attention_case.hpp"    // attend_source, normal_heads
#include "support/executors.hpp"         // executors

namespace heed {
namespace {

using test::AttentionResult;
using test::Heads;
using test::Random;
using test::view;

constexpr Index num_heads = 6;

/// What a cache holds, in random tokens to be taken from.
template <class Entry_, class Element_>
struct Tokens {
  using Entry = Entry_;
  using Element = Element_;
  using T = ComputeType<Element>;
  using Cache = KvCache<Entry, Element>;
  using Pool = PagePool<Entry, Element>;
  static constexpr bool latent = Entry::key_layout == KeyLayout::row_major;
  static constexpr Index count = 4000;
  static constexpr Index head_dim = latent ? 27 : 24;

  explicit Tokens(Random& random)
      : key(test::normal_heads<T>(latent ? 1 : 2, count, head_dim, random)),
        value(test::normal_heads<T>(2, count, 17, random)) {}

  /// Appends some of them.
  void append(Cache& cache, Index begin, Index rows) const {
    if constexpr (latent) {
      const auto all = view(key).head(0).middle_rows(begin, rows);
      cache.append(all.middle_cols(0, 21), all.middle_cols(21, 6));
    } else {
      cache.append(view(key).middle_rows(begin, rows), view(value).middle_rows(begin, rows));
    }
  }

  Heads<T> key, value;
};

/// A batch of sequences with queries of their own.
template <class Source, class Mask>
class Batch {
 public:
  using T = ComputeType<typename Source::Element>;

  /// \param queries  [num_heads, seqlen_q, head_dim]
  void add(const Source& source, const Mask& mask, Heads<T> query) {
    sources_.push_back(&source);
    masks_.push_back(mask);
    queries_.push_back(std::move(query));
  }
  Heads<T>& query(std::size_t i) { return queries_[i]; }

  template <class Score>
  std::vector<AttentionResult<T>> together(const Score& score, AttendOptions<T> options) const {
    std::vector<AttentionResult<T>> results;
    results.reserve(sources_.size());
    std::vector<AttendSequence<T, Source, Mask>> sequences;
    for (std::size_t i = 0; i < sources_.size(); ++i) {
      results.emplace_back(num_heads, queries_[i].rows, sources_[i]->head_dim_v());
      sequences.push_back(
          {view(queries_[i]), sources_[i], masks_[i], view(results[i].out), results[i].lse_view()});
    }
    attend_batch(std::span<const AttendSequence<T, Source, Mask>>(sequences), score, options);
    return results;
  }
  template <class Score>
  std::vector<AttentionResult<T>> one_by_one(const Score& score, AttendOptions<T> options) const {
    std::vector<AttentionResult<T>> results;
    for (std::size_t i = 0; i < sources_.size(); ++i)
      results.push_back(
          test::attend_source(view(queries_[i]), *sources_[i], masks_[i], score, options));
    return results;
  }

 private:
  std::vector<const Source*> sources_;
  std::vector<Mask> masks_;
  std::vector<Heads<T>> queries_;
};

template <class Kind>
class Cascade : public testing::Test {
 protected:
  using T = typename Kind::T;
  using Cache = typename Kind::Cache;

  Heads<T> query(Index rows) {
    return test::normal_heads<T>(num_heads, rows, Kind::head_dim, random_);
  }
  /// Appends `rows` random tokens.
  void grow(Cache& cache, Index rows) {
    tokens_.append(cache, random_.integer(0, Kind::count - rows), rows);
  }
  /// Caches of which many begin as others do, to any length, and a few have all in common.
  std::vector<Cache> forest(const typename Kind::Pool& pool, std::size_t count) {
    std::vector<Cache> caches;
    caches.reserve(count);
    while (caches.size() < count) {
      const Index way = caches.empty() ? 0 : random_.integer(0, 9);
      const auto any = [&]() -> const Cache& {
        return caches[static_cast<std::size_t>(random_.integer(0, std::ssize(caches) - 1))];
      };
      if (way < 2) {
        caches.emplace_back(pool, 5000);
        grow(caches.back(), random_.integer(0, 2600));
      } else if (way < 7) {
        caches.push_back(any().fork());
      } else {
        const Cache& whole = any();
        Cache part(pool, 5000);
        part.assign_prefix(whole, random_.integer(0, whole.seqlen()));
        caches.push_back(std::move(part));
      }
      const Index most = 4900 - caches.back().seqlen();
      grow(caches.back(), std::min(most, way % 3 == 0 ? 0 : random_.integer(1, 400)));
    }
    return caches;
  }
  /// Of a random forest, with any executor.
  template <class MakeMask>
  void expect_same_bits(const MakeMask& make_mask) {
    const auto executors = test::executors();
    for (int trial = 0; trial < 8; ++trial) {
      const typename Kind::Pool pool(1000);
      const auto caches = forest(pool, static_cast<std::size_t>(random_.integer(2, 24)));
      Batch<Cache, decltype(make_mask(caches[0]))> batch;
      for (const Cache& cache : caches) {
        const Index way = random_.integer(0, 9);
        batch.add(cache, make_mask(cache),
                  query(way < 6   ? 1
                        : way < 9 ? random_.integer(0, 70)
                                  : random_.integer(100, 300)));
      }
      const auto sinks = random_.template normals<T>(num_heads);
      AttendOptions<T> options;
      if (trial % 2 == 0) options.sinks = sinks;
      const auto alone = batch.one_by_one(0.25, options);
      options.executor =
          executors[static_cast<std::size_t>(random_.integer(0, std::ssize(executors) - 1))];
      const auto found = batch.together(0.25, options);
      for (std::size_t i = 0; i < alone.size(); ++i)
        EXPECT_EQ(found[i], alone[i])
            << "trial " << trial << ", sequence " << i << " of " << alone.size();
    }
  }

  Random random_{1};
  Kind tokens_{random_};
};
using Kinds =
    testing::Types<Tokens<FullKv<2, 24, 17>, float>, Tokens<FullKv<2, 24, 17>, int8>,
                   Tokens<FullKv<2, 24, 17>, Rotated<int4>>,
                   Tokens<FullKv<2, 24, 17>, Native<int4>>, Tokens<LatentKv<21, 6>, Native<bf16>>>;
TYPED_TEST_SUITE(Cascade, Kinds);

TYPED_TEST(Cascade, GivesTheBitsOfSingleCalls) {
  this->expect_same_bits([](const auto&) { return CausalMask{}; });
}

// A window, and padding, of each sequence's own.
TYPED_TEST(Cascade, GivesThemUnderMasks) {
  this->expect_same_bits([this](const auto& cache) {
    return both(SlidingWindowMask{.window_left = this->random_.integer(0, 3000)},
                PaddingMask{this->random_.integer(0, 200),
                            this->random_.integer(cache.seqlen() / 2, cache.seqlen())});
  });
}

using FloatTokens = Tokens<FullKv<2, 24, 17>, float>;
class CascadeOfFloats : public Cascade<FloatTokens> {};

// Masks of single keys and of heads, and scores that depend on the place.
TEST_F(CascadeOfFloats, GivesThemUnderAnyPolicies) {
  const auto slopes = alibi_slopes<float>(num_heads);
  const auto score = chain(Scale{0.25}, Softcap{5}, Alibi<float>{slopes});
  const auto odd = [](Index q, Index k) { return (q + k) % 5 != 0; };
  const PagePool<FullKv<2, 24, 17>> pool(1000);
  const auto caches = forest(pool, 20);
  const CustomMask mask{odd};
  Batch<Cache, std::remove_const_t<decltype(mask)>> batch;
  for (const Cache& cache : caches) batch.add(cache, mask, query(random_.integer(1, 5)));
  const auto alone = batch.one_by_one(score, {});
  for (const AnyExecutor& executor : test::executors())
    EXPECT_EQ(batch.together(score, {.executor = executor}), alone);
}

// Sequences of very different lengths, with as many tasks as waves of splits and whole tiles make.
TEST_F(CascadeOfFloats, GivesThemInWavesToo) {
  const PagePool<FullKv<2, 24, 17>> pool(4000);
  std::vector<KvCache<FullKv<2, 24, 17>>> caches;
  for (const Index seqlen : {70'000, 3, 150'000, 1100, 1025, 64, 2048, 1}) {
    caches.emplace_back(pool, seqlen);
    for (Index left = seqlen; left > 0; left -= 4000)
      grow(caches.back(), std::min<Index>(left, 4000));
  }
  for (int i = 0; i < 60; ++i) {
    caches.emplace_back(pool, 300);
    grow(caches.back(), random_.integer(1, 300));
  }
  Batch<Cache, CausalMask> batch;
  for (const Cache& cache : caches) batch.add(cache, CausalMask{}, query(random_.integer(1, 3)));
  const auto alone = batch.one_by_one(0.25, {});
  for (const AnyExecutor& executor : test::executors())
    EXPECT_EQ(batch.together(0.25, {.executor = executor}), alone);
}

// In a wave one tile ends and another one begins: neither takes the place of what the other has
// found, whichever is merged first.
TEST_F(CascadeOfFloats, GivesThemWhereTilesGoOnFromWaveToWave) {
  const PagePool<FullKv<2, 24, 17>> pool(2000);
  std::vector<Cache> caches;
  for (int i = 0; i < 2; ++i) {  // of 33 splits for each of 8 tiles; a wave has 64
    caches.emplace_back(pool, 33'000);
    for (int part = 0; part < 11; ++part) grow(caches.back(), 3000);
  }
  Batch<Cache, CausalMask> batch;
  for (const Cache& cache : caches) batch.add(cache, CausalMask{}, query(64));
  EXPECT_EQ(batch.together(0.25, {.executor = test::BackwardExecutor{}}),
            batch.one_by_one(0.25, {}));
}

// Sliding caches share what all of them hold, and those that have dropped other tokens go alone.
TEST_F(CascadeOfFloats, GivesThemOverSlidingCaches) {
  const CacheWindow window{.num_sink_tokens = 70, .window_left = 1500};
  const PagePool<FullKv<2, 24, 17>> pool(400);
  Cache root(pool, window.capacity(400), window);
  for (int i = 0; i < 9; ++i) grow(root, 400);
  std::vector<Cache> caches;
  for (int i = 0; i < 8; ++i) {
    caches.push_back(root.fork());
    for (int step = 0; step < i / 3; ++step) grow(caches.back(), 90);
  }
  const SinkWindowMask mask{window.num_sink_tokens, window.window_left};
  Batch<Cache, SinkWindowMask> batch;
  for (const Cache& cache : caches) batch.add(cache, mask, query(2));
  EXPECT_EQ(batch.together(0.25, {}), batch.one_by_one(0.25, {}));
}

// A NaN in one sequence's query, or behind the end of another that shares the page.
TEST_F(CascadeOfFloats, KeepsNaNWhereItIs) {
  const PagePool<FullKv<2, 24, 17>> pool(200);
  Cache prefix(pool, 3000);
  grow(prefix, 1300);
  std::vector<Cache> caches;
  for (int i = 0; i < 6; ++i) caches.push_back(prefix.fork());
  grow(caches[1], 5);
  Heads<float> bad_key(2, 10, 24), bad_value(2, 10, 17);
  std::fill(bad_value.data.begin(), bad_value.data.end(), std::numeric_limits<float>::quiet_NaN());
  caches[2].append(view(bad_key), view(bad_value));
  Cache part(pool, 3000);
  part.assign_prefix(caches[2], 1300);  // a page whose other tokens are NaN
  caches.push_back(std::move(part));
  Batch<Cache, CausalMask> batch;
  for (const Cache& cache : caches) batch.add(cache, CausalMask{}, query(1));
  const auto before = batch.together(0.25, {});
  batch.query(4)(3, 0, 7) = std::numeric_limits<float>::quiet_NaN();
  const auto after = batch.together(0.25, {});
  const auto has_nan = [](const AttentionResult<float>& result) {
    return std::any_of(result.out.data.begin(), result.out.data.end(),
                       [](float x) { return std::isnan(x); });
  };
  for (std::size_t i = 0; i < caches.size(); ++i) {
    EXPECT_EQ(has_nan(after[i]), i == 2 || i == 4) << i;
    if (!has_nan(after[i])) {
      EXPECT_EQ(after[i], before[i]) << i;
    }
  }
}

/// A cache that counts how often each of its pages is asked for, in a table of all caches alike.
struct CountingSource {
  using Element = float;
  static constexpr KeyLayout key_layout = KeyLayout::transposed;
  const KvCache<FullKv<2, 24, 17>>* cache;
  std::vector<std::atomic<int>>* calls;  // [pages]

  Index num_kv_heads() const { return cache->num_kv_heads(); }
  Index head_dim() const { return cache->head_dim(); }
  Index head_dim_v() const { return cache->head_dim_v(); }
  Index seqlen() const { return cache->seqlen(); }
  Index page_scratch() const { return 0; }
  PageView<float> page(Index kv_head, Index index, float* scratch) const {
    ++(*calls)[static_cast<std::size_t>(index)];
    return cache->page(kv_head, index, scratch);
  }
  const void* page_address(Index index) const noexcept { return cache->page_address(index); }
};

// A page is asked for twice a head: to be read, and to be fetched while the one before it is.
TEST_F(CascadeOfFloats, ReadsSharedPagesOnce) {
  constexpr int once = 2 * 2;
  const PagePool<FullKv<2, 24, 17>> pool(400);
  Cache prefix(pool, 5000);
  grow(prefix, 20 * page_size);
  std::vector<Cache> caches;  // eight share 20 pages, and of these four share 5 more
  for (int i = 0; i < 8; ++i) {
    if (i == 4) grow(prefix, 5 * page_size);
    caches.push_back(prefix.fork());
    grow(caches.back(), 6 * page_size);
  }
  std::swap(caches[1], caches[6]);  // the order in the batch does not matter
  std::vector<std::atomic<int>> calls(40);
  std::vector<CountingSource> sources;
  for (const Cache& cache : caches) sources.push_back({&cache, &calls});
  Batch<CountingSource, CausalMask> batch;
  for (const CountingSource& source : sources) batch.add(source, CausalMask{}, query(2));
  const auto found = batch.together(0.25, {});
  for (std::size_t page = 0; page < 20; ++page) EXPECT_LE(calls[page], once) << page;
  for (std::size_t page = 20; page < 25; ++page) EXPECT_LE(calls[page], 5 * once) << page;
  EXPECT_GE(calls[25], 4 * once / 2);
  EXPECT_EQ(found, batch.one_by_one(0.25, {}));
}

}  // namespace
}  // namespace heed
