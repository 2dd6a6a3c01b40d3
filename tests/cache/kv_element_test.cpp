// SPDX-License-Identifier: MIT
/// \file
/// Caches whose elements are narrower than what is computed in.

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <span>
#include <vector>

#include <gtest/gtest.h>

#include "heed/cache/kv_bytes.hpp"
#include "heed/cache/kv_cache.hpp"
#include "support/cached_tokens.hpp"  // FullTokens, LatentTokens
#include "support/random.hpp"         // Random
#include "support/tolerance.hpp"      // unit_roundoff

namespace heed {
namespace {

using test::Heads;
using test::Random;
using test::view;

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

/// Appends one token and reads its value back.
template <class Element>
std::vector<float> read_back(const std::vector<float>& row) {
  const Index width = std::ssize(row);
  KvCache<FullKv<>, Element> cache(1, {.num_kv_heads = 1, .head_dim = 1, .head_dim_v = width});
  const float key = 0;
  std::vector<float> found(row.size());
  cache.append(RowsView<const float>(&key, 1, 1), RowsView<const float>(row.data(), 1, width));
  cache.read_value(0, RowsView<float>(found.data(), 1, width));
  return found;
}

TEST(KvElement, SixteenBitsRoundToTheNearest) {
  EXPECT_EQ(read_back<bf16>({1.0F, 1.00390625F, 1.01171875F, -3e38F, 1e-30F}),
            (std::vector<float>{1.0F, 1.0F, 1.015625F, static_cast<float>(bf16(-3e38F)),
                                static_cast<float>(bf16(1e-30F))}));
  EXPECT_EQ(read_back<f16>({1.0F, 1.00048828125F, 65504.0F, 1e6F, -6e-8F}),
            (std::vector<float>{1.0F, 1.0F, 65504.0F, infinity, -5.9604645e-8F}));
}

TEST(KvElement, SixteenBitsKeepNanAndInf) {
  for (const auto& found :
       {read_back<bf16>({nan, infinity, -infinity}), read_back<f16>({nan, infinity, -infinity})}) {
    EXPECT_TRUE(std::isnan(found[0]));
    EXPECT_EQ(found[1], infinity);
    EXPECT_EQ(found[2], -infinity);
  }
}

// Half a step of the row's scale at most, which is 1/254 of the largest; the largest stays itself.
// With unit roundoff u: x / scale and code * scale round by u of the largest each, which is 254 u
// of half a step, and the scale by u; the largest by a quotient and a product.
TEST(KvElement, Int8IsWithinHalfAStep) {
  Random random(1);
  for (const double deviation : {1e-30, 1.0, 1e30}) {
    const std::vector<float> row = random.normals<float>(100, deviation);
    float largest = 0;
    for (const float x : row) largest = std::max(largest, std::abs(x));
    const std::vector<float> found = read_back<int8>(row);
    for (std::size_t i = 0; i < row.size(); ++i) {
      const double u = test::unit_roundoff<float>, most = static_cast<double>(largest);
      EXPECT_NEAR(found[i], row[i], (1 + 509 * u) * most / 254);
      if (std::abs(row[i]) == largest) {
        EXPECT_NEAR(found[i], row[i], 2 * u * most);
      }
    }
  }
  EXPECT_EQ(read_back<int8>({0, 0, -0.0F}), (std::vector<float>{0, 0, 0}));
}

template <class Tokens>
class QuantizedCache : public testing::Test {};
using Kinds = testing::Types<test::FullTokens<int8>, test::FullTokens<int4>,
                             test::FullTokens<PerChannel<int8>>, test::FullTokens<Rotated<int8>>,
                             test::FullTokens<Rotated<PerChannel<int8>>>, test::LatentTokens<int8>,
                             test::LatentTokens<Rotated<int4>>>;
TYPED_TEST_SUITE(QuantizedCache, Kinds);

// Nothing of a call is kept, though the bad number comes after good tokens.
TYPED_TEST(QuantizedCache, RefusesNanAndInf) {
  using Cache = typename TypeParam::Cache;
  Random random(2);
  const TypeParam tokens(100, random);
  for (const float bad : {nan, infinity, -infinity}) {
    Cache cache(100);
    tokens.append(cache, 0, 70);
    const auto refused = [&](const auto& first, const auto& second, const char* where) {
      try {
        cache.append(first, second);
        ADD_FAILURE() << "nothing was thrown";
      } catch (const ElementError& error) {
        EXPECT_EQ(error.what(), "heed::KvCache::append: " + std::string(where) + " is " +
                                    std::to_string(bad) +
                                    ", which elements with scales (int8, int4) cannot stand for; "
                                    "only finite numbers short of the end of float's range can be "
                                    "stored in them");
      }
      tokens.expect_held(cache, 70);
    };
    if constexpr (Cache::key_layout == KeyLayout::transposed) {
      Heads<float> key(3, 20, 20), value(3, 20, 9);
      value(2, 19, 4) = bad;
      refused(view(key), view(value), "value[2, 19, 4]");
      key(1, 0, 3) = bad;
      refused(view(key), view(value), "key[1, 0, 3]");
    } else {
      Heads<float> c_kv(1, 20, 21), k_rope(1, 20, 6);
      k_rope(0, 19, 5) = bad;
      refused(view(c_kv).head(0), view(k_rope).head(0), "k_rope[0, 19, 5]");
      c_kv(0, 2, 1) = bad;
      refused(view(c_kv).head(0), view(k_rope).head(0), "c_kv[0, 2, 1]");
    }
    tokens.append(cache, 70, 30);
    tokens.expect_held(cache, 100);
  }
}

// Scales are rounded, and must not take what they stand for beyond float's range.
TYPED_TEST(QuantizedCache, HoldsNoNumberThatItWouldGiveBackAsInf) {
  using Cache = typename TypeParam::Cache;
  constexpr bool is_full = Cache::key_layout == KeyLayout::transposed;
  constexpr float most = std::numeric_limits<float>::max();
  const auto append = [](Cache& cache, float size) {
    Heads<float> first(is_full ? 3 : 1, 64, is_full ? 20 : 21);
    Heads<float> second(is_full ? 3 : 1, 64, is_full ? 9 : 6);
    float sign = 1;
    for (auto* numbers : {&first.data, &second.data})
      for (float& number : *numbers) number = (sign = -sign) * size;
    if constexpr (is_full)
      cache.append(view(first), view(second));
    else
      cache.append(view(first).head(0), view(second).head(0));
  };
  Cache cache(64);
  EXPECT_THROW(append(cache, most), ElementError);
  append(cache, most * (is_rotated<typename TypeParam::Element> ? 0.98F / 16 : 0.98F));
  std::vector<float> found(64 * 21);
  if constexpr (is_full)
    cache.read_key(1, RowsView<float>(found.data(), 64, 20));
  else
    cache.read_latent(RowsView<float>(found.data(), 64, 21), RowsView<float>(found.data(), 64, 6));
  EXPECT_TRUE(std::ranges::all_of(found, [](float x) { return std::isfinite(x); }));
  if constexpr (is_full) {
    cache.read_value(1, RowsView<float>(found.data(), 64, 9));
    EXPECT_TRUE(std::ranges::all_of(found, [](float x) { return std::isfinite(x); }));
  }
}

// Nor of a wide row that is rotated, whose rounding errors add up on the way back.
TEST(RotatedCache, HoldsNoNumberThatItWouldGiveBackAsInf) {
  constexpr Index width = 512;
  KvCache<LatentKv<width, 2>, Rotated<int4>> cache(2);
  const std::vector<float> rope(2, 1.0F);
  std::vector<float> row(width), found(width), found_rope(2);
  float size = std::numeric_limits<float>::max();
  const auto append = [&] {
    std::ranges::fill(row, size);
    cache.append(RowsView<const float>(row.data(), 1, width),
                 RowsView<const float>(rope.data(), 1, 2));
  };
  for (bool stored = false; !stored; size /= 1.1F) try {
      append();
      stored = true;
    } catch (const ElementError&) {
    }
  cache.read_latent(RowsView<float>(found.data(), 1, width),
                    RowsView<float>(found_rope.data(), 1, 2));
  EXPECT_TRUE(std::ranges::all_of(found, [](float x) { return std::isfinite(x); }));
}

// Nor of values that are wider than keys, or the other way: the wider row adds up more numbers.
template <Index head_dim, Index head_dim_v>
void expect_wider_row_refused() {
  KvCache<FullKv<1, head_dim, head_dim_v>, Rotated<int8>> cache(1);
  std::vector<float> key(head_dim, 1.0F), value(head_dim_v, 1.0F);
  // 4 of them add up to less than the largest number, 64 to more.
  std::ranges::fill(head_dim > head_dim_v ? key : value, std::numeric_limits<float>::max() / 16);
  EXPECT_THROW(cache.append(RowsView<const float>(key.data(), 1, head_dim),
                            RowsView<const float>(value.data(), 1, head_dim_v)),
               ElementError);
  EXPECT_EQ(cache.seqlen(), 0);
}
TEST(RotatedCache, MeasuresNumbersByTheWiderOfBothRows) {
  expect_wider_row_refused<4, 64>();
  expect_wider_row_refused<64, 4>();
}

// The page that an append began in is kept in float until another takes its place: tokens may be
// taken back in one step or in several, and by a fork as well.
TEST(KvElement, TruncatesToAKeptPageByAnyWay) {
  using Cache = KvCache<FullKv<1, 8>, PerChannel<int8>>;
  test::Random random(4);
  std::vector<float> rows(130 * 8);
  for (float& x : rows) x = static_cast<float>(random.normal());
  const auto held_by_way_of = [&](std::initializer_list<Index> lengths) {
    Cache cache(200);
    const auto append = [&](Index begin, Index count) {
      const HeadsView<const float> view(rows.data() + begin * 8, 1, count, 8);
      cache.append(view, view);
    };
    append(0, 60), append(60, 70);
    Cache fork = cache.fork();
    for (const Index length : lengths) cache.truncate(length), fork.truncate(length);
    std::vector<float> keys(static_cast<std::size_t>(cache.seqlen() * 8)), keys_of_fork = keys;
    cache.read_key(0, {keys.data(), cache.seqlen(), 8});
    fork.read_key(0, {keys_of_fork.data(), cache.seqlen(), 8});
    EXPECT_EQ(keys_of_fork, keys);
    return keys;
  };
  const std::vector<float> appended(rows.begin(), rows.begin() + 62 * 8);
  EXPECT_EQ(held_by_way_of({62}), appended);
  EXPECT_EQ(held_by_way_of({127, 62}), appended);
  EXPECT_EQ(held_by_way_of({128, 64, 62}), appended);
}

// A page that goes on as it was stored is rounded again each time, and so may its largest numbers
// grow: never beyond float's range.
template <class Element, Index width>
void expect_finite_however_often_truncated(std::uint64_t seed) {
  KvCache<FullKv<1, width>, Element> cache(128);
  test::Random random(seed);
  std::vector<float> rows(128 * width);
  const auto draw = [&](float* from, Index count) {
    for (float& x : std::span(from, static_cast<std::size_t>(count))) {
      const double part = 2 * random.uniform() - 1;  // half of them are the largest
      x = static_cast<float>(part > 0 ? 1 : part) * detail::largest_number * 0.99999F;
    }
  };
  draw(rows.data(), 128 * width);
  const auto append = [&](Index begin, Index count) {
    const HeadsView<const float> view(rows.data() + begin * width, 1, count, width);
    cache.append(view, view);
  };
  append(0, 128);
  for (int i = 0; i < 30; ++i) {
    cache.truncate(63);
    draw(rows.data() + 63 * width, width);
    append(63, 1), append(64, 64);
  }
  std::vector<float> found(rows.size());
  const auto expect_finite = [&] {
    EXPECT_TRUE(std::ranges::all_of(found, [](float x) { return std::isfinite(x); }));
  };
  cache.read_key(0, {found.data(), 128, width});
  expect_finite();
  cache.read_value(0, {found.data(), 128, width});
  expect_finite();
}

TEST(KvElement, StaysFiniteHoweverOftenItIsTruncated) {
  for (std::uint64_t seed = 1; seed < 5; ++seed) {
    expect_finite_however_often_truncated<PerChannel<int8>, 64>(seed);
    expect_finite_however_often_truncated<int4, 64>(seed);
    expect_finite_however_often_truncated<Rotated<PerChannel<int8>>, 33>(seed);
    expect_finite_however_often_truncated<Rotated<int4>, 33>(seed);
  }
}

// The formula for sizing and the cache agree on every element.
template <class Element>
void expect_same_bytes() {
  constexpr GroupedShape grouped{
      .model_dim = 64, .num_heads = 8, .num_kv_heads = 2, .head_dim = 24, .head_dim_v = 40};
  EXPECT_EQ(static_cast<std::size_t>(kv_bytes_per_token(grouped, kv_element<Element>)),
            (KvCache<FullKv<2, 24, 40>, Element>(1).bytes_per_token()));
  constexpr LatentShape latent{.model_dim = 64,
                               .num_heads = 8,
                               .latent_dim = 48,
                               .rope_dim = 16,
                               .nope_dim = 16,
                               .head_dim_v = 16};
  if constexpr (CanStore<LatentKv<48, 16>, Element>) {
    EXPECT_EQ(static_cast<std::size_t>(kv_bytes_per_token(latent, kv_element<Element>)),
              (KvCache<LatentKv<48, 16>, Element>(1).bytes_per_token()));
  }
}
TEST(KvElement, FormulaAndCacheAgree) {
  expect_same_bytes<float>();
  expect_same_bytes<double>();
  expect_same_bytes<f16>();
  expect_same_bytes<bf16>();
  expect_same_bytes<int8>();
  expect_same_bytes<int4>();
  expect_same_bytes<PerChannel<int8>>();
  expect_same_bytes<Rotated<int8>>();
  expect_same_bytes<Rotated<PerChannel<int8>>>();
  expect_same_bytes<Rotated<int4>>();
  expect_same_bytes<Native<int8>>();
  expect_same_bytes<Native<PerChannel<int8>>>();
  expect_same_bytes<Native<Rotated<int4>>>();
}

}  // namespace
}  // namespace heed
