// SPDX-License-Identifier: MIT
/// \file
/// Sources of pages that are not heed's own, and what they are asked for.

#include <algorithm>
#include <array>
#include <vector>

#include <gtest/gtest.h>

#include "heed/attention/attend.hpp"
#include "heed/cache/kv_cache.hpp"
#include "support/attention_case.hpp"    // normal_inputs, view
#include "support/expect_attention.hpp"  // expect_attention

namespace heed {
namespace {

using test::Heads;
using test::Random;
using test::view;

constexpr Index head_dim = 16;

/// Of one key/value head.
auto normal_inputs(Index num_heads, Index seqlen_q, Index seqlen_kv, Random& random) {
  return test::normal_inputs<float>({.num_heads = num_heads,
                                     .num_kv_heads = 1,
                                     .seqlen_q = seqlen_q,
                                     .seqlen_kv = seqlen_kv,
                                     .head_dim = head_dim,
                                     .head_dim_v = head_dim},
                                    random);
}

/// Matrices, packed into pages as they are asked for, with zeros behind its own end. Several may
/// look at the same ones.
struct Packed {
  using Element = float;
  static constexpr KeyLayout key_layout = KeyLayout::transposed;

  const Heads<float>* key;
  const Heads<float>* value;
  Index length;

  Index num_kv_heads() const { return 1; }
  Index head_dim() const { return heed::head_dim; }
  Index head_dim_v() const { return heed::head_dim; }
  Index seqlen() const { return length; }
  Index page_scratch() const { return 2 * page_size * heed::head_dim; }
  const void* page_address(Index page) const noexcept {
    return key->data.data() + page * page_size * heed::head_dim;
  }
  PageView<float> page(Index, Index page, float* scratch) const {
    std::fill_n(scratch, page_scratch(), 0.0F);
    float* const values = scratch + page_size * heed::head_dim;
    for (Index i = 0; i < std::min(page_size, length - page * page_size); ++i)
      for (Index c = 0; c < heed::head_dim; ++c) {
        scratch[c * page_size + i] = (*key)(0, page * page_size + i, c);
        values[i * heed::head_dim + c] = (*value)(0, page * page_size + i, c);
      }
    return {scratch, page_size, values, heed::head_dim};
  }
};

// Of two that share a page, that one is asked which holds more of it, whatever their order.
TEST(OwnSources, OfAnyLengthsShareThePagesOfOneAddress) {
  Random random(1);
  const auto inputs = normal_inputs(1, 1, 128, random);
  for (const std::array lengths : {std::array{70, 128, 100}, std::array{128, 70, 65}}) {
    std::vector<Packed> sources;
    for (const Index length : lengths) sources.push_back({&inputs.key, &inputs.value, length});
    std::vector<test::AttentionResult<float>> alone, together;
    for (const Packed& source : sources) {
      alone.emplace_back(1, 1, head_dim);
      together.emplace_back(1, 1, head_dim);
      attend(view(inputs.query), source, NoMask{}, 0.25, view(alone.back().out));
    }
    std::vector<AttendSequence<float, Packed, NoMask>> sequences;
    for (std::size_t i = 0; i < sources.size(); ++i)
      sequences.push_back({view(inputs.query), &sources[i], {}, view(together[i].out)});
    attend_batch(sequences, 0.25);
    for (std::size_t i = 0; i < sources.size(); ++i)
      EXPECT_EQ(together[i].out.data, alone[i].out.data) << lengths[i] << " tokens";
  }
}

/// The same with its keys in rows, too; `page` fails where these should be asked for.
struct PackedOrInRows : Packed {
  bool asked_for_rows;

  PageView<float> page(Index kv_head, Index page, float* scratch) const {
    EXPECT_FALSE(asked_for_rows);
    return Packed::page(kv_head, page, scratch);
  }
  PageView<float> page_in_rows(Index kv_head, Index page, float* scratch) const {
    EXPECT_TRUE(asked_for_rows);
    PageView<float> view = Packed::page(kv_head, page, scratch);
    view.keys = &(*key)(0, page * page_size, 0), view.key_stride = heed::head_dim;
    return view;
  }
};

// Only for a few rows, and with the same bits, whether a row sees a whole page or a part of it.
TEST(OwnSources, AreAskedForKeysInRowsWhereRowsAreFew) {
  static_assert(HasPagesInRows<PackedOrInRows> && !HasPagesInRows<Packed>);
  Random random(4);
  for (const Index num_heads : {1, 4, 5, 12})
    for (const Index seqlen : {1, 17, 64, 150}) {
      const auto inputs = normal_inputs(num_heads, 1, seqlen, random);
      const Packed packed{&inputs.key, &inputs.value, seqlen};
      const PackedOrInRows in_rows{packed, simd::has_row_product<float>(num_heads, head_dim)};
      EXPECT_EQ(in_rows.asked_for_rows, num_heads <= simd::most_rows_of_row_product);
      for (const Index window : {Index{5}, seqlen}) {
        test::AttentionResult<float> expected(num_heads, 1, head_dim), found = expected;
        const SlidingWindowMask mask{.window_left = window};
        attend(view(inputs.query), packed, mask, 0.25, view(expected.out), expected.lse_view());
        attend(view(inputs.query), in_rows, mask, 0.25, view(found.out), found.lse_view());
        EXPECT_EQ(found.out.data, expected.out.data) << num_heads << " rows, " << seqlen;
        EXPECT_EQ(found.lse.data, expected.lse.data) << num_heads << " rows, " << seqlen;
      }
    }
}

/// Pages of bf16 in memory, the last one of float, and nothing else: `page` fails where the latter
/// would be.
struct WithOpenPage {
  using Element = bf16;
  static constexpr KeyLayout key_layout = KeyLayout::transposed;
  static constexpr Index page_elements = 2 * page_size * heed::head_dim;

