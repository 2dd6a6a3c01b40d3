// SPDX-License-Identifier: MIT
/// \file
/// Attention over caches of narrow elements: what they hold is attended to as exactly as if it
/// stood there in float.

#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include <gtest/gtest.h>

#include "heed/attention/attend.hpp"
#include "heed/cache/kv_cache.hpp"
#include "heed/simd/codes.hpp"
#include "heed/simd/walsh_hadamard.hpp"
#include "support/attention_case.hpp"    // normal_inputs, attend_source
#include "support/expect_attention.hpp"  // expect_attention

namespace heed {
namespace {

using test::AttentionInputs;
using test::AttentionShape;
using test::Heads;
using test::Random;
using test::view;

// What the target can, by another way.
#ifdef __AVX512BF16__
static_assert(has_native_products<bf16> && has_native_products<Native<bf16>>);
#else
static_assert(!has_native_products<bf16> && !has_native_products<Native<bf16>>);
#endif
#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
static_assert(has_native_products<int8> && has_native_products<Native<Rotated<int4>>>);
#else
static_assert(!has_native_products<int8> && !has_native_products<Native<Rotated<int4>>>);
#endif
static_assert(!has_native_products<float> && !has_native_products<f16>);

/// The element that a cache of Native<Element> multiplies with, else void.
template <class Cache>
using NativeElement =
    std::conditional_t<Cache::products == Products::native, typename Cache::Element, void>;

template <class Cache>
constexpr bool is_rotated_cache = Cache::row_rotation == RowRotation::walsh_hadamard;

/// What a row in fixed point stands for. \tparam Code  simd::SplitCode
template <class Code>
void round_to_codes(float* row, Index width) {
  const Index padded = round_up(width, Code::block);
  std::vector<Code> codes(static_cast<std::size_t>(padded));
  const auto units = simd::encode(row, 0, width, codes.data(), padded);
  for (Index c = 0; c < width; ++c) {
    const int8* const upper = Code::upper(codes.data(), c);
    row[c] = units.unit * static_cast<float>(256 * upper[0] + upper[Code::block]);
  }
}
/// What columns of queries in fixed point stand for.
template <class Cache, class Code>
void round_to_codes(RowsView<float> query) {
  for (Index r = 0; r < query.rows; ++r) {
    if (is_rotated_cache<Cache>) simd::rotate_hadamard(query.row(r), query.cols);
    round_to_codes<Code>(query.row(r), query.cols);
    // its own inverse
    if (is_rotated_cache<Cache>) simd::rotate_hadamard(query.row(r), query.cols);
  }
}

/// What the kernel multiplies with. \param width  of the columns before those of the rotated part
template <class Cache>
Heads<float> as_multiplied(Heads<float> query, Index width) {
  using Element = NativeElement<Cache>;
  using Code =
      std::conditional_t<has_scales<Element>, simd::CodeFactor<simd::native_codes, int8>, float>;
  for (Index head = 0; head < query.heads; ++head) {
    const RowsView<float> rows = view(query).head(head);
    if constexpr (!std::is_same_v<Code, float> && !HasOpenPage<Cache>)
      round_to_codes<Cache, Code>(rows.middle_cols(0, width));
    if (std::is_same_v<Element, void>) continue;
    for (Index r = 0; r < rows.rows; ++r)
      for (Index c = has_scales<Element> ? width : 0; c < rows.cols; ++c)
        rows(r, c) = static_cast<float>(static_cast<bf16>(rows(r, c)));
  }
  return query;
}
/// Queries that are scaled per channel and page before they come to fixed point: what that adds to
/// each score, [num_heads, seqlen_q, seqlen_kv].
template <class Cache, class Code>
Heads<double> added_by_codes(const Heads<float>& query, const Cache& cache) {
  constexpr Index shared = rows_per_element<typename Cache::Element>;
  Heads<double> added(query.heads, query.rows, cache.seqlen());
  std::vector<typename Cache::Element> scratch(static_cast<std::size_t>(cache.page_scratch()));
  std::vector<float> row(static_cast<std::size_t>(query.cols)), exact;
  for (Index head = 0; head < query.heads; ++head)
    for (Index page = 0; page < cache.open_page_index(); ++page) {
      const auto keys = cache.page(head * cache.num_kv_heads() / query.heads, page, scratch.data());
      for (Index q_row = 0; q_row < query.rows; ++q_row) {
        std::copy_n(view(query).row(head, q_row), query.cols, row.data());
        if (is_rotated_cache<Cache>) simd::rotate_hadamard(row.data(), query.cols);
        for (Index c = 0; c < query.cols; ++c)
          row[static_cast<std::size_t>(c)] *= static_cast<float>(keys.channel_scales[c]);
        exact = row;
        round_to_codes<Code>(row.data(), query.cols);
        for (Index token = 0; token < page_size; ++token)
          for (std::size_t c = 0; c < row.size(); ++c)
            added(head, q_row, page * page_size + token) +=
                (static_cast<double>(row[c]) - static_cast<double>(exact[c])) *
                simd::code_of(keys.keys[static_cast<Index>(c) / shared * keys.key_stride + token],
                              static_cast<Index>(c));
      }
    }
  return added;
}
/// What scores are of what the kernel multiplies with.
template <class Cache>
reference::Score<double> score_of(const Heads<float>& query, const Cache& cache, double scale) {
  reference::Score<double> score{.scale = scale};
  if constexpr (has_scales<NativeElement<Cache>> && HasOpenPage<Cache> &&
                has_native_products<int8>) {
    score.bias = added_by_codes<Cache, simd::CodeFactor<simd::native_codes, int8>>(query, cache);
    for (double& bias : score.bias->data) bias *= scale;
  }
  return score;
}

/// A probability is rounded to bf16, or to half a code.
template <class Cache>
constexpr test::ProbError prob_error = {
    .of_itself = std::is_same_v<NativeElement<Cache>, bf16> ? 1.0 / (1 << 8) : 0,
    .of_page = has_scales<NativeElement<Cache>> && has_native_products<int8> ? 0.5 / 65535 : 0};

/// The same queries and tokens, as the kernel has them of a cache, in float.
template <class Cache>
AttentionInputs<float> read_back(const AttentionInputs<float>& inputs, const Cache& cache) {
  AttentionInputs<float> held = inputs;
  held.query = as_multiplied<Cache>(held.query, held.query.cols);
  for (Index head = 0; head < cache.num_kv_heads(); ++head) {
    cache.read_key(head, view(held.key).head(head));
    cache.read_value(head, view(held.value).head(head));
  }
  return held;
}

template <class Element>
class AttendElement : public testing::Test {
 protected:
  /// Random shapes: prefill, chunks and decode, tails of every size.
  template <class F>
  static void for_each_case(const F& f) {
    Random random(3);
    for (int i = 0; i < 12; ++i) {
      const Index num_kv_heads = random.integer(1, 3);
      const Index seqlen_q = i % 3 == 0 ? 1 : random.integer(2, 90);
      // Several strips of values, unless rotated: over wide rows, rotation rounds by more than the
      // bound of a single element knows.
      const bool wide = !is_rotated<Element> && random.uniform() < 0.5;
      const AttentionShape shape{
          .num_heads = num_kv_heads * random.integer(1, 7),
          .num_kv_heads = num_kv_heads,
          .seqlen_q = seqlen_q,
          .seqlen_kv = seqlen_q + random.integer(0, i == 0 ? 2300 : 200),
          .head_dim = random.integer(1, 80),
          .head_dim_v = wide ? 64 * random.integer(2, 4) : random.integer(1, 80)};
      SCOPED_TRACE(shape.text());
      const auto inputs = test::normal_inputs<float>(shape, random);
      KvCache<FullKv<>, Element> cache(shape.seqlen_kv, {.num_kv_heads = shape.num_kv_heads,
                                                         .head_dim = shape.head_dim,
                                                         .head_dim_v = shape.head_dim_v});
      cache.append(view(inputs.key), view(inputs.value));
      f(shape, read_back(inputs, cache), cache);
    }
  }
};
using Elements =
    testing::Types<f16, bf16, Native<bf16>, int8, Native<int8>, Native<Rotated<int8>>,
                   PerChannel<int8>, Native<PerChannel<int8>>, int4, Native<int4>, Rotated<int8>,
                   Rotated<int4>, Native<Rotated<int4>>, Native<Rotated<PerChannel<int8>>>>;
TYPED_TEST_SUITE(AttendElement, Elements);

TYPED_TEST(AttendElement, AgreesWithTheFormulaOnWhatTheCacheHolds) {
  this->for_each_case(
      [](const AttentionShape& shape, const AttentionInputs<float>& held, const auto& cache) {
        const auto result =
            test::attend_source(view(held.query), cache, CausalMask{}, shape.softmax_scale());
        test::expect_attention(result, held, score_of(held.query, cache, shape.softmax_scale()),
                               test::causal_on(shape),
                               prob_error<std::remove_cvref_t<decltype(cache)>>);
      });
}

// Widening 16 bits is exact, so the kernel computes with the same numbers in the same order.
TYPED_TEST(AttendElement, SixteenBitsGiveTheBitsOfFloat) {
  if constexpr (!has_scales<TypeParam> && !is_native<TypeParam>)
    this->for_each_case(
        [](const AttentionShape& shape, const AttentionInputs<float>& held, const auto& cache) {
          KvCache<FullKv<>> wide(shape.seqlen_kv, {.num_kv_heads = shape.num_kv_heads,
                                                   .head_dim = shape.head_dim,
                                                   .head_dim_v = shape.head_dim_v});
          wide.append(view(held.key), view(held.value));
          const auto score = shape.softmax_scale();
          EXPECT_EQ(test::attend_source(view(held.query), cache, CausalMask{}, score),
                    test::attend_source(view(held.query), wide, CausalMask{}, score));
        });
  else
    GTEST_SKIP() << "widening is exact for plain 16-bit elements alone";
}

TYPED_TEST(AttendElement, OfLatentsAgreesWithTheFormula) {
  if constexpr (CanStore<LatentKv<>, TypeParam>) {
    Random random(5);
    for (const Index seqlen_q : {1, 40}) {
      constexpr Index num_heads = 5, latent_dim = 40, rope_dim = 12, seqlen_kv = 150;
      const auto latents = test::normal_heads<float>(1, seqlen_kv, latent_dim + rope_dim, random);
      const auto query =
          test::normal_heads<float>(num_heads, seqlen_q, latent_dim + rope_dim, random);
      using Cache = KvCache<LatentKv<latent_dim, rope_dim>, TypeParam>;
      Cache cache(seqlen_kv);
      const RowsView<const float> rows = view(latents).head(0);
      cache.append(rows.middle_cols(0, latent_dim), rows.middle_cols(latent_dim, rope_dim));

      AttentionInputs<float> held{as_multiplied<Cache>(query, latent_dim),
                                  Heads<float>(1, seqlen_kv, latent_dim + rope_dim),
                                  Heads<float>(1, seqlen_kv, latent_dim)};
      const RowsView<float> key = view(held.key).head(0);
      cache.read_latent(key.middle_cols(0, latent_dim), key.middle_cols(latent_dim, rope_dim));
      for (Index row = 0; row < seqlen_kv; ++row)
        std::copy_n(key.row(row), latent_dim, view(held.value).row(0, row));
      test::expect_attention(test::attend_source(view(query), cache, CausalMask{}, 0.1), held,
                             {.scale = 0.1}, test::causal_on(seqlen_q, seqlen_kv),
                             prob_error<Cache>);
    }
  } else {
    GTEST_SKIP() << "latents have no scales per channel";
  }
}

// Codes hold no such number, so what multiplies them says it for the row, and for no other.
template <class Element>
class AttendCodes : public testing::Test {};
using CodeElements = testing::Types<int8, int4, Native<int8>, Native<int4>>;
TYPED_TEST_SUITE(AttendCodes, CodeElements);

TYPED_TEST(AttendCodes, NumbersThatAreNotFiniteAreNan) {
  Random random(8);
  constexpr float infinity = std::numeric_limits<float>::infinity();
  auto inputs = test::normal_inputs<float>({.num_heads = 3,
                                            .num_kv_heads = 1,
                                            .seqlen_q = 4,
                                            .seqlen_kv = 90,
                                            .head_dim = 9,
                                            .head_dim_v = 21},
                                           random);
  KvCache<FullKv<1, 9, 21>, TypeParam> cache(90);
  cache.append(view(inputs.key), view(inputs.value));
  const auto run = [&] {
    return test::attend_source(view(inputs.query), cache, CausalMask{}, 0.3);
  };
  const auto expected = run();
  inputs.query(1, 2, 8) = std::numeric_limits<float>::quiet_NaN();
  inputs.query(2, 0, 0) = infinity, inputs.query(2, 0, 1) = -infinity;
  const auto found = run();
  for (Index head = 0; head < 3; ++head)
    for (Index q_row = 0; q_row < 4; ++q_row) {
      const bool bad = (head == 1 && q_row == 2) || (head == 2 && q_row == 0);
      EXPECT_EQ(std::isnan(found.lse(head, q_row, 0)), bad);
      for (Index c = 0; c < 21; ++c)
        if (bad)
          EXPECT_TRUE(std::isnan(found.out(head, q_row, c)));
        else
          EXPECT_EQ(found.out(head, q_row, c), expected.out(head, q_row, c));
    }
}

/// Whole pages of int8 with a scale per token, and the rest of the sequence in float.
class OpenAtTheEnd {
 public:
  using Element = int8;
  using Whole = KvCache<FullKv<2, 20>, int8>;
  using Open = KvCache<FullKv<2, 20>, float>;
  static constexpr KeyLayout key_layout = KeyLayout::transposed;
  static constexpr KeyScales key_scales = KeyScales::per_token;

