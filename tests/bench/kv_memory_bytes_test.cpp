// SPDX-License-Identifier: MIT
/// \file
/// What caches allocate, for every entry, element and placement: what they report, and what the
/// formulas say.

#include <algorithm>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "heed/cache/kv_bytes.hpp"
#include "kv_memory/heap_bytes.cpp"  // replaces operator new, for this program
#include "kv_memory/placed_cache.hpp"

namespace heed::bench {
namespace {

// Rows of these fill whole cache lines in every element, so that nothing is padded ...
constexpr FullKv<2, 128, 256> full;
constexpr LatentKv<512, 64> latent;
// ... and rows of these do not.
constexpr FullKv<3, 20, 9> padded_full;
constexpr LatentKv<21, 6> padded_latent;

constexpr bool is_padded(Index width) { return width % 128 != 0; }

template <class Cache>
void append_zeros(Cache& cache, Index count) {
  using T = typename Cache::Scalar;
  const std::vector<T> zeros(
      static_cast<std::size_t>(cache.num_kv_heads() * count * cache.head_dim() * 2));
  if constexpr (Cache::key_layout == KeyLayout::row_major)
    cache.append(RowsView<const T>(zeros.data(), count, cache.entry().latent_dim),
                 RowsView<const T>(zeros.data(), count, cache.entry().rope_dim));
  else
    cache.append(HeadsView<const T>(zeros.data(), cache.num_kv_heads(), count, cache.head_dim()),
                 HeadsView<const T>(zeros.data(), cache.num_kv_heads(), count, cache.head_dim_v()));
}

constexpr Index pages_of(Index tokens) { return round_up_to_pages(tokens) / page_size; }

/// What one sequence takes, by formulas alone.
struct Expected {
  Index bytes, table;
};
template <class Element, class Entry>
Expected expected_bytes(const Entry& entry, Index pages, Index capacity_pages,
                        Placement placement) {
  const auto shape = entry.shape();
  constexpr KvElement element = kv_element<Element>;
  return {
      .bytes = pages * page_size * kv_bytes_per_token(shape, element) +
               kv_bytes_per_sequence(shape, element),
      // Numbers of 4 bytes: a place for each page and one more; own memory has two lists beside it.
      .table = 4 * (capacity_pages + 1) + (placement == Placement::pool ? 0 : 8 * capacity_pages)};
}

template <class Element>
class PlacedBytes : public testing::Test {
 protected:
  /// A sequence that grows to `tokens`, in appends of up to a page.
  template <class Entry>
  static void expect_bytes(const Entry& entry, const MeasuredCase& one, Placement placement) {
    const Index before = live_heap_bytes();
    PlacedCache<Entry, Element> placed(entry, one, placement, page_size);
    for (Index token = 0; token < one.tokens; token += page_size)
      append_zeros(placed.cache(), std::min(page_size, one.tokens - token));
    const Index allocated = live_heap_bytes() - before;
    const Index objects = allocated - placed.reported_bytes();
    EXPECT_GE(objects, 0);
    EXPECT_LE(objects, most_object_bytes);

    const Index capacity_pages = pages_of(placed.cache().capacity());
    Index pages = capacity_pages;
    if (placement == Placement::pool) {
      pages = pages_of(one.tokens);
      if (one.window) {
        // What the first token of the last append sees stays, and the page before that.
        const Index last_append = (one.tokens - 1) / page_size * page_size;
        pages -= std::max<Index>(0, (last_append - (*one.window - 1)) / page_size - 1);
      }
    }
    const Expected expected = expected_bytes<Element>(entry, pages, capacity_pages, placement);
    EXPECT_EQ(static_cast<Index>(placed.cache().table_bytes()), expected.table);
    const auto held = static_cast<Index>(placed.cache().bytes());
    if (is_padded(entry.value_width())) {
      EXPECT_GE(held, expected.bytes);
    } else {
      EXPECT_EQ(held, expected.bytes);
      EXPECT_EQ(placed.held_bytes(), held + expected.table);
    }
  }
};
using Elements =
    testing::Types<float, double, f16, bf16, Native<bf16>, int8, Native<int8>, PerChannel<int8>,
                   Rotated<int8>, Rotated<PerChannel<int8>>, int4, Rotated<int4>, Native<int4>,
                   Native<PerChannel<int8>>, Native<Rotated<int8>>, Native<Rotated<int4>>>;
TYPED_TEST_SUITE(PlacedBytes, Elements);

TYPED_TEST(PlacedBytes, AreWhatIsReportedAndWhatTheFormulasSay) {
  const auto expect_all = [&](const auto& entry) {
    if constexpr (CanStore<std::remove_cvref_t<decltype(entry)>, TypeParam>)
      for (const Placement placement : {Placement::own, Placement::pool, Placement::window})
        for (const Index tokens : {0, 1, 64, 65, 200, 640, 641}) {
          SCOPED_TRACE(testing::Message() << "placement " << static_cast<int>(placement) << ", "
                                          << tokens << " tokens");
          this->expect_bytes(entry, {.shape = {}, .tokens = tokens}, placement);
          if (placement != Placement::own)
            this->expect_bytes(entry, {.shape = {}, .tokens = tokens, .window = 129}, placement);
        }
  };
  expect_all(full);
  expect_all(latent);
  expect_all(padded_full);
  expect_all(padded_latent);
}

// Token by token, at every length: what kv_bytes_in_pages says.
TYPED_TEST(PlacedBytes, OfAWindowAreThoseInPagesAtEveryLength) {
  constexpr Index most_tokens = 400;
  const auto expect_at_every_length = [](const auto& entry) {
    using Entry = std::remove_cvref_t<decltype(entry)>;
    if constexpr (CanStore<Entry, TypeParam>)
      for (const Index window : {1, 2, 63, 64, 65, 66, 129}) {
        PagePool<Entry, TypeParam> pool(pages_of(most_tokens), entry);
        KvCache<Entry, TypeParam> cache(pool, most_tokens, CacheWindow{.window_left = window - 1});
        const KvLayers layers[] = {
            {.bytes_per_token = kv_bytes_per_token(entry.shape(), kv_element<TypeParam>),
             .window_left = window - 1,
             .bytes_per_sequence = kv_bytes_per_sequence(entry.shape(), kv_element<TypeParam>)}};
        for (Index token = 1; token <= most_tokens; ++token) {
          append_zeros(cache, 1);
          ASSERT_EQ(static_cast<Index>(cache.bytes()), kv_bytes_in_pages(layers, token))
              << "window " << window << ", " << token << " tokens";
        }
      }
  };
  expect_at_every_length(full);
  expect_at_every_length(latent);
}

// A window that keeps the sequence's first tokens too: their page comes on top.
TYPED_TEST(PlacedBytes, OfAWindowWithSinksArePagesToo) {
  constexpr Index capacity_pages = 6, tokens = 1000;
  constexpr CacheWindow window{.num_sink_tokens = 3, .window_left = 128};
  ASSERT_EQ(window.capacity(page_size), capacity_pages * page_size);
  const auto expect_in_both = [&](const auto& entry) {
    using Entry = std::remove_cvref_t<decltype(entry)>;
    if constexpr (CanStore<Entry, TypeParam>) {
      using Cache = KvCache<Entry, TypeParam>;
      PagePool<Entry, TypeParam> pool(capacity_pages, entry);
      const auto expect_held = [&](Cache cache, Placement placement) {
        for (Index token = 0; token < tokens; token += page_size)
          append_zeros(cache, std::min(page_size, tokens - token));
        // The last append began at 960, whose first token saw back to 832: 3 pages, one before
        // them, and that of the sinks. Own memory is for all of the capacity.
        const Index pages = placement == Placement::own ? capacity_pages : 5;
        const Expected expected =
            expected_bytes<TypeParam>(entry, pages, capacity_pages, placement);
        EXPECT_EQ(static_cast<Index>(cache.bytes()), expected.bytes);
        EXPECT_EQ(static_cast<Index>(cache.table_bytes()), expected.table);
      };
      expect_held(Cache(capacity_pages * page_size, entry, window), Placement::own);
      expect_held(Cache(pool, capacity_pages * page_size, window), Placement::pool);
      EXPECT_EQ(pool.free_pages(), capacity_pages);
    }
  };
  expect_in_both(full);
  expect_in_both(latent);
}

}  // namespace
}  // namespace heed::bench