  std::vector<bf16> stored;
  std::vector<float> open;
  Index length;

  Index num_kv_heads() const { return 1; }
  Index head_dim() const { return heed::head_dim; }
  Index head_dim_v() const { return heed::head_dim; }
  Index seqlen() const { return length; }
  Index page_scratch() const { return 0; }
  PageView<bf16> page(Index, Index page, bf16*) const {
    EXPECT_LT(page, open_page_index());
    return view_of(stored.data() + std::min(page, open_page_index() - 1) * page_elements);
  }
  Index open_page_index() const noexcept { return length / page_size; }
  PageView<float> open_page(Index) const noexcept { return view_of(open.data()); }

  template <class E>
  static PageView<E> view_of(const E* from) {
    return {from, page_size, from + page_size * heed::head_dim, heed::head_dim};
  }
};

// Any number of rows, since only with some of them the next page is fetched ahead.
TEST(OwnSources, AreNotAskedForTheOpenPageAmongTheOthers) {
  Random random(2);
  constexpr Index seqlen = 150;
  for (const Index num_heads : {1, 4, 12}) {
    auto inputs = normal_inputs(num_heads, 3, seqlen, random);
    WithOpenPage source{{}, {}, seqlen};
    source.stored.resize(static_cast<std::size_t>(2 * WithOpenPage::page_elements));
    source.open.resize(static_cast<std::size_t>(WithOpenPage::page_elements));
    for (Index k = 0; k < seqlen; ++k)
      for (Index c = 0; c < head_dim; ++c) {
        const bool is_open = k / page_size == source.open_page_index();
        const Index first = is_open ? 0 : k / page_size * WithOpenPage::page_elements;
        const auto key_at = static_cast<std::size_t>(first + c * page_size + k % page_size);
        const auto value_at =
            static_cast<std::size_t>(first + page_size * head_dim + k % page_size * head_dim + c);
        float &key = inputs.key(0, k, c), &value = inputs.value(0, k, c);
        if (is_open) {
          source.open[key_at] = key, source.open[value_at] = value;
        } else {
          source.stored[key_at] = bf16(key), source.stored[value_at] = bf16(value);
          key = static_cast<float>(bf16(key)), value = static_cast<float>(bf16(value));
        }
      }
    test::AttentionResult<float> result(num_heads, 3, head_dim);
    attend(view(inputs.query), source, CausalMask{}, 0.25, view(result.out), result.lse_view());
    test::expect_attention(result, inputs, {.scale = 0.25},
                           [](auto, auto q_row, auto k) { return k <= seqlen - 3 + q_row; });
  }
}

/// A cache that has let some pages go, and fails where it is asked for one of them.
struct WithGap : KvCache<FullKv<1, heed::head_dim>> {
  using KvCache::KvCache;

  KeyRange dropped() const noexcept { return {page_size, 3 * page_size}; }
  PageView<float> page(Index kv_head, Index page, float* scratch) const {
    EXPECT_FALSE(dropped().contains(page * page_size)) << "page " << page;
    return KvCache::page(kv_head, page, scratch);
  }
};

// Not even to fetch it ahead, which again only some numbers of rows do.
TEST(OwnSources, AreNotAskedForPagesThatTheyHaveLetGo) {
  Random random(3);
  constexpr Index seqlen = 4 * page_size + 10;
  for (const Index num_heads : {1, 4, 12}) {
    const auto inputs = normal_inputs(num_heads, 3, seqlen, random);
    WithGap source(seqlen);
    source.append(view(inputs.key), view(inputs.value));
    test::AttentionResult<float> result(num_heads, 3, head_dim);
    attend(view(inputs.query), source, NoMask{}, 0.25, view(result.out), result.lse_view());
    test::expect_attention(result, inputs, {.scale = 0.25},
                           [&](auto, auto, auto k) { return !source.dropped().contains(k); });
  }
}

}  // namespace
}  // namespace heed