  OpenAtTheEnd(const Whole& whole, const Open& open) : whole_(&whole), open_(&open) {}
  Index num_kv_heads() const { return 2; }
  Index head_dim() const { return 20; }
  Index head_dim_v() const { return 20; }
  Index seqlen() const { return open_->seqlen(); }
  Index page_scratch() const { return whole_->page_scratch(); }
  PageView<int8> page(Index kv_head, Index page, int8* scratch) const {
    return whole_->page(kv_head, page, scratch);
  }
  Index open_page_index() const noexcept { return seqlen() / page_size; }
  PageView<float> open_page(Index kv_head) const noexcept {
    return open_->page(kv_head, open_page_index(), nullptr);
  }

 private:
  const Whole* whole_;
  const Open* open_;
};

// Queries for codes and for floats come from the same numbers.
TEST(AttendOpenPage, ASourceOfScalesPerTokenMayHaveAnOpenPage) {
  Random random(9);
  const AttentionShape shape{.num_heads = 6,
                             .num_kv_heads = 2,
                             .seqlen_q = 5,
                             .seqlen_kv = 100,
                             .head_dim = 20,
                             .head_dim_v = 20};
  const auto inputs = test::normal_inputs<float>(shape, random);
  OpenAtTheEnd::Whole whole(shape.seqlen_kv);
  OpenAtTheEnd::Open open(shape.seqlen_kv);
  whole.append(view(inputs.key), view(inputs.value));
  open.append(view(inputs.key), view(inputs.value));
  AttentionInputs<float> held = inputs;
  for (Index head = 0; head < 2; ++head) {
    Heads<float> key(1, shape.seqlen_kv, 20), value = key;
    whole.read_key(head, view(key).head(0));
    whole.read_value(head, view(value).head(0));
    for (Index row = 0; row < page_size; ++row) {
      std::copy_n(view(key).row(0, row), 20, view(held.key).row(head, row));
      std::copy_n(view(value).row(0, row), 20, view(held.value).row(head, row));
    }
  }
  test::expect_attention(test::attend_source(view(inputs.query), OpenAtTheEnd(whole, open),
                                             CausalMask{}, shape.softmax_scale()),
                         held, {.scale = shape.softmax_scale()}, test::causal_on(shape));
}

// Keys come in pairs there, and a window may begin or end between the two: the other one, which no
// row sees, may hold anything.
TEST(AttendNative, TouchesNoHiddenValue) {
  Random random(7);
  constexpr Index seqlen_kv = 90;
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  for (const Index seqlen_q : {1, 3, 20})
    for (Index window_left = 0; window_left < 6; ++window_left) {
      const auto clean = test::normal_inputs<float>({.num_heads = 3,
                                                     .num_kv_heads = 1,
                                                     .seqlen_q = seqlen_q,
                                                     .seqlen_kv = seqlen_kv,
                                                     .head_dim = 7,
                                                     .head_dim_v = 21},
                                                    random);
      const auto run = [&](const Heads<float>& value) {
        KvCache<FullKv<1, 7, 21>, Native<bf16>> cache(seqlen_kv + 10);
        cache.append(view(clean.key), view(value));
        cache.append(view(clean.key).middle_rows(0, 10), view(value).middle_rows(0, 10));
        cache.truncate(seqlen_kv);
        return test::attend_source(view(clean.query), cache,
                                   SlidingWindowMask{.window_left = window_left}, 0.3);
      };
      const auto expected = run(clean.value);
      const Index first = seqlen_kv - seqlen_q - window_left;  // that some row sees
      Heads<float> value = clean.value;
      for (Index k = 0; k < first; ++k) value(0, k, k % 21) = nan;
      EXPECT_EQ(run(value), expected) << seqlen_q << " rows, window_left " << window_left;
      // One that the first row alone sees leaves the others as they are.
      value(0, first, 0) = nan;
      const auto found = run(value);
      for (Index head = 0; head < 3; ++head)
        for (Index q_row = 0; q_row < seqlen_q; ++q_row) {
          if (q_row == 0)
            EXPECT_TRUE(std::isnan(found.out(head, q_row, 0)));
          else
            EXPECT_EQ(found.out(head, q_row, 0), expected.out(head, q_row, 0));
          EXPECT_EQ(found.out(head, q_row, 1), expected.out(head, q_row, 1));
        }
    }
}

// Decode token by token, chunks, threads and batches are one way to cut the work for all elements.
// Keys with scales per channel are in float until their page is full, so that a token sees other
// keys while its page is being filled; the last token sees the same either way.
TYPED_TEST(AttendElement, TokenByTokenIsPrefill) {
  Random random(6);
  constexpr Index tokens = 150;
  const AttentionShape shape{.num_heads = 4,
                             .num_kv_heads = 2,
                             .seqlen_q = tokens,
                             .seqlen_kv = tokens,
                             .head_dim = 24,
                             .head_dim_v = 17};
  const auto inputs = test::normal_inputs<float>(shape, random);
  KvCache<FullKv<2, 24, 17>, TypeParam> whole(tokens), grown(tokens);
  whole.append(view(inputs.key), view(inputs.value));
  const auto prefill =
      test::attend_source(view(inputs.query), whole, CausalMask{}, shape.softmax_scale());
  for (Index token = 0; token < tokens; ++token) {
    grown.append(view(inputs.key).middle_rows(token, 1), view(inputs.value).middle_rows(token, 1));
    const auto step = test::attend_source(view(inputs.query).middle_rows(token, 1), grown,
                                          CausalMask{}, shape.softmax_scale());
    if (keys_per_channel<TypeParam> && token + 1 < tokens) continue;
    EXPECT_EQ(step.out.data, test::middle_rows(prefill.out, token, 1).data) << token;
  }
}

}  // namespace
}  // namespace heed
