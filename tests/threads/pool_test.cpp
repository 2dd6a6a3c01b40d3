// SPDX-License-Identifier: MIT
/// \file
/// Threads that append to sequences of one pool, or read them, do not get in each other's way.

#include <atomic>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "heed/attention/attend.hpp"
#include "heed/cache/kv_cache.hpp"
#include "support/attention_case.hpp"  // normal_inputs, attend_source
#include "support/cached_tokens.hpp"   // FullTokens

namespace heed {
namespace {

using test::Random;
using test::view;

template <class Element>
class ThreadsOfAPool : public testing::Test {};
using Elements = testing::Types<float, int4, PerChannel<int8>>;
TYPED_TEST_SUITE(ThreadsOfAPool, Elements);

// Each thread has its own sequences; all take from one pool, and read pages that they share.
TYPED_TEST(ThreadsOfAPool, HaveSequencesOfTheirOwn) {
  using Tokens = test::FullTokens<TypeParam>;
  using Cache = typename Tokens::Cache;
  Random random(1);
  const Tokens tokens(300, random);
  const PagePool<FullKv<3, 20, 9>, TypeParam> pool(60);
  Cache prefix(pool, 300);
  tokens.append(prefix, 0, 100);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int repeat = 0; repeat < 20; ++repeat) {
        Cache cache = prefix.fork();
        for (Index token = 100; token < 300; token += 40) tokens.append(cache, token, 40);
        const Cache fork = cache.fork();
        cache.truncate(90);
        tokens.append(cache, 90, 30);
        tokens.expect_held(cache, 120);
        tokens.expect_held(fork, 300);
      }
    });
  for (auto& thread : threads) thread.join();
  tokens.expect_held(prefix, 100);
  EXPECT_EQ(pool.free_pages(), 58);
}

// Both appends find their last page shared, until one of them has its copy: whenever the other
// hears of that, each ends with a page of its own.
TEST(ForksOfAPool, AppendAtTheSameTime) {
  using Cache = KvCache<FullKv<1, 1>>;
  constexpr int rounds = 6000;
  const PagePool<FullKv<1, 1>> pool(4);
  const float number = 1;
  const HeadsView<const float> token(&number, 1, 1, 1);
  std::vector<Cache> caches;
  std::atomic<int> arrivals = 0;
  const auto meet = [&](int times) {
    for (++arrivals; arrivals < 2 * times;) std::this_thread::yield();
  };
  std::thread other([&] {
    for (int round = 0; round < rounds; ++round) {
      meet(2 * round + 1);
      caches[1].append(token, token);
      meet(2 * round + 2);
    }
  });
  int wrong = 0;
  for (int round = 0; round < rounds; ++round) {
    caches.clear();
    caches.emplace_back(pool, 10);
    caches[0].append(token, token);
    caches.push_back(caches[0].fork());
    meet(2 * round + 1);
    for (int i = 0; i < round % 300; ++i) (void)arrivals.load();  // the two at all distances
    caches[0].append(token, token);
    meet(2 * round + 2);
    wrong += pool.free_pages() != 2;
  }
  other.join();
  EXPECT_EQ(wrong, 0) << "of " << rounds;
}

// Pages that windows have passed go from one thread's sequence to another's.
TEST(WindowsOfAPool, GivePagesBackWhileOthersTakeThem) {
  using Tokens = test::LatentTokens<bf16>;
  Random random(3);
  const Tokens tokens(500, random);
  const CacheWindow window{.num_sink_tokens = 4, .window_left = 70};
  constexpr Index num_threads = 3;
  const Index capacity = window.capacity(1);
  const PagePool<LatentKv<21, 6>, bf16> pool(num_threads * page_count(capacity));
  std::vector<Index> held(500, test::dropped_token);
  for (Index token = 0; token < 500; ++token)
    if (token < 4 || token >= 499 - 70) held[static_cast<std::size_t>(token)] = token;
  std::vector<std::thread> threads;
  for (Index i = 0; i < num_threads; ++i)
    threads.emplace_back([&] {
      for (int repeat = 0; repeat < 3; ++repeat) {
        Tokens::Cache cache(pool, capacity, window);
        for (Index token = 0; token < 500; ++token) tokens.append(cache, token, 1);
        tokens.expect_held(cache, held);
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(pool.free_pages(), pool.num_pages());
}

// A thread appends to one sequence while others read theirs, whose pages it shares in part.
TYPED_TEST(ThreadsOfAPool, ReadWhileOneAppends) {
  using Cache = KvCache<FullKv<2, 16>, TypeParam>;
  Random random(2);
  const auto inputs = test::normal_inputs<float>(
      {.num_heads = 6, .num_kv_heads = 2, .seqlen_q = 1, .seqlen_kv = 600}, random);
  const PagePool<FullKv<2, 16>, TypeParam> pool(40);
  Cache prefix(pool, 1500);
  const auto append = [&](Cache& cache, Index begin, Index count) {
    cache.append(view(inputs.key).middle_rows(begin, count),
                 view(inputs.value).middle_rows(begin, count));
  };
  append(prefix, 0, 200);
  const auto read = [&](const Cache& cache) {
    return test::attend_source(view(inputs.query), cache, CausalMask{}, 0.25,
                               {.executor = SerialExecutor{}});
  };
  const auto alone = read(prefix);
  std::thread writer([&, cache = prefix.fork()]() mutable {
    for (Index token = 200; token < 600; ++token) {
      append(cache, token, 1);
      if (token % 50 == 0) cache.truncate(190);
    }
  });
  std::thread reader([&, cache = prefix.fork()] {
    for (int i = 0; i < 50; ++i) EXPECT_EQ(read(cache), alone);
  });
  for (int i = 0; i < 50; ++i) EXPECT_EQ(read(prefix), alone);
  writer.join();
  reader.join();
}

}  // namespace
}  // namespace heed
