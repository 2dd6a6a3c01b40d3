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

/// Fails unless `found` holds the rows `which` of `source`, in their order, and zeros for those
/// dropped: each row but for an error of length allowed(head, token).
template <class T, class Allowed>
void expect_rows(const Heads<T>& found, const Heads<T>& source, const std::vector<Index>& which,
                 const Allowed& allowed) {
  for (Index head = 0; head < source.heads; ++head)
    for (Index row = 0; row < std::ssize(which); ++row) {
      const Index token = which[static_cast<std::size_t>(row)];
      double squares = 0;
      for (Index col = 0; col < source.cols; ++col) {
        const T expected = token == dropped_token ? T{0} : source(head, token, col);
        squares += std::pow(static_cast<double>(found(head, row, col) - expected), 2);
      }
      const double most = token == dropped_token ? 0 : allowed(head, token);
      // A NaN is an error as well.
      ASSERT_TRUE(std::sqrt(squares) <= most) << "head " << head << ", row " << row << ", off by "
                                              << std::sqrt(squares) << ", allowed " << most;
    }
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

/// Half the distance between codes, for a row or a channel whose codes reach from -largest to
/// largest; 0 if the elements are no codes.
template <class Element>
double half_step(double largest) {
  if constexpr (!has_scales<Element>) return 0;
  return largest / (element_bits<Element> == 4 ? 15 : 254);
}

/// What is left of x in a row whose largest magnitude is `largest`, unless rotated or per channel.
template <class Element, class T>
T stored(T x, T largest) {
  if constexpr (!has_scales<Element>) {
    return static_cast<T>(static_cast<Element>(x));
  } else if constexpr (element_bits<Element> == 4) {
    const T scale = largest / 15;
    return scale == 0 ? T{0} : (2 * std::nearbyint((x / scale + 15) / 2) - 15) * scale;
  } else {
    const T scale = largest / 127;
    return scale == 0 ? T{0} : std::nearbyint(x / scale) * scale;
  }
}
/// What a cache holds of rows, and how far off it may be.
template <class Element, class T>
class StoredRows {
 public:
  StoredRows() = default;
  explicit StoredRows(Heads<T> given) : rows_(std::move(given)) {
    if (!is_exact) return;  // compared with what was given
    for (Index head = 0; head < rows_.heads; ++head)
      for (Index row = 0; row < rows_.rows; ++row) {
        const T largest = row_max(rows_, head, row);
        for (Index col = 0; col < rows_.cols; ++col)
          rows_(head, row, col) = stored<Element>(rows_(head, row, col), largest);
      }
  }
  void expect(const Heads<T>& found, const std::vector<Index>& which) const {
    expect_rows(found, rows_, which, [this](Index head, Index row) {
      if (is_exact) return 0.0;
      auto largest = static_cast<double>(row_max(rows_, head, row));
      if (is_rotated<Element>) {  // which keeps lengths, and no element is longer than its row
        double squares = 0;
        for (Index col = 0; col < rows_.cols; ++col)
          squares += std::pow(static_cast<double>(rows_(head, row, col)), 2);
        largest = std::sqrt(squares);
      }
      return 1.001 * std::sqrt(static_cast<double>(rows_.cols)) * half_step<Element>(largest);
    });
  }

 private:
  /// Values beside keys per channel may be in the page that is being filled, and so in float.
  static constexpr bool is_exact = !is_rotated<Element> && !keys_per_channel<Element>;

  Heads<T> rows_;
};
/// The same for keys whose channels have the scales: the page that is being filled is exact, and a
/// page that was opened and stored again may have lost more than once.
template <class Element, class T>
class StoredChannels {
  /// How often a page is stored, opened by `truncate` and stored again, in these tests.
  static constexpr double most_times = 2;
  /// A channel's scale and its offset are rounded to bf16, the former up.
  static constexpr double rounding = 1 + 1.0 / 128 + 1.0 / 256;

 public:
  StoredChannels() = default;
  explicit StoredChannels(Heads<T> given) : keys_(std::move(given)) {
    Heads<T> kept = keys_;
    if (is_rotated<Element>)  // which keeps lengths, and so the length of an error
      for (Index head = 0; head < kept.heads; ++head)
        for (Index row = 0; row < kept.rows; ++row)
          simd::rotate_hadamard(&kept(head, row, 0), kept.cols);
    double squares = 0;
    for (Index col = 0; col < kept.cols; ++col) {
      double largest = 0;
      for (Index head = 0; head < kept.heads; ++head)
        for (Index row = 0; row < kept.rows; ++row)
          largest = std::max(largest, std::abs(static_cast<double>(kept(head, row, col))));
      squares += std::pow(half_step<Element>(largest), 2);
    }
    allowed_ = most_times * rounding * std::sqrt(squares);
  }
  void expect(const Heads<T>& found, const std::vector<Index>& which) const {
    expect_rows(found, keys_, which, [this](Index, Index) { return allowed_; });
  }

 private:
  Heads<T> keys_;
  double allowed_;
};

/// Keys and values, of widths that fill no whole number of vectors.
template <class E>
class FullTokens {
 public:
  using Element = E;
  using T = ComputeType<Element>;
  using Cache = KvCache<FullKv<3, 20, 9>, Element>;

  FullTokens(Index count, Random& random)
      : key_(normal_heads<T>(3, count, 20, random)), value_(normal_heads<T>(3, count, 9, random)),
        stored_key_(key_), stored_value_(value_) {}

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
    stored_key_.expect(key, which);
    stored_value_.expect(value, which);
  }
  void expect_held(const Cache& cache, Index count) const {
    expect_held(cache, first_tokens(count));
  }

 private:
  Heads<T> key_, value_;
  std::conditional_t<keys_per_channel<Element>, StoredChannels<Element, T>, StoredRows<Element, T>>
      stored_key_;
  StoredRows<Element, T> stored_value_;
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
        stored_c_kv_(c_kv_), stored_k_rope_(k_rope_) {}

  static Cache empty_cache(Index capacity) { return Cache(capacity); }
  void append(Cache& cache, Index begin, Index count) const {
    cache.append(view(c_kv_).head(0).middle_rows(begin, count),
                 view(k_rope_).head(0).middle_rows(begin, count));
  }
  void expect_held(const Cache& cache, const std::vector<Index>& which) const {
    ASSERT_EQ(cache.seqlen(), std::ssize(which));
    Heads<T> c_kv(1, cache.seqlen(), 21), k_rope(1, cache.seqlen(), 6);
    cache.read_latent(view(c_kv).head(0), view(k_rope).head(0));
    stored_c_kv_.expect(c_kv, which);
    stored_k_rope_.expect(k_rope, which);
  }
  void expect_held(const Cache& cache, Index count) const {
    expect_held(cache, first_tokens(count));
  }

 private:
  Heads<T> c_kv_, k_rope_;
  StoredRows<Element, T> stored_c_kv_;
  StoredRows<std::conditional_t<has_scales<Element>, bf16, Element>, T> stored_k_rope_;
};

}  // namespace heed::test
