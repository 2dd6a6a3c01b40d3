// SPDX-License-Identifier: MIT
/// \file
/// The KV cache gives back what it was given; truncate, clear, fork and move do what they say; what
/// throws leaves it as it was.

#include "heed/cache/kv_cache.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/cached_tokens.hpp"  // FullTokens, LatentTokens
#include "support/random.hpp"         // Random
#include "support/shape_error.hpp"    // expect_shape_error

namespace heed {
namespace {

using test::expect_shape_error;
using test::Random;

/// What a token of either kind is: each test runs on both, and on all elements.
template <class Tokens>
class Cache : public testing::Test {};
using Kinds =
    testing::Types<test::FullTokens<float>, test::FullTokens<double>, test::FullTokens<f16>,
                   test::FullTokens<bf16>, test::FullTokens<int8>, test::FullTokens<int4>,
                   test::FullTokens<PerChannel<int8>>, test::FullTokens<Rotated<int8>>,
                   test::FullTokens<Rotated<int4>>, test::FullTokens<Rotated<PerChannel<int8>>>,
                   test::LatentTokens<float>, test::LatentTokens<double>, test::LatentTokens<bf16>,
                   test::LatentTokens<int8>, test::LatentTokens<int4>,
                   test::LatentTokens<Rotated<int8>>, test::LatentTokens<Rotated<int4>>>;
TYPED_TEST_SUITE(Cache, Kinds);

TYPED_TEST(Cache, GivesBackWhatWasAppendedInAnyChunks) {
  Random random(1);
  const TypeParam tokens(300, random);
  for (const Index chunk : {1, 2, 7, 63, 64, 65, 100, 300}) {
    SCOPED_TRACE("chunks of " + std::to_string(chunk));
    auto cache = tokens.empty_cache(300);
    for (Index begin = 0; begin < 300; begin += chunk) {
      const Index count = std::min(chunk, 300 - begin);
      tokens.append(cache, begin, count);
      EXPECT_EQ(cache.seqlen(), begin + count);
    }
    tokens.expect_held(cache, 300);
  }
}

TYPED_TEST(Cache, StartsEmpty) {
  Random random(2);
  const TypeParam tokens(10, random);
  for (const Index capacity : {0, 1, 64, 1000}) {
    const auto cache = tokens.empty_cache(capacity);
    EXPECT_EQ(cache.seqlen(), 0);
    EXPECT_EQ(cache.capacity(), capacity);
    tokens.expect_held(cache, 0);
  }
}

TYPED_TEST(Cache, TakesNoTokens) {
  Random random(3);
  const TypeParam tokens(10, random);
  auto cache = tokens.empty_cache(5);
  tokens.append(cache, 0, 0);
  EXPECT_EQ(cache.seqlen(), 0);
  tokens.append(cache, 0, 5);
  tokens.append(cache, 5, 0);  // full, but there is room for none
  tokens.expect_held(cache, 5);
}

TYPED_TEST(Cache, TruncatesToTheFirstTokens) {
  Random random(4);
  const TypeParam tokens(200, random), others(200, random);
  for (const Index kept : {0, 1, 63, 64, 65, 130, 200}) {
    auto cache = tokens.empty_cache(260);
    tokens.append(cache, 0, 200);
    cache.truncate(kept);
    tokens.expect_held(cache, kept);
    others.append(cache, 0, 60);  // over what was forgotten
    cache.truncate(kept);
    tokens.expect_held(cache, kept);
    tokens.append(cache, kept, 200 - kept);
    tokens.expect_held(cache, 200);
  }
}

TYPED_TEST(Cache, RefusesToTruncateToMoreThanItHolds) {
  Random random(5);
  const TypeParam tokens(5, random);
  auto cache = tokens.empty_cache(10);
  tokens.append(cache, 0, 5);
  expect_shape_error({"heed::KvCache::truncate: cannot keep 6 of 5 tokens"},
                     [&] { cache.truncate(6); });
  expect_shape_error({"heed::KvCache::truncate: cannot keep -1 of 5 tokens"},
                     [&] { cache.truncate(-1); });
  tokens.expect_held(cache, 5);
}

TYPED_TEST(Cache, ClearsAndFillsAgain) {
  Random random(6);
  const TypeParam tokens(100, random), others(100, random);
  auto cache = tokens.empty_cache(100);
  others.append(cache, 0, 100);
  const std::size_t bytes = cache.bytes();
  cache.clear();
  EXPECT_EQ(cache.seqlen(), 0);
  EXPECT_EQ(cache.bytes(), bytes);
  tokens.append(cache, 0, 70);
  tokens.expect_held(cache, 70);
}

TYPED_TEST(Cache, ForksGoTheirOwnWays) {
  Random random(7);
  const TypeParam tokens(150, random), others(150, random);
  for (const Index shared : {0, 1, 64, 100}) {
    auto cache = tokens.empty_cache(150);
    tokens.append(cache, 0, shared);
    auto fork = cache.fork();
    EXPECT_EQ(fork.capacity(), cache.capacity());
    EXPECT_EQ(fork.bytes(), cache.bytes());
    others.append(fork, 0, 50);
    tokens.expect_held(cache, shared);
    tokens.append(cache, shared, 150 - shared);
    tokens.expect_held(cache, 150);
    fork.truncate(shared);
    tokens.expect_held(fork, shared);
  }
}

TYPED_TEST(Cache, MovesItsTokensAlong) {
  Random random(8);
  const TypeParam tokens(100, random), others(100, random);
  auto first = tokens.empty_cache(120);
  tokens.append(first, 0, 100);
  auto second = std::move(first);
  tokens.expect_held(second, 100);
  EXPECT_EQ(second.capacity(), 120);
  EXPECT_EQ(first.seqlen(),
            0);  // NOLINT(bugprone-use-after-move): it is an empty cache without room
  EXPECT_THROW((void)first.pages_needed(1), CapacityError);
  EXPECT_EQ(first.capacity(), 0);
  EXPECT_THROW(tokens.append(first, 0, 1), CapacityError);

  auto third = tokens.empty_cache(10);
  others.append(third, 0, 10);
  third = std::move(second);
  tokens.expect_held(third, 100);
  others.append(third, 0, 20);
  third.truncate(100);
  tokens.expect_held(third, 100);
  using CacheType = decltype(third);
  static_assert(!std::is_copy_constructible_v<CacheType> && !std::is_copy_assignable_v<CacheType>);
}

TYPED_TEST(Cache, IsAsItWasWhenItsCapacityIsExceeded) {
  Random random(9);
  const TypeParam tokens(200, random), others(200, random);
  for (const Index held : {0, 1, 63, 64, 99, 100}) {
    auto cache = tokens.empty_cache(100);
    tokens.append(cache, 0, held);
    for (const Index more : {Index{101} - held, Index{200} - held, Index{150}}) {
      EXPECT_THAT([&] { others.append(cache, 0, more); },
                  testing::ThrowsMessage<CapacityError>(
                      "heed::KvCache: " + std::to_string(held) + " tokens are cached and " +
                      std::to_string(more) + " more were given, but the capacity is 100"));
      EXPECT_EQ(cache.seqlen(), held);
      tokens.expect_held(cache, held);
    }
    tokens.append(cache, held, 100 - held);  // what fits still fits
    tokens.expect_held(cache, 100);
  }
}

}  // namespace
}  // namespace heed
