// SPDX-License-Identifier: MIT
/// \file
/// Random tokens of either kind, to put into a cache and to find there again.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "heed/cache/kv_cache.hpp"     // KvCache
#include "support/attention_case.hpp"  // Heads, normal_heads, view
#include "support/random.hpp"          // Random

namespace heed::test {

/// In place of a token's index: the cache has dropped what was there.
inline constexpr Index dropped_token = -1;

/// Whether `found` holds the rows `which` of `source`, in their order, and zeros for those dropped.
template <class T>
bool holds_rows(const Heads<T>& found, const Heads<T>& source, const std::vector<Index>& which) {
  for (Index head = 0; head < source.heads; ++head)
    for (Index row = 0; row < std::ssize(which); ++row)
      for (Index col = 0; col < source.cols; ++col) {
        const Index token = which[static_cast<std::size_t>(row)];
        if (found(head, row, col) != (token == dropped_token ? T{0} : source(head, token, col)))
          return false;
      }
  return true;
}

inline std::vector<Index> first_tokens(Index count) {
  std::vector<Index> all(static_cast<std::size_t>(count));
  std::iota(all.begin(), all.end(), Index{0});
  return all;
}

/// The largest magnitude of a row.
template <class T>
T row_max(const Heads<T>& heads, Index head, Index row) {
  T largest = 0;
  for (Index col = 0; col < heads.cols; ++col)
    largest = std::max(largest, std::abs(heads(head, row, col)));
  return largest;
}

/// What is left of x in a row whose largest magnitude is `largest`.
template <class Element, class T>
T stored(T x, T largest) {
  if constexpr (std::is_same_v<Element, int8>) {
    const T scale = largest / 127;
    return scale == 0 ? T{0} : std::nearbyint(x / scale) * scale;
  } else {
    return static_cast<T>(static_cast<Element>(x));
  }
}
template <class Element, class T>
Heads<T> stored(Heads<T> heads) {
  for (Index head = 0; head < heads.heads; ++head)
    for (Index row = 0; row < heads.rows; ++row) {
      const T largest = row_max(heads, head, row);
      for (Index col = 0; col < heads.cols; ++col)
        heads(head, row, col) = stored<Element>(heads(head, row, col), largest);
    }
  return heads;
}

/// Keys and values, of widths that fill no whole number of vectors.
template <class E>
class FullTokens {
 public:
  using Element = E;
  using T = ComputeType<Element>;
  using Cache = KvCache<FullKv<3, 20, 9>, Element>;

  FullTokens(Index count, Random& random)
      : key_(normal_heads<T>(3, count, 20, random)), value_(normal_heads<T>(3, count, 9, random)),
        stored_key_(stored<Element>(key_)), stored_value_(stored<Element>(value_)) {}

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
    EXPECT_TRUE(holds_rows(key, stored_key_, which)) << "keys";
    EXPECT_TRUE(holds_rows(value, stored_value_, which)) << "values";
  }
  void expect_held(const Cache& cache, Index count) const {
    expect_held(cache, first_tokens(count));
  }

 private:
  Heads<T> key_, value_;
  Heads<T> stored_key_, stored_value_;
};

/// Latents and the keys that all heads share.
template <class E>
class LatentTokens {
 public:
  using Element = E;
  using T = ComputeType<Element>;
  using Cache = KvCache<LatentKv<21, 6>, Element>;

  LatentTokens(Index count, Random& random)
      : c_kv_(normal_heads<T>(1, count, 21, random)), k_rope_(normal_heads<T>(1, count, 6, random)),
        stored_c_kv_(c_kv_), stored_k_rope_(k_rope_) {
    for (Index row = 0; row < count; ++row) {  // the two parts of a row share its scale
      const T largest = std::max(row_max(c_kv_, 0, row), row_max(k_rope_, 0, row));
      for (Heads<T>* const part : {&stored_c_kv_, &stored_k_rope_})
        for (Index col = 0; col < part->cols; ++col)
          (*part)(0, row, col) = stored<Element>((*part)(0, row, col), largest);
    }
  }

  static Cache empty_cache(Index capacity) { return Cache(capacity); }
  void append(Cache& cache, Index begin, Index count) const {
    cache.append(view(c_kv_).head(0).middle_rows(begin, count),
                 view(k_rope_).head(0).middle_rows(begin, count));
  }
  void expect_held(const Cache& cache, const std::vector<Index>& which) const {
    ASSERT_EQ(cache.seqlen(), std::ssize(which));
    Heads<T> c_kv(1, cache.seqlen(), 21), k_rope(1, cache.seqlen(), 6);
    cache.read_latent(view(c_kv).head(0), view(k_rope).head(0));
    EXPECT_TRUE(holds_rows(c_kv, stored_c_kv_, which)) << "latents";
    EXPECT_TRUE(holds_rows(k_rope, stored_k_rope_, which)) << "rotated keys";
  }
  void expect_held(const Cache& cache, Index count) const {
    expect_held(cache, first_tokens(count));
  }

 private:
  Heads<T> c_kv_, k_rope_;
  Heads<T> stored_c_kv_, stored_k_rope_;
};

}  // namespace heed::test
