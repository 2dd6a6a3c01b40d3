// SPDX-License-Identifier: MIT
/// \file
/// Random tokens of either kind, to put into a cache and to find there again.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "heed/cache/kv_cache.hpp"     // KvCache
#include "support/attention_case.hpp"  // Heads, normal_heads, view
#include "support/random.hpp"          // Random

namespace heed::test {

/// Whether `found` holds the rows `which` of `source`, in their order.
template <class T>
bool holds_rows(const Heads<T>& found, const Heads<T>& source, const std::vector<Index>& which) {
  for (Index head = 0; head < source.heads; ++head)
    for (Index row = 0; row < std::ssize(which); ++row)
      for (Index col = 0; col < source.cols; ++col)
        if (found(head, row, col) != source(head, which[static_cast<std::size_t>(row)], col))
          return false;
  return true;
}

inline std::vector<Index> first_tokens(Index count) {
  std::vector<Index> all(static_cast<std::size_t>(count));
  std::iota(all.begin(), all.end(), Index{0});
  return all;
}

/// Keys and values, of widths that fill no whole number of vectors.
template <class T>
class FullTokens {
 public:
  using Element = T;
  using Cache = KvCache<FullKv<3, 20, 9>, T>;

  FullTokens(Index count, Random& random)
      : key_(normal_heads<T>(3, count, 20, random)), value_(normal_heads<T>(3, count, 9, random)) {}

  static Cache empty_cache(Index capacity) { return Cache(capacity); }
  /// Appends the tokens begin .. begin + count of these.
  void append(Cache& cache, Index begin, Index count) const {
    cache.append(view(key_).middle_rows(begin, count), view(value_).middle_rows(begin, count));
  }
  /// Fails unless the cache holds exactly these of the tokens.
  void expect_held(const Cache& cache, const std::vector<Index>& which) const {
    ASSERT_EQ(cache.seqlen(), std::ssize(which));
    Heads<T> key(3, cache.seqlen(), 20), value(3, cache.seqlen(), 9);
    for (Index head = 0; head < 3; ++head) {
      cache.read_key(head, view(key).head(head));
      cache.read_value(head, view(value).head(head));
    }
    EXPECT_TRUE(holds_rows(key, key_, which)) << "keys";
    EXPECT_TRUE(holds_rows(value, value_, which)) << "values";
  }
  void expect_held(const Cache& cache, Index count) const {
    expect_held(cache, first_tokens(count));
  }

 private:
  Heads<T> key_, value_;
};

/// Latents and the keys that all heads share.
template <class T>
class LatentTokens {
 public:
  using Element = T;
  using Cache = KvCache<LatentKv<21, 6>, T>;

  LatentTokens(Index count, Random& random)
      : c_kv_(normal_heads<T>(1, count, 21, random)),
        k_rope_(normal_heads<T>(1, count, 6, random)) {}

  static Cache empty_cache(Index capacity) { return Cache(capacity); }
  void append(Cache& cache, Index begin, Index count) const {
    cache.append(view(c_kv_).head(0).middle_rows(begin, count),
                 view(k_rope_).head(0).middle_rows(begin, count));
  }
  void expect_held(const Cache& cache, const std::vector<Index>& which) const {
    ASSERT_EQ(cache.seqlen(), std::ssize(which));
    Heads<T> c_kv(1, cache.seqlen(), 21), k_rope(1, cache.seqlen(), 6);
    cache.read_latent(view(c_kv).head(0), view(k_rope).head(0));
    EXPECT_TRUE(holds_rows(c_kv, c_kv_, which)) << "latents";
    EXPECT_TRUE(holds_rows(k_rope, k_rope_, which)) << "rotated keys";
  }
  void expect_held(const Cache& cache, Index count) const {
    expect_held(cache, first_tokens(count));
  }

 private:
  Heads<T> c_kv_, k_rope_;
};

}  // namespace heed::test
