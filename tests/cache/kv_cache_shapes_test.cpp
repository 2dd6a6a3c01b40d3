// SPDX-License-Identifier: MIT
/// \file
/// The sizes of a cache, and what it refuses.

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "heed/cache/kv_cache.hpp"
#include "support/cached_tokens.hpp"  // FullTokens, LatentTokens
#include "support/shape_error.hpp"    // expect_shape_error

namespace heed {
namespace {

using test::expect_shape_error;

TEST(CacheSizes, BytesPerTokenAreTheFormula) {
  EXPECT_EQ((KvCache<FullKv<8, 128>, float>(1).bytes_per_token()), 2U * 8 * 128 * 4);
  EXPECT_EQ((KvCache<FullKv<8, 128>, double>(1).bytes_per_token()), 2U * 8 * 128 * 8);
  EXPECT_EQ((KvCache<FullKv<1, 64, 32>, float>(1).bytes_per_token()), (64U + 32) * 4);
  EXPECT_EQ((KvCache<FullKv<8, 128>, bf16>(1).bytes_per_token()), 2U * 8 * 128 * 2);
  EXPECT_EQ((KvCache<FullKv<8, 128>, int8>(1).bytes_per_token()), 2U * 8 * (128 + 4));
  EXPECT_EQ((KvCache<LatentKv<512, 64>, float>(1).bytes_per_token()), 576U * 4);
  EXPECT_EQ((KvCache<LatentKv<512, 64>, f16>(1).bytes_per_token()), 576U * 2);
  EXPECT_EQ((KvCache<LatentKv<512, 64>, int8>(1).bytes_per_token()), 512U + 128 + 4);
  EXPECT_EQ((KvCache<LatentKv<512, 64>, int4>(1).bytes_per_token()), 256U + 128 + 4);
  EXPECT_EQ((KvCache<FullKv<8, 128>, int4>(1).bytes_per_token()), 8U * (64 + 8 + 64 + 4));
  EXPECT_EQ((KvCache<FullKv<8, 128>, PerChannel<int8>>(1).bytes_per_token()),
            8U * (128 + 8 + 128 + 4));
  EXPECT_EQ((KvCache<LatentKv<>, double>(1, {.latent_dim = 12, .rope_dim = 0}).bytes_per_token()),
            12U * 8);
}

// Where pages and rows are full, nothing is lost; else whole pages of rows padded to 16 elements
// are held.
TEST(CacheSizes, BytesAreWholePages) {
  for (const Index capacity : {0, 1, 64, 65, 1000}) {
    const auto tokens_in_pages = static_cast<std::size_t>((capacity + 63) / 64 * 64);
    EXPECT_EQ((KvCache<FullKv<2, 128>>(capacity).bytes()), tokens_in_pages * 2 * 256 * 4);
    EXPECT_EQ((KvCache<FullKv<3, 20, 9>>(capacity).bytes()), tokens_in_pages * 3 * (20 + 16) * 4);
    EXPECT_EQ((KvCache<FullKv<2, 128>, f16>(capacity).bytes()), tokens_in_pages * 2 * 256 * 2);
    EXPECT_EQ((KvCache<FullKv<2, 128>, int8>(capacity).bytes()), tokens_in_pages * 2 * (256 + 8));
    EXPECT_EQ((KvCache<LatentKv<512, 64>>(capacity).bytes()), tokens_in_pages * 576 * 4);
    EXPECT_EQ((KvCache<LatentKv<512, 64>, int8>(capacity).bytes()),
              tokens_in_pages * (512 + 128 + 4));
    EXPECT_EQ((KvCache<LatentKv<512, 64>, int4>(capacity).bytes()),
              tokens_in_pages * (256 + 128 + 4));
    EXPECT_EQ((KvCache<FullKv<2, 128>, Rotated<int8>>(capacity).bytes()),
              tokens_in_pages * 2 * (256 + 8) + 64 * 256 * 4);  // one head's rows, being rotated
    const std::size_t open_pages = 2 * 64 * 2 * 256 * 4;        // in float
    EXPECT_EQ((KvCache<FullKv<2, 128>, PerChannel<int8>>(capacity).bytes()),
              tokens_in_pages * 2 * (128 + 8 + 128 + 4) + open_pages);
    EXPECT_EQ((KvCache<FullKv<2, 128>, int4>(capacity).bytes()),
              tokens_in_pages * 2 * (64 + 8 + 64 + 4) + open_pages);
    EXPECT_EQ((KvCache<LatentKv<21, 6>, double>(capacity).bytes()), tokens_in_pages * 32 * 8);
  }
}

// Sizes may be template arguments, or given at run time, or both.
TEST(CacheSizes, AreFixedOrGiven) {
  const auto expect_sizes = [](const auto& cache, Index num_kv_heads, Index head_dim,
                               Index head_dim_v) {
    EXPECT_EQ(cache.num_kv_heads(), num_kv_heads);
    EXPECT_EQ(cache.head_dim(), head_dim);
    EXPECT_EQ(cache.head_dim_v(), head_dim_v);
  };
  expect_sizes(KvCache<FullKv<2, 6>>(1), 2, 6, 6);
  expect_sizes(KvCache<FullKv<2, 6, 3>>(1), 2, 6, 3);
  expect_sizes(KvCache<FullKv<>>(1, {.num_kv_heads = 2, .head_dim = 6}), 2, 6, 6);
  expect_sizes(KvCache<FullKv<>>(1, {.num_kv_heads = 2, .head_dim = 6, .head_dim_v = 3}), 2, 6, 3);
  expect_sizes(KvCache<FullKv<dynamic, 6>>(1, {.num_kv_heads = 4}), 4, 6, 6);
  expect_sizes(KvCache<FullKv<4>>(1, {.head_dim = 6}), 4, 6, 6);
  expect_sizes(KvCache<LatentKv<10, 4>>(1), 1, 14, 10);
  expect_sizes(KvCache<LatentKv<>>(1, {.latent_dim = 10, .rope_dim = 4}), 1, 14, 10);
}

TEST(CacheRefuses, EntriesThatAreNotWhole) {
  expect_shape_error({"heed::KvCache: entry.num_kv_heads is -1, expected a number from 1 to 2^17, "
                      "given at run time where it is dynamic"},
                     [] { KvCache<FullKv<>>{10}; });
  expect_shape_error({"heed::KvCache: entry.head_dim is -1"}, [] { KvCache<FullKv<2>>{10}; });
  expect_shape_error({"heed::KvCache: entry.num_kv_heads is 0"}, [] { KvCache<FullKv<0, 8>>{10}; });
  expect_shape_error({"heed::KvCache: entry.head_dim is 0"},
                     [] { KvCache<FullKv<>>(10, {.num_kv_heads = 2, .head_dim = 0}); });
  expect_shape_error({"heed::KvCache: entry.head_dim_v is -1"},
                     [] { KvCache<FullKv<2, 8, dynamic>>(10, {.head_dim_v = -1}); });
  expect_shape_error({"heed::KvCache: entry.latent_dim is -1"}, [] { KvCache<LatentKv<>>{10}; });
  expect_shape_error({"heed::KvCache: entry.latent_dim is 0"},
                     [] { KvCache<LatentKv<>>(10, {.latent_dim = 0, .rope_dim = 4}); });
  expect_shape_error({"heed::KvCache: entry.rope_dim is -1, expected a number from 0 to 2^17"},
                     [] { KvCache<LatentKv<>>(10, {.latent_dim = 8}); });
}

TEST(CacheRefuses, EntriesThatContradictTheirType) {
  expect_shape_error({"heed::KvCache: entry [num_kv_heads, head_dim, head_dim_v] has shape [3, 8, "
                      "8], expected [2, 8, 8]"},
                     [] { KvCache<FullKv<2, 8>>(10, {.num_kv_heads = 3}); });
  expect_shape_error(
      {"heed::KvCache: entry [latent_dim, rope_dim] has shape [8, 2], expected [8, 4]"},
      [] { KvCache<LatentKv<8, 4>>(10, {.rope_dim = 2}); });
}

TEST(CacheRefuses, ANegativeCapacity) {
  expect_shape_error({"heed::KvCache: capacity is -1, expected 0 or more"},
                     [] { KvCache<FullKv<2, 8>>{-1}; });
}

/// A cache that holds 10 of some tokens, and is to hold them still after `refused` was called.
template <class Tokens, class Refused>
void expect_kept(const Refused& refused) {
  test::Random random(1);
  const Tokens tokens(10, random);
  auto cache = tokens.empty_cache(100);
  tokens.append(cache, 0, 10);
  refused(cache);
  tokens.expect_held(cache, 10);
}

TEST(CacheRefuses, KeysAndValuesOfOtherShapes) {
  expect_kept<test::FullTokens<float>>([](auto& cache) {
    const std::vector<float> numbers(1000);
    const auto heads = [&](Index num_heads, Index rows, Index cols) {
      return HeadsView<const float>(numbers.data(), num_heads, rows, cols);
    };
    constexpr auto key = "heed::KvCache::append: key [num_kv_heads, count, head_dim] has shape ";
    expect_shape_error({key, "[2, 5, 20], expected [3, 5, 20]"},
                       [&] { cache.append(heads(2, 5, 20), heads(3, 5, 9)); });
    expect_shape_error({key, "[3, 5, 9], expected [3, 5, 20]"},
                       [&] { cache.append(heads(3, 5, 9), heads(3, 5, 9)); });
    constexpr auto value =
        "heed::KvCache::append: value [num_kv_heads, count, head_dim_v] has shape ";
    expect_shape_error({value, "[2, 5, 9], expected [3, 5, 9]"},
                       [&] { cache.append(heads(3, 5, 20), heads(2, 5, 9)); });
    expect_shape_error({value, "[3, 4, 9], expected [3, 5, 9]"},
                       [&] { cache.append(heads(3, 5, 20), heads(3, 4, 9)); });
    expect_shape_error({value, "[3, 5, 20], expected [3, 5, 9]"},
                       [&] { cache.append(heads(3, 5, 20), heads(3, 5, 20)); });
  });
}

TEST(CacheRefuses, LatentsOfOtherShapes) {
  expect_kept<test::LatentTokens<float>>([](auto& cache) {
    const std::vector<float> numbers(1000);
    const auto rows = [&](Index count, Index cols) {
      return RowsView<const float>(numbers.data(), count, cols);
    };
    expect_shape_error(
        {"heed::KvCache::append: c_kv [count, latent_dim] has shape [5, 20], expected [5, 21]"},
        [&] { cache.append(rows(5, 20), rows(5, 6)); });
    expect_shape_error(
        {"heed::KvCache::append: k_rope [count, rope_dim] has shape [5, 7], expected [5, 6]"},
        [&] { cache.append(rows(5, 21), rows(5, 7)); });
    expect_shape_error(
        {"heed::KvCache::append: k_rope [count, rope_dim] has shape [4, 6], expected [5, 6]"},
        [&] { cache.append(rows(5, 21), rows(4, 6)); });
  });
}

/// Memory for a refused read, which must not touch it.
struct Untouched {
  std::vector<float> numbers = std::vector<float>(1000, 7.0F);
  RowsView<float> rows(Index count, Index cols) { return {numbers.data(), count, cols}; }
  ~Untouched() { EXPECT_EQ(numbers, std::vector<float>(1000, 7.0F)); }
};

TEST(CacheRefuses, ReadsIntoOtherShapes) {
  expect_kept<test::FullTokens<float>>([](const auto& cache) {
    Untouched memory;
    expect_shape_error(
        {"heed::KvCache::read_key: out [seqlen, head_dim] has shape [9, 20], expected [10, 20]"},
        [&] { cache.read_key(0, memory.rows(9, 20)); });
    expect_shape_error({"heed::KvCache::read_value: out [seqlen, head_dim_v] has shape [10, 20], "
                        "expected [10, 9]"},
                       [&] { cache.read_value(0, memory.rows(10, 20)); });
    expect_shape_error({"heed::KvCache::read_key: kv_head is 3, expected 0 to 2"},
                       [&] { cache.read_key(3, memory.rows(10, 20)); });
    expect_shape_error({"heed::KvCache::read_value: kv_head is -1, expected 0 to 2"},
                       [&] { cache.read_value(-1, memory.rows(10, 9)); });
  });
  expect_kept<test::LatentTokens<float>>([](const auto& cache) {
    Untouched memory;
    expect_shape_error({"heed::KvCache::read_latent: c_kv [seqlen, latent_dim] has shape [10, 20], "
                        "expected [10, 21]"},
                       [&] { cache.read_latent(memory.rows(10, 20), memory.rows(10, 6)); });
    expect_shape_error({"heed::KvCache::read_latent: k_rope [seqlen, rope_dim] has shape [9, 6], "
                        "expected [10, 6]"},
                       [&] { cache.read_latent(memory.rows(10, 21), memory.rows(9, 6)); });
  });
}

static_assert(PageSource<KvCache<FullKv<2, 8>>> && PageSource<KvCache<LatentKv<8, 4>, double>>);

}  // namespace
}  // namespace heed
