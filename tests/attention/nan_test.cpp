// SPDX-License-Identifier: MIT
/// \file
/// NaN and inf in an input reach the rows that see them, and nothing else.

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "heed/attention/attend.hpp"
#include "heed/cache/kv_cache.hpp"
#include "support/attention_case.hpp"    // normal_inputs, attend_matrices, attend_source
#include "support/expect_attention.hpp"  // expect_attention
#include "support/mask_cases.hpp"        // for_each_mask

namespace heed {
namespace {

using test::AttentionInputs;
using test::AttentionResult;
using test::AttentionShape;
using test::Random;
using test::view;

constexpr double scale = 0.25;
constexpr float nan = std::numeric_limits<float>::quiet_NaN();
constexpr float inf = std::numeric_limits<float>::infinity();

/// The row's result, its lse last.
std::vector<float> row_of(const AttentionResult<float>& result, Index head, Index q_row) {
  std::vector<float> row;
  for (Index c = 0; c < result.out.cols; ++c) row.push_back(result.out(head, q_row, c));
  row.push_back(result.lse(head, q_row, 0));
  return row;
}

/// With `poisoned` in place of `clean`: the rows that `sees(head, q_row)` the difference follow the
/// formula, the others keep their bits.
template <class Mask, class Sees>
void check_poison(const AttentionInputs<float>& clean, const AttentionInputs<float>& poisoned,
                  const Mask& mask, const reference::Visible& visible, const Sees& sees) {
  const auto before = test::attend_matrices(clean, mask, scale);
  const auto after = test::attend_matrices(poisoned, mask, scale);
  test::expect_attention(after, poisoned, {.scale = scale}, visible);
  for (Index head = 0; head < clean.query.heads; ++head)
    for (Index q_row = 0; q_row < clean.query.rows; ++q_row)
      if (!sees(head, q_row)) {
        EXPECT_EQ(row_of(after, head, q_row), row_of(before, head, q_row))
            << "head " << head << ", q_row " << q_row;
      }
}

/// One element of each operand in turn, under every mask.
void check_masks(const AttentionShape& shape, float poison, std::uint64_t seed) {
  Random random(seed);
  const auto clean = test::normal_inputs<float>(shape, random);
  const MaskExtent extent{shape.seqlen_q, shape.seqlen_kv};
  const Index group_size = shape.num_heads / shape.num_kv_heads;
  test::for_each_mask(extent, shape.num_heads, random,
                      [&](const char* name, const auto& mask, const reference::Visible& visible) {
                        SCOPED_TRACE(std::string(name) + " on " + shape.text() + ", poison " +
                                     std::to_string(poison));
                        const Index head = random.integer(0, shape.num_heads - 1),
                                    q_row = random.integer(0, shape.seqlen_q - 1);
                        const Index kv_head = random.integer(0, shape.num_kv_heads - 1),
                                    k = random.integer(0, shape.seqlen_kv - 1);
                        const Index column = random.integer(0, shape.head_dim - 1),
                                    column_v = random.integer(0, shape.head_dim_v - 1);
                        const auto sees_key = [&](Index h, Index row) {
                          return h / group_size == kv_head && visible(h, row, k);
                        };
                        auto poisoned = clean;
                        poisoned.query(head, q_row, column) = poison;
                        check_poison(clean, poisoned, mask, visible,
                                     [&](Index h, Index row) { return h == head && row == q_row; });
                        poisoned = clean;
                        poisoned.key(kv_head, k, column) = poison;
                        check_poison(clean, poisoned, mask, visible, sees_key);
                        poisoned = clean;
                        poisoned.value(kv_head, k, column_v) = poison;
                        check_poison(clean, poisoned, mask, visible, sees_key);
                      });
}

TEST(AttendNan, UnderEveryMask) {
  for (const float poison : {nan, inf, -inf}) {
    check_masks({.num_heads = 4, .num_kv_heads = 2, .seqlen_q = 30, .seqlen_kv = 30}, poison, 1);
    check_masks({.num_heads = 4, .num_kv_heads = 2, .seqlen_q = 1, .seqlen_kv = 100}, poison, 2);
    check_masks(
        {.num_heads = 1, .num_kv_heads = 1, .seqlen_q = 90, .seqlen_kv = 150, .head_dim_v = 7},
        poison, 3);
    check_masks({.num_heads = 2, .num_kv_heads = 2, .seqlen_q = 13, .seqlen_kv = 9}, poison, 4);
  }
}

// Every position of a page at every step of a decode: what comes later than the query is not there
// yet.
TEST(AttendNan, InEveryKeyOfAPage) {
  const AttentionShape shape{.seqlen_q = 66, .seqlen_kv = 66};
  Random random(5);
  const auto clean = test::normal_inputs<float>(shape, random);
  for (Index k = 0; k < shape.seqlen_kv; ++k) {
    const auto causal = [](Index, Index q_row, Index key) { return key <= q_row; };
    auto poisoned = clean;
    for (Index c = 0; c < shape.head_dim_v; ++c) poisoned.value(0, k, c) = c % 2 == 0 ? nan : inf;
    check_poison(clean, poisoned, CausalMask{}, causal,
                 [=](Index, Index q_row) { return k <= q_row; });
  }
}

// A cache keeps values of such widths in strips.
template <class Element>
void check_strips() {
  constexpr Index seqlen = 80, width = 192;
  Random random(8);
  const auto clean = test::normal_inputs<float>({.num_heads = 4,
                                                 .num_kv_heads = 2,
                                                 .seqlen_q = seqlen,
                                                 .seqlen_kv = seqlen,
                                                 .head_dim_v = width},
                                                random);
  const auto run = [&](const AttentionInputs<float>& inputs) {
    KvCache<FullKv<2, 16, width>, Element> cache(seqlen);
    cache.append(view(inputs.key), view(inputs.value));
    return test::attend_source(view(inputs.query), cache, CausalMask{}, scale);
  };
  const auto before = run(clean);
  for (const Index column : {0, 63, 64, 130, 191}) {
    auto poisoned = clean;
    poisoned.value(1, 70, column) = nan;
    const auto after = run(poisoned);
    for (Index q_row = 0; q_row < seqlen; ++q_row) {
      EXPECT_EQ(row_of(after, 0, q_row), row_of(before, 0, q_row));  // of the other key/value head
      for (Index c = 0; c < width; ++c)
        if (c == column && q_row >= 70) {
          EXPECT_TRUE(std::isnan(after.out(2, q_row, c))) << q_row;
        } else {
          EXPECT_EQ(after.out(2, q_row, c), before.out(2, q_row, c)) << q_row << ", " << c;
        }
    }
  }
}
TEST(AttendNan, InStripsOfValues) {
  check_strips<float>();
  check_strips<bf16>();
}

TEST(AttendNan, InASink) {
  const AttentionShape shape{.num_heads = 2, .num_kv_heads = 1, .seqlen_q = 3, .seqlen_kv = 5};
  Random random(6);
  auto clean = test::normal_inputs<float>(shape, random);
  clean.sinks = {1, 1};
  auto poisoned = clean;
  poisoned.sinks[1] = nan;
  const auto all = [](Index, Index, Index) { return true; };
  check_poison(clean, poisoned, NoMask{}, all, [](Index head, Index) { return head == 1; });
}

TEST(AttendNan, InABiasOfHiddenKeys) {
  const AttentionShape shape{.num_heads = 2, .num_kv_heads = 2, .seqlen_q = 20, .seqlen_kv = 70};
  Random random(7);
  const auto inputs = test::normal_inputs<float>(shape, random);
  auto bias = test::normal_heads<float>(1, shape.seqlen_q, shape.seqlen_kv, random);
  const auto run = [&] {
    return test::attend_matrices(inputs, CausalMask{},
                                 chain(Scale{scale}, Bias<float>{view(bias)}));
  };
  const auto before = run();
  for (Index q_row = 0; q_row < shape.seqlen_q; ++q_row)
    for (Index k = 51 + q_row; k < shape.seqlen_kv; ++k) bias(0, q_row, k) = k % 2 == 0 ? nan : inf;
  EXPECT_EQ(run(), before);
}

// A score of -inf is no mask, so a NaN among the key's values may reach the row; but whether it
// does must not depend on how the work is cut: a tile that takes all keys one split after another,
// tasks for each split, a batch.
TEST(AttendNan, BehindScoresOfMinusInfinityTheSameHoweverTheWorkIsCut) {
  const AttentionShape shape{.seqlen_q = 6200, .seqlen_kv = 2048};
  Random random(8);
  auto inputs = test::normal_inputs<float>(shape, random);
  inputs.value(0, 3, 2) = nan;
  auto bias = test::normal_heads<float>(1, 1, shape.seqlen_kv, random);
  for (Index k = 0; k < 1024; ++k) bias(0, 0, k) = -inf;
  const Bias<float> hides{{bias.data.data(), 1, shape.seqlen_q, shape.seqlen_kv, 0, 0}};
  const Bias<float> hides_one{view(bias)};
  const auto all = test::attend_matrices(inputs, NoMask{}, chain(Scale{scale}, hides));
  KvCache<FullKv<>> cache(
      shape.seqlen_kv,
      {.num_kv_heads = 1, .head_dim = inputs.key.cols, .head_dim_v = inputs.value.cols});
  cache.append(view(inputs.key), view(inputs.value));
  const auto query = view(std::as_const(inputs.query)).middle_rows(shape.seqlen_q - 1, 1);
  const auto alone = test::attend_source(query, cache, NoMask{}, chain(Scale{scale}, hides_one));
  AttentionResult<float> batch(1, 1, inputs.value.cols);
  const AttendSequence<float, KvCache<FullKv<>>, NoMask> sequences[] = {
      {query, &cache, NoMask{}, view(batch.out), batch.lse_view()}};
  attend_batch(sequences, chain(Scale{scale}, hides_one));
  EXPECT_EQ(row_of(alone, 0, 0), row_of(batch, 0, 0));
  EXPECT_EQ(row_of(alone, 0, 0), row_of(all, 0, shape.seqlen_q - 1));
}

/// Every element NaN.
test::Heads<float> all_nan(Index num_heads, Index rows, Index cols) {
  return {num_heads, rows, cols,
          std::vector<float>(static_cast<std::size_t>(num_heads * rows * cols), nan)};
}

// Tokens that truncate took back still lie in the page.
TEST(AttendNan, InTruncatedTokens) {
  for (const Index kept : {1, 5, 63, 64, 70})
    for (const Index appended : {0, 1, 3, 60}) {
      SCOPED_TRACE("kept " + std::to_string(kept) + ", appended " + std::to_string(appended));
      const AttentionShape shape{
          .num_heads = 4, .num_kv_heads = 2, .seqlen_q = 2, .seqlen_kv = kept + appended};
      Random random(8);
      const auto inputs = test::normal_inputs<float>(shape, random);
      KvCache<FullKv<2, 16>> cache{200};
      cache.append(view(inputs.key).middle_rows(0, kept), view(inputs.value).middle_rows(0, kept));
      const auto rejected = all_nan(2, 50, 16);
      cache.append(view(rejected), view(rejected));
      cache.truncate(kept);
      cache.append(view(inputs.key).middle_rows(kept, appended),
                   view(inputs.value).middle_rows(kept, appended));
      EXPECT_EQ(test::attend_source(view(inputs.query), cache, CausalMask{}, scale),
                test::attend_matrices(inputs, CausalMask{}, scale));
    }
}

TEST(AttendNan, InTruncatedLatents) {
  for (const Index kept : {1, 5, 63, 64, 70}) {
    Random random(9);
    const auto query = test::normal_heads<float>(3, 2, 20, random);
    const auto c_kv = test::normal_heads<float>(1, kept, 12, random),
               k_rope = test::normal_heads<float>(1, kept, 8, random);
    const auto rejected_c_kv = all_nan(1, 50, 12), rejected_k_rope = all_nan(1, 50, 8);
    KvCache<LatentKv<12, 8>> clean{200}, cache{200};
    clean.append(view(c_kv).head(0), view(k_rope).head(0));
    cache.append(view(c_kv).head(0), view(k_rope).head(0));
    cache.append(view(rejected_c_kv).head(0), view(rejected_k_rope).head(0));
    cache.truncate(kept);
    EXPECT_EQ(test::attend_source(view(query), cache, CausalMask{}, scale),
              test::attend_source(view(query), clean, CausalMask{}, scale));
  }
}

}  // namespace
}  // namespace heed
