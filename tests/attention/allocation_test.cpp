// SPDX-License-Identifier: MIT
/// \file
/// With a workspace, a decode step and a backward pass allocate nothing, and prefill needs no more
/// memory for more tokens.

#include <span>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "heed/attention/attend.hpp"
#include "heed/attention/backward.hpp"
#include "heed/base/thread_pool.hpp"
#include "heed/cache/kv_cache.hpp"
#include "support/allocation_count.hpp"  // count_allocations
#include "support/attention_case.hpp"    // normal_inputs, view

namespace heed {
namespace {

using test::AttentionShape;
using test::Random;
using test::view;

TEST(AttendAllocations, ADecodeStepMakesNone) {
  for (const Index seqlen : {10, 3000}) {
    const AttentionShape shape{
        .num_heads = 6, .num_kv_heads = 2, .seqlen_q = 30, .seqlen_kv = seqlen + 30};
    Random random(1);
    const auto inputs = test::normal_inputs<float>(shape, random);
    test::AttentionResult<float> result(6, 30, 16);
    KvCache<FullKv<2, 16>> cache{seqlen + 30};
    cache.append(view(inputs.key).middle_rows(0, seqlen),
                 view(inputs.value).middle_rows(0, seqlen));
    Workspace workspace;
    const AttendOptions<float> options{.executor = SerialExecutor{}, .workspace = &workspace};
    const auto step = [&](Index token) {
      cache.append(view(inputs.key).middle_rows(seqlen + token, 1),
                   view(inputs.value).middle_rows(seqlen + token, 1));
      attend(view(inputs.query).middle_rows(token, 1), cache, CausalMask{}, 0.25,
             view(result.out).middle_rows(token, 1), options);
    };
    EXPECT_GT(test::count_allocations([&] { step(0); }), 0) << "the first step makes the scratch";
    for (Index token = 1; token < 30; ++token)
      EXPECT_EQ(test::count_allocations([&] { step(token); }), 0) << token;
  }
}

/// A cache that holds `held` tokens, then decodes some more with each executor.
template <class Cache>
void expect_no_allocations(Index num_heads, Index held) {
  Random random(6);
  Cache cache(held + 40);
  const AttentionShape shape{.num_heads = num_heads,
                             .num_kv_heads = cache.num_kv_heads(),
                             .seqlen_q = 1,
                             .seqlen_kv = held + 40,
                             .head_dim = cache.head_dim(),
                             .head_dim_v = cache.head_dim_v()};
  const auto inputs = test::normal_inputs<float>(shape, random);
  test::AttentionResult<float> result(num_heads, 1, cache.head_dim_v());
  const auto append = [&](Index count) {
    const auto key = view(inputs.key).middle_rows(cache.seqlen(), count);
    if constexpr (Cache::key_layout == KeyLayout::row_major)
      cache.append(key.head(0).middle_cols(0, cache.head_dim_v()),
                   key.head(0).middle_cols(cache.head_dim_v(), cache.entry().rope_dim));
    else
      cache.append(key, view(inputs.value).middle_rows(cache.seqlen(), count));
  };
  append(held);
  Eigen::ThreadPool pool(1);
  for (const AnyExecutor& executor :
       {AnyExecutor(SerialExecutor{}), AnyExecutor(ThreadPoolExecutor{&pool})}) {
    Workspace workspace;
    const auto step = [&] {
      append(1);
      attend(view(inputs.query), cache, CausalMask{}, 0.25, view(result.out),
             {.executor = executor, .workspace = &workspace});
    };
    step();
    for (int token = 1; token < 20; ++token) EXPECT_EQ(test::count_allocations(step), 0) << token;
  }
}

// Large enough for several tasks.
TEST(AttendAllocations, ADecodeStepOverAnyElementMakesNone) {
  using Full = FullKv<2, 64>;
  expect_no_allocations<KvCache<Full, f16>>(8, 3000);
  expect_no_allocations<KvCache<Full, Native<int8>>>(8, 3000);
  expect_no_allocations<KvCache<Full, PerChannel<int8>>>(8, 3000);
  expect_no_allocations<KvCache<Full, Rotated<int4>>>(8, 3000);
  expect_no_allocations<KvCache<LatentKv<64, 16>, bf16>>(8, 3000);
  expect_no_allocations<KvCache<LatentKv<64, 16>, Rotated<int8>>>(8, 3000);
}

// Nor do caches in a pool, when they take pages, copy a shared one or give some back.
TEST(AttendAllocations, ADecodeStepInAPoolMakesNone) {
  Random random(4);
  const auto inputs = test::normal_inputs<float>(
      {.num_heads = 6, .num_kv_heads = 2, .seqlen_q = 400, .seqlen_kv = 400}, random);
  test::AttentionResult<float> result(6, 1, 16);
  const PagePool<FullKv<2, 16>> pool(20);
  const CacheWindow window{.num_sink_tokens = 3, .window_left = 70};
  std::vector<KvCache<FullKv<2, 16>>> caches;
  caches.emplace_back(pool, 400);
  caches.emplace_back(pool, window.capacity(100), window);
  for (auto& cache : caches) {
    Workspace workspace;
    const auto append = [&](Index begin, Index count) {
      cache.append(view(inputs.key).middle_rows(begin, count),
                   view(inputs.value).middle_rows(begin, count));
    };
    const auto step = [&](Index token) {
      append(token, 1);
      attend(view(inputs.query).middle_rows(token, 1), cache, CausalMask{}, 0.25, view(result.out),
             {.executor = SerialExecutor{}, .workspace = &workspace});
    };
    append(0, 100);
    step(100);  // makes the scratch
    const auto fork = cache.fork();
    for (Index token = 101; token < 400; ++token)
      EXPECT_EQ(test::count_allocations([&] { step(token); }), 0) << token;
  }
}

// Nor does a batch of them, over pages that they share and pages of their own.
TEST(AttendAllocations, ADecodeStepOfABatchMakesNone) {
  Random random(5);
  const auto inputs = test::normal_inputs<float>(
      {.num_heads = 6, .num_kv_heads = 2, .seqlen_q = 20, .seqlen_kv = 1500}, random);
  const PagePool<FullKv<2, 16>> pool(60);
  KvCache<FullKv<2, 16>> prefix(pool, 1500);
  prefix.append(view(inputs.key).middle_rows(0, 1200), view(inputs.value).middle_rows(0, 1200));
  std::vector<KvCache<FullKv<2, 16>>> caches;
  std::vector<test::AttentionResult<float>> results;
  for (int i = 0; i < 5; ++i) {
    caches.push_back(prefix.fork());
    results.emplace_back(6, 1, 16);
  }
  std::vector<AttendSequence<float, KvCache<FullKv<2, 16>>, CausalMask>> sequences;
  for (std::size_t i = 0; i < caches.size(); ++i)
    sequences.push_back({view(inputs.query).middle_rows(static_cast<Index>(i), 1), &caches[i],
                         CausalMask{}, view(results[i].out)});
  Workspace workspace;
  const auto step = [&](Index token) {
    for (auto& cache : caches)
      cache.append(view(inputs.key).middle_rows(token, 1),
                   view(inputs.value).middle_rows(token, 1));
    attend_batch(std::span(std::as_const(sequences)), 0.25,
                 {.executor = SerialExecutor{}, .workspace = &workspace});
  };
  step(1200);  // makes the scratch
  for (Index token = 1201; token < 1300; ++token)
    EXPECT_EQ(test::count_allocations([&] { step(token); }), 0) << token;
}

TEST(AttendAllocations, AMatrixCallMakesNoneEither) {
  Random random(2);
  const auto inputs = test::normal_inputs<float>(
      {.num_heads = 4, .num_kv_heads = 2, .seqlen_q = 100, .seqlen_kv = 200}, random);
  test::AttentionResult<float> result(4, 100, 16);
  Workspace workspace;
  const auto call = [&] {
    attend(view(inputs.query), view(inputs.key), view(inputs.value), CausalMask{}, 0.25,
           view(result.out), {.executor = SerialExecutor{}, .workspace = &workspace});
  };
  call();
  EXPECT_EQ(test::count_allocations(call), 0);
}

TEST(AttendAllocations, PrefillOfAnyLengthTakesTheSameMemory) {
  const auto bytes_of = [](Index seqlen) {
    Random random(3);
    const auto inputs = test::normal_inputs<float>({.num_heads = 8,
                                                    .num_kv_heads = 8,
                                                    .seqlen_q = seqlen,
                                                    .seqlen_kv = seqlen,
                                                    .head_dim = 4,
                                                    .head_dim_v = 4},
                                                   random);
    test::AttentionResult<float> result(8, seqlen, 4);
    Workspace workspace;
    attend(view(inputs.query), view(inputs.key), view(inputs.value), CausalMask{}, 0.25,
           view(result.out), {.executor = SerialExecutor{}, .workspace = &workspace});
    return workspace.bytes();
  };
  EXPECT_EQ(bytes_of(1600), bytes_of(800));
}

/// Runs tasks one after another, of as many as it says could run at a time, until `pool` is given.
struct Claims {
  Index tasks_at_a_time;
  Eigen::ThreadPool* pool = nullptr;

