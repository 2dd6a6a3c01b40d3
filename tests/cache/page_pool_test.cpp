// SPDX-License-Identifier: MIT
/// \file
/// Caches take pages of a pool as they grow and give them back; what they share is held once; a
/// pool without pages, and caches that have no pool in common, are errors that change nothing.

#include "heed/cache/page_pool.hpp"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "heed/cache/kv_cache.hpp"
#include "heed/cache/page_table.hpp"
#include "support/cached_tokens.hpp"  // FullTokens
#include "support/shape_error.hpp"    // expect_shape_error

namespace heed {
namespace {

using test::expect_shape_error;
using test::Random;
using Tokens = test::FullTokens<float>;
using Cache = Tokens::Cache;
using Pool = PagePool<FullKv<3, 20, 9>>;

/// Fails unless `act` throws an Error of these words.
template <class Error, class Act>
void expect_error(const std::string& words, const Act& act) {
  EXPECT_THAT(act, testing::ThrowsMessage<Error>(words));
}

class PagePoolTest : public testing::Test {
 protected:
  Random random_{1};
  Tokens tokens_{400, random_};
  Pool pool_{5};
};

TEST_F(PagePoolTest, LendsPagesToCaches) {
  EXPECT_EQ(pool_.num_pages(), 5);
  EXPECT_EQ(pool_.free_pages(), 5);
  EXPECT_EQ(pool_.bytes(), 5 * pool_.page_bytes());
  {
    Cache cache(pool_, 200);
    EXPECT_EQ(cache.capacity(), 200);
    EXPECT_EQ(cache.bytes(), 0U);
    tokens_.append(cache, 0, 1);
    EXPECT_EQ(pool_.free_pages(), 4);
    tokens_.append(cache, 1, 63);
    EXPECT_EQ(pool_.free_pages(), 4);
    tokens_.append(cache, 64, 136);
    EXPECT_EQ(pool_.free_pages(), 1);
    EXPECT_EQ(cache.bytes(), 4 * pool_.page_bytes());
    tokens_.expect_held(cache, 200);
    cache.truncate(128);
    EXPECT_EQ(pool_.free_pages(), 3);
    cache.truncate(127);
    EXPECT_EQ(pool_.free_pages(), 3);
    Cache moved = std::move(cache);
    EXPECT_EQ(pool_.free_pages(), 3);
    moved.clear();
    EXPECT_EQ(pool_.free_pages(), 5);
    tokens_.append(moved, 0, 65);
  }
  EXPECT_EQ(pool_.free_pages(), 5);
}

TEST_F(PagePoolTest, HoldsWhatForksShareOnce) {
  Cache cache(pool_, 200);
  tokens_.append(cache, 0, 100);
  Cache fork = cache.fork(), other = cache.fork();
  EXPECT_EQ(pool_.free_pages(), 3);
  tokens_.append(fork, 100, 1);  // the second page is copied, the first is not
  EXPECT_EQ(pool_.free_pages(), 2);
  tokens_.append(cache, 100, 2);
  EXPECT_EQ(pool_.free_pages(), 1);
  tokens_.append(other, 100, 3);  // the last holder writes in place
  EXPECT_EQ(pool_.free_pages(), 1);
  tokens_.expect_held(cache, 102);
  tokens_.expect_held(fork, 101);
  tokens_.expect_held(other, 103);
  fork.clear();
  cache.clear();
  EXPECT_EQ(pool_.free_pages(), 3);
  tokens_.expect_held(other, 103);
}

TEST_F(PagePoolTest, SharesPrefixes) {
  Cache prefix(pool_, 200), cache(pool_, 200);
  tokens_.append(prefix, 0, 140);
  tokens_.append(cache, 300, 70);
  EXPECT_EQ(pool_.free_pages(), 0);
  cache.assign_prefix(prefix, 128);
  EXPECT_EQ(pool_.free_pages(), 2);
  tokens_.append(cache, 128, 20);
  EXPECT_EQ(pool_.free_pages(), 1);
  tokens_.expect_held(cache, 148);
  Cache alone(200);  // has a prefix of itself too
  tokens_.append(alone, 0, 70);
  for (Cache* const each : {&cache, &alone}) {
    each->assign_prefix(*each, 30);
    tokens_.expect_held(*each, 30);
  }
}

TEST_F(PagePoolTest, WithoutPagesChangesNothing) {
  Cache one(pool_, 1000), other(pool_, 1000);
  tokens_.append(one, 0, 200);
  tokens_.append(other, 0, 40);
  Cache fork = other.fork();
  EXPECT_EQ(pool_.free_pages(), 0);
  expect_error<PoolExhaustedError>(
      "heed::PagePool: 2 more pages are needed, but of 5 only 0 are free",
      [&] { tokens_.append(one, 200, 150); });
  expect_error<PoolExhaustedError>(  // to write to a shared page takes one
      "heed::PagePool: 1 more pages are needed, but of 5 only 0 are free",
      [&] { tokens_.append(fork, 40, 1); });
  tokens_.expect_held(one, 200);
  tokens_.expect_held(other, 40);
  tokens_.expect_held(fork, 40);
  tokens_.append(one, 200, 56);  // what fits still fits
  one.truncate(192);
  tokens_.append(fork, 40, 1);
  tokens_.expect_held(fork, 41);
}

// Forks, truncation and windows: what a cache says that tokens will take is what they take.
TEST_F(PagePoolTest, KnowsWhatTokensWillTake) {
  Pool pool(40);
  const std::optional<CacheWindow> windows[] = {std::nullopt, CacheWindow{.window_left = 70},
                                                CacheWindow{4, 10}};
  for (const auto& window : windows) {
    std::vector<Cache> caches;
    caches.emplace_back(pool, 1000, window);
    for (int step = 0; step < 300; ++step) {
      const auto which = static_cast<std::size_t>(random_.integer(0, std::ssize(caches) - 1));
      Cache& cache = caches[which];
      const Index count = std::min(random_.integer(0, 90), 400 - cache.seqlen());
      const Index needed = cache.pages_needed(count), free = pool.free_pages();
      if (needed > free) {
        EXPECT_THROW(cache.require_room(count), PoolExhaustedError);
        caches.erase(caches.begin() + static_cast<std::ptrdiff_t>(which));
        if (caches.empty()) caches.emplace_back(pool, 1000, window);
        continue;
      }
      cache.require_room(count);
      tokens_.append(cache, cache.seqlen(), count);
      ASSERT_EQ(free - pool.free_pages(), needed) << "step " << step;
      if (random_.integer(0, 3) == 0 && caches.size() < 6) caches.push_back(cache.fork());
      if (caches.back().seqlen() == 400) caches.back().clear();
    }
  }
}

TEST_F(PagePoolTest, LivesAsLongAsItsCaches) {
  std::optional<Cache> cache;
  {
    const Pool pool(3);
    cache.emplace(pool, 150);
    tokens_.append(*cache, 0, 100);
  }
  tokens_.append(*cache, 100, 50);
  tokens_.expect_held(*cache, 150);
}

TEST_F(PagePoolTest, IsNotMixedWithOthers) {
  const Pool other_pool(5);
  Cache here(pool_, 200), there(other_pool, 200), alone(200), moved_from(pool_, 200);
  tokens_.append(here, 0, 100);
  const Cache moved_to = std::move(moved_from);
  constexpr auto words =
      "heed::KvCache::assign_prefix: both caches must take their pages from the same PagePool";
  for (Cache* const other : {&there, &alone, &moved_from}) {
    expect_error<StateError>(words, [&] { other->assign_prefix(here, 10); });
    expect_error<StateError>(words, [&] { here.assign_prefix(*other, 0); });
  }
  expect_error<StateError>("heed::KvCache::fork: the cache was moved from",
                           [&] { (void)moved_from.fork(); });
  Cache again(pool_, 200);
  expect_shape_error({"heed::KvCache::assign_prefix: cannot share 101 of 100 tokens"},
                     [&] { again.assign_prefix(here, 101); });
  tokens_.expect_held(here, 100);
}

TEST_F(PagePoolTest, RefusesWhatIsNoSize) {
  expect_shape_error({"heed::PagePool: num_pages is -1, expected 0 or more"}, [] { Pool(-1); });
  expect_shape_error({"heed::KvCache: capacity is -1, expected 0 or more"},
                     [this] { Cache(pool_, -1); });
  expect_shape_error({"heed::KvCache: window.num_sink_tokens is -1, expected 0 to 2^40"},
                     [this] { Cache(pool_, 1, {{.num_sink_tokens = -1, .window_left = 8}}); });
  expect_shape_error({"heed::KvCache: window.window_left, which is required, is -1, expected"},
                     [this] { Cache(pool_, 1, CacheWindow{.num_sink_tokens = 4}); });
  constexpr Index most = std::numeric_limits<Index>::max();
  for (const CacheWindow window : {CacheWindow{.num_sink_tokens = most, .window_left = 8},
                                   CacheWindow{.num_sink_tokens = 4, .window_left = most}})
    expect_shape_error({"heed::KvCache: window.", "is 9223372036854775807, expected 0 to 2^40"},
                       [&] { Cache(pool_, 100, window); });
}

TEST_F(PagePoolTest, RefusesMoreThanCanBeCounted) {
  constexpr Index most = std::numeric_limits<Index>::max(), large = Index{1} << 17;
  expect_shape_error({"heed::PagePool: entry.head_dim is 131073, expected a number from 1 to 2^17"},
                     [] { PagePool<FullKv<>>(1, {large, large + 1, large}); });
  expect_shape_error({"heed::KvCache: entry.rope_dim is 131073, expected a number from 0 to 2^17"},
                     [] { KvCache<LatentKv<>>(1, {large, large + 1}); });
  EXPECT_THROW(PagePool<FullKv<>>(1 << 24, {large, large, large}), CapacityError);
  EXPECT_THROW((PagePool<FullKv<1, 1>>(most)), CapacityError);
  Cache cache(pool_, 100);
  tokens_.append(cache, 0, 1);
  Cache sliding(pool_, 100, CacheWindow{.window_left = 10});
  tokens_.append(sliding, 0, 1);
  for (const Cache* const each : {&cache, &sliding})
    for (const Index count : {most, most - 1, Index{200}}) {
      EXPECT_THROW(each->require_room(count), CapacityError) << count;
      EXPECT_THROW((void)each->pages_needed(count), CapacityError) << count;
    }
  expect_error<CapacityError>(
      "heed::KvCache: 1 tokens are cached and 160 more were given, but the capacity is 100; with "
      "the window they are 3 pages: append fewer at a time, or make it window.capacity(160)",
      [&] { sliding.require_room(160); });
  expect_error<CapacityError>(
      "heed::KvCache: 2147483648 pages of 4352 bytes are more than there can be",
      [&] { KvCache<FullKv<1, 1>>(Index{64} << 31); });
  EXPECT_NO_THROW(cache.require_room(99));
}

// Then the pool is the limit, and its pages are what the table has room for.
TEST_F(PagePoolTest, MayBeTheOnlyLimit) {
  for (const Index capacity : {Index{1} << 50, std::numeric_limits<Index>::max()}) {
    Cache cache(pool_, capacity);
    EXPECT_EQ(cache.capacity(), capacity);
    EXPECT_EQ(cache.table_bytes(), 4u * (5 + 1));
    tokens_.append(cache, 0, 5 * page_size);
    tokens_.expect_held(cache, 5 * page_size);
    EXPECT_THROW(tokens_.append(cache, 0, 1), PoolExhaustedError);
    Cache sliding(pool_, capacity, CacheWindow{.window_left = 10});
    EXPECT_THROW(sliding.require_room(capacity), PoolExhaustedError);
  }
}

// What a sliding cache still holds, another with its window may begin with.
TEST_F(PagePoolTest, APrefixOfASlidingCacheIsWhatItStillHolds) {
  const CacheWindow window{.num_sink_tokens = 4, .window_left = 10};
  Cache source(pool_, window.capacity(1), window);
  for (Index token = 0; token < 330; ++token) tokens_.append(source, token, 1);
  Cache same(pool_, 300, window), other(pool_, 300, CacheWindow{.window_left = 10}),
      none(pool_, 300);
  same.assign_prefix(source, 280);
  EXPECT_EQ(pool_.free_pages(), 1);  // sinks, the page behind the window, and two that it is in
  std::vector<Index> held(280, test::dropped_token);
  for (Index token = 0; token < 280; ++token)
    if (token < 4 || token >= 279 - 10) held[static_cast<std::size_t>(token)] = token;
  tokens_.expect_held(same, held);
  expect_shape_error({"heed::KvCache::assign_prefix: cannot keep 200 of 330 tokens: the last one's "
                      "window begins before token 192, and what is there was let go"},
                     [&] { same.assign_prefix(source, 200); });
  for (Cache* const cache : {&other, &none})
    expect_shape_error({"heed::KvCache::assign_prefix: tokens from 4 on were let go by the "
                        "source's window, and this cache has another or none"},
                       [&] { cache->assign_prefix(source, 280); });
  tokens_.expect_held(same, held);
}

TEST_F(PagePoolTest, RefusesAViewOfLessThanNoRows) {
  Cache cache(pool_, 100);
  tokens_.append(cache, 0, 70);
  expect_shape_error({"heed::KvCache::append: key [num_kv_heads, count, head_dim] has -6 rows, "
                      "expected 0 or more"},
                     [&] { tokens_.append(cache, 70, -6); });
  tokens_.expect_held(cache, 70);
}

TEST_F(PagePoolTest, IsCopiedWhereItWouldBeMoved) {
  Pool other(2);
  Pool moved(std::move(other));
  EXPECT_EQ(other.num_pages(), 2);  // NOLINT(bugprone-use-after-move)
  Cache cache(other, 10);
  tokens_.append(cache, 0, 1);
  EXPECT_EQ(moved.free_pages(), 1);
  moved = std::move(other);
  EXPECT_EQ(other.free_pages(), 1);  // NOLINT(bugprone-use-after-move)
}

// A window's pages go back once no later query sees them; one more is kept for truncation.
TEST_F(PagePoolTest, GetsBackWhatAWindowHasPassed) {
  const CacheWindow window{.num_sink_tokens = 4, .window_left = 10};
  EXPECT_EQ(window.capacity(1), 4 * page_size);
  Cache cache(pool_, window.capacity(1), window);
  Index most = 0;
  for (Index token = 0; token < 400; ++token) {
    tokens_.append(cache, token, 1);
    most = std::max(most, pool_.num_pages() - pool_.free_pages());
    EXPECT_EQ(cache.dropped().end, std::max<Index>(4, token - 10));
  }
  EXPECT_EQ(most, 4);  // sinks, the page behind the window, and a window over an edge
  EXPECT_EQ(cache.seqlen(), 400);
  cache.truncate(400 - 64);
  expect_shape_error({"heed::KvCache::truncate: cannot keep 330 of 336 tokens: the last one's "
                      "window begins before token 320, and what is there was let go"},
                     [&] { cache.truncate(330); });
  EXPECT_EQ(cache.seqlen(), 336);
  expect_error<CapacityError>(
      "heed::KvCache: 336 tokens are cached and 300 more were given, but the capacity is 256; with "
      "the window they are 6 pages: append fewer at a time, or make it window.capacity(300)",
      [&] { tokens_.append(cache, 0, 300); });
  cache.truncate(331);  // the last one's window begins where the gap ends
  EXPECT_EQ(cache.seqlen(), 331);
}

// The window moves on with the next token alone: these were appended at once.
TEST_F(PagePoolTest, HidesNothingWhereNothingIsTruncated) {
  Cache cache(pool_, 300, CacheWindow{.window_left = 10});
  tokens_.append(cache, 0, 300);
  cache.truncate(300);
  tokens_.expect_held(cache, 300);
}

// Caches ask for room first, so only another thread that takes pages meanwhile can bring one here.
TEST(PageTable, IsAsItWasWhenTheStoreHasTooFewPages) {
  const auto store = std::make_shared<detail::PageStore>(6, 1, 64);
  detail::PageTable table(store, detail::Placement::pooled, 1000, CacheWindow{.window_left = 0});
  table.extend(4 * page_size);
  const auto pages = [&] {
    std::vector<const std::byte*> places;
    table.for_each_page([&](const detail::PagePlace& page) { places.push_back(page.first); });
    return places;
  };
  const auto before = pages();
  // Three of its pages are behind the window, and two are free: five for the six that it needs.
  EXPECT_THROW(table.extend(6 * page_size), PoolExhaustedError);
  EXPECT_EQ(pages(), before);
  EXPECT_EQ(table.seqlen(), 4 * page_size);
  EXPECT_EQ(store->free_pages(), 2);
}

// What is kept sees nothing of what was let go, though the window began there.
TEST(PooledWindow, TruncatesToItsSinksWhateverItHasLetGo) {
  const PagePool<FullKv<1, 4>> pool(10);
  std::vector<float> rows(640 * 4);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(i);
  const HeadsView<const float> all(rows.data(), 1, 640, 4);
  const CacheWindow window{.num_sink_tokens = 70, .window_left = 65};
  for (const Index kept : {1, 64, 65, 70}) {
    KvCache<FullKv<1, 4>> cache(pool, 640, window), other(pool, 640, window);
    cache.append(all.middle_rows(0, 300), all.middle_rows(0, 300));
    for (Index token = 300; token < 500; ++token)
      cache.append(all.middle_rows(token, 1), all.middle_rows(token, 1));
    EXPECT_LT(10 - pool.free_pages(), 8);  // pages were let go
    other.assign_prefix(cache, kept);      // one rule for both
    cache.truncate(kept);
    for (auto* const each : {&cache, &other}) {
      EXPECT_EQ(each->seqlen(), kept);
      EXPECT_LE(each->dropped().end, each->dropped().begin);
      std::vector<float> found(static_cast<std::size_t>(kept * 4));
      each->read_key(0, {found.data(), kept, 4});
      EXPECT_TRUE(std::equal(found.begin(), found.end(), rows.begin()));
    }
    EXPECT_EQ(pool.free_pages(), 10 - page_count(kept)) << kept;
    cache.append(all.middle_rows(kept, 1), all.middle_rows(kept, 1));
    EXPECT_EQ(cache.seqlen(), kept + 1);
  }
  EXPECT_EQ(pool.free_pages(), 10);
}

TEST(PooledWindow, TruncatesToNothingWhateverItHasLetGo) {
  const PagePool<FullKv<1, 4>> pool(10);
  KvCache<FullKv<1, 4>> cache(pool, 640, CacheWindow{.window_left = 64});
  const std::vector<float> rows(300 * 4, 1.0F);
  const auto append = [&](Index count) {
    const HeadsView<const float> view(rows.data(), 1, count, 4);
    cache.append(view, view);
  };
  append(300), append(1);  // pages are let go
  ASSERT_GT(cache.dropped().end, 200);
  cache.truncate(0);  // no token is left that could miss one
  EXPECT_EQ(cache.seqlen(), 0);
  EXPECT_LE(cache.dropped().end, cache.dropped().begin);
  EXPECT_EQ(pool.free_pages(), 10);
  append(300);
  EXPECT_EQ(cache.seqlen(), 300);
}

}  // namespace
}  // namespace heed