  Index concurrency() const { return tasks_at_a_time; }
  template <class Body>
  void parallel_for(Index count, const Body& body) const {
    if (pool != nullptr)
      ThreadPoolExecutor{pool}.parallel_for(count, body);
    else
      SerialExecutor{}.parallel_for(count, body);
  }
};

// The first call makes scratch for as many tasks as may ever run at a time.
TEST(AttendAllocations, TasksThatOverlapForTheFirstTimeMakeNone) {
  Random random(8);
  const auto inputs = test::normal_inputs<float>(
      {.num_heads = 8, .num_kv_heads = 2, .seqlen_q = 1, .seqlen_kv = 4000, .head_dim = 64},
      random);
  test::AttentionResult<float> result(8, 1, inputs.value.cols);
  KvCache<FullKv<>> cache(
      4000, {.num_kv_heads = 2, .head_dim = inputs.key.cols, .head_dim_v = inputs.value.cols});
  cache.append(view(inputs.key), view(inputs.value));
  using Sequence = AttendSequence<float, KvCache<FullKv<>>, CausalMask>;
  const Sequence sequences[] = {
      {view(std::as_const(inputs.query)), &cache, CausalMask{}, view(result.out)}};
  Workspace alone, in_batch;
  const auto step = [&](Eigen::ThreadPool* pool) {
    const Claims executor{2, pool};
    attend(view(inputs.query), cache, CausalMask{}, 0.1, view(result.out),
           {.executor = executor, .workspace = &alone});
    attend_batch(sequences, 0.1, {.executor = executor, .workspace = &in_batch});
    return std::pair(alone.bytes(), in_batch.bytes());
  };
  const auto before = step(nullptr);
  Eigen::ThreadPool pool(1);
  for (int times = 0; times < 50; ++times) EXPECT_EQ(step(&pool), before);
}

// Without a workspace there is no later call to make scratch for.
TEST(AttendAllocations, ACallByItselfMakesNoMoreThanItsTasksTake) {
  Random random(10);
  const auto inputs = test::normal_inputs<float>(
      {.num_heads = 8, .num_kv_heads = 2, .seqlen_q = 1, .seqlen_kv = 4000, .head_dim = 64},
      random);
  test::AttentionResult<float> result(8, 1, inputs.value.cols);
  const auto allocations = [&](Index concurrency) {
    return test::count_allocations([&] {
      attend(view(inputs.query), view(inputs.key), view(inputs.value), CausalMask{}, 0.1,
             view(result.out), {.executor = Claims{concurrency}});
    });
  };
  EXPECT_GT(allocations(1), 0);
  EXPECT_EQ(allocations(200), allocations(1));
}

// An executor that names as many tasks as it likes gets scratch for as many as run.
TEST(AttendAllocations, AWorkspaceHoldsNoMoreThanProcessorsHaveThreads) {
  Random random(11);
  const auto inputs = test::normal_inputs<float>(
      {.num_heads = 2, .num_kv_heads = 1, .seqlen_q = 1, .seqlen_kv = 4000, .head_dim = 64},
      random);
  test::AttentionResult<float> result(2, 1, inputs.value.cols);
  const auto held = [&](Index concurrency) {
    Workspace workspace;
    attend(view(inputs.query), view(inputs.key), view(inputs.value), CausalMask{}, 0.1,
           view(result.out), {.executor = Claims{concurrency}, .workspace = &workspace});
    return workspace.bytes();
  };
  EXPECT_EQ(held(std::numeric_limits<Index>::max()), held(10'000));
  EXPECT_LT(held(10'000), 20 * held(100));
}

// As a sequence grows there are more tasks; the scratch of all that may run is there from the
// first.
TEST(AttendAllocations, MoreTasksThanBeforeMakeNone) {
  Random random(9);
  const auto inputs = test::normal_inputs<float>(
      {.num_heads = 8, .num_kv_heads = 1, .seqlen_q = 1, .seqlen_kv = 6000, .head_dim = 64},
      random);
  test::AttentionResult<float> result(8, 1, inputs.value.cols);
  Workspace for_one, for_four;
  const auto scratch_of_three = [&](Index seqlen) {
    const auto attend_to = [&](Index tasks, Workspace& workspace) {
      attend(view(inputs.query), view(inputs.key).middle_rows(0, seqlen),
             view(inputs.value).middle_rows(0, seqlen), NoMask{}, 0.1, view(result.out),
             {.executor = Claims{tasks}, .workspace = &workspace});
      return workspace.bytes();
    };
    return attend_to(4, for_four) - attend_to(1, for_one);
  };
  const auto before = scratch_of_three(2000);
  EXPECT_GT(before, 0u);
  EXPECT_EQ(scratch_of_three(6000), before);
}

// An append that is longer than the window allocates nothing, however many pages it lets go.
TEST(AttendAllocations, AWindowThatMovesOnMakesNone) {
  Random random(7);
  const auto inputs = test::normal_inputs<float>(
      {.num_heads = 2, .num_kv_heads = 2, .seqlen_q = 1, .seqlen_kv = 1400}, random);
  const CacheWindow window{.num_sink_tokens = 3, .window_left = 64};
  KvCache<FullKv<2, 16>> cache(window.capacity(600), {}, window);
  for (const auto& [begin, count] : {std::pair(0, 200), {200, 600}, {800, 600}})
    EXPECT_EQ(test::count_allocations([&] {
                cache.append(view(inputs.key).middle_rows(begin, count),
                             view(inputs.value).middle_rows(begin, count));
              }),
              0)
        << begin;
  EXPECT_EQ(cache.seqlen(), 1400);
}

// Nor does a backward pass after the first, whose scratch is a few times the queries.
TEST(AttendAllocations, ABackwardPassMakesNone) {
  for (const Index seqlen : {1000, 4000}) {
    const AttentionShape shape{.num_heads = 2, .seqlen_q = seqlen, .seqlen_kv = seqlen};
    Random random(7);
    const auto inputs = test::normal_inputs<float>(shape, random);
    auto grads = inputs;
    test::AttentionResult<float> result(2, seqlen, 16);
    attend(view(inputs.query), view(inputs.key), view(inputs.value), CausalMask{}, 0.25,
           view(result.out), result.lse_view());
    Workspace workspace;
    const auto step = [&] {
      attend_backward(
          view(inputs.query), view(inputs.key), view(inputs.value), CausalMask{}, 0.25,
          {.out = view(result.out), .lse = result.lse_view()}, view(result.out),
          {.query = view(grads.query), .key = view(grads.key), .value = view(grads.value)},
          {.executor = SerialExecutor{}, .workspace = &workspace});
    };
    EXPECT_GT(test::count_allocations(step), 0) << "the first makes the scratch";
    EXPECT_EQ(test::count_allocations(step), 0);
    // A part for each 512 keys, up to 16; blocks are powers of two.
    const std::size_t parts = static_cast<std::size_t>((seqlen + 511) / 512 * seqlen * 2 * 16);
    EXPECT_LE(workspace.bytes(), (std::size_t{1} << 21) + 4 * parts * sizeof(float));
  }
}

}  // namespace
}  // namespace heed
