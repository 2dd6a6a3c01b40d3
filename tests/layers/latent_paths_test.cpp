// SPDX-License-Identifier: MIT
/// \file
/// The two forms of latent attention: which one is taken, long sequences whose expanded heads do
/// not fit at once, and ragged batches.

#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "heed/layers/multi_head_latent_attention.hpp"
#include "heed/policy/mask_element.hpp"
#include "support/latent_case.hpp"  // LatentCase, random_features_of_latents, all_paths
#include "support/mask_cases.hpp"   // Booleans

namespace heed {
namespace {

using test::LatentCase;
using test::Matrix;
using test::Random;
using test::view;

constexpr LatentShape small{.model_dim = 12,
                            .num_heads = 3,
                            .latent_dim = 16,
                            .rope_dim = 4,
                            .nope_dim = 8,
                            .head_dim_v = 8};

// Decode is absorbed, a long prefill expanded; the count of FLOPs decides.
TEST(LatentPaths, CountFlops) {
  constexpr LatentShape v2{.model_dim = 5120,
                           .num_heads = 128,
                           .latent_dim = 512,
                           .rope_dim = 64,
                           .nope_dim = 128,
                           .head_dim_v = 128,
                           .query_latent_dim = 1536};
  // One query on 1000 tokens: per head 1000 pairs of 2 (576 + 512) FLOPs, and twice 128 x 512 to
  // fold.
  EXPECT_EQ(absorbed_flops(v2, 1, 1000), 128.0 * (1000.0 * 2 * (576 + 512) + 2 * 2 * 128 * 512));
  // Expanded, per head 1000 pairs of 2 (192 + 128) FLOPs, and 1000 tokens times twice 128 x 512.
  EXPECT_EQ(expanded_flops(v2, 1, 1000),
            128.0 * (1000.0 * 2 * (192 + 128) + 1000.0 * 2 * 2 * 128 * 512));
  // 4 causal queries at the end of 10 tokens make 7 + 8 + 9 + 10 pairs.
  EXPECT_EQ(absorbed_flops(v2, 4, 10), 128.0 * (34.0 * 2 * (576 + 512) + 4.0 * 2 * 2 * 128 * 512));
  EXPECT_LT(absorbed_flops(v2, 1, 8192), expanded_flops(v2, 1, 8192));
  EXPECT_GT(absorbed_flops(v2, 8192, 8192), expanded_flops(v2, 8192, 8192));
}

template <class Element>
class AutomaticPath : public testing::Test {};
using PathElements = testing::Types<float, Native<int8>>;
TYPED_TEST_SUITE(AutomaticPath, PathElements);

TYPED_TEST(AutomaticPath, TakesTheFewerFlops) {
  using Cache = KvCache<LatentKv<>, TypeParam>;
  const Products products =
      is_native<TypeParam> && has_native_products<TypeParam> ? Products::native : Products::exact;
  Random random(1);
  const LatentCase<float> layer_case({.shape = small}, random);
  const auto layer = layer_case.layer();
  int absorbed = 0, expanded = 0;
  for (const Index held : {1, 3, 50})
    for (const Index seqlen_q : {1, 2, 10, 22, 40, 100, 400}) {
      const auto x = test::normal_matrix<float>(held + seqlen_q, small.model_dim, random);
      std::vector<Matrix<float>> results;
      for (const MlaPath path : test::all_paths) {
        Cache cache(x.rows, kv_entry(small));
        Matrix<float> skipped(held, small.model_dim), out(seqlen_q, small.model_dim);
        layer.forward(view(x).middle_rows(0, held), cache, CausalMask{}, view(skipped),
                      {.path = MlaPath::absorbed});
        layer.forward(view(x).middle_rows(held, seqlen_q), cache, CausalMask{}, view(out),
                      {.path = path});
        results.push_back(out);
      }
      const bool fold = cheaper_path(small, seqlen_q, x.rows, products) == MlaPath::absorbed;
      ++(fold ? absorbed : expanded);
      EXPECT_EQ(results[0].data, results[fold ? 1 : 2].data)
          << held << " held, " << seqlen_q << " more";
      EXPECT_NE(results[1].data, results[2].data)
          << "the paths round differently, else this test sees nothing";
    }
  EXPECT_GT(absorbed, 0);
  EXPECT_GT(expanded, 0);
}

// The kernel's part counts less where the processor multiplies what the cache holds.
TEST(LatentPaths, NativeProductsAreAbsorbedForLonger) {
  constexpr LatentShape v2_lite{.model_dim = 2048,
                                .num_heads = 16,
                                .latent_dim = 512,
                                .rope_dim = 64,
                                .nope_dim = 128,
                                .head_dim_v = 128};
  for (const Index held : {512, 4096}) {
    const auto crossover = [&](Products products) {
      Index seqlen_q = 1;
      while (cheaper_path(v2_lite, seqlen_q, held + seqlen_q, products) == MlaPath::absorbed)
        ++seqlen_q;
      return seqlen_q;
    };
    // It counts 0.6 times: 1 / 0.6 = 1.67 times as many rows, if there were nothing beside it.
    EXPECT_GT(crossover(Products::native), 3 * crossover(Products::exact) / 2) << held;
  }
}

// So many tokens that the heads are expanded a few at a time; what varies by head still finds its
// head. The output projection is the identity, so the layer's output is that of the heads.
TEST(LatentPaths, HeadsAreExpandedInBlocks) {
  constexpr Index seqlen = 17'000, num_heads = 8, nope_dim = 64, head_dim_v = 64;
  constexpr LatentShape shape{.model_dim = num_heads * head_dim_v,
                              .num_heads = num_heads,
                              .latent_dim = 4,
                              .rope_dim = 2,
                              .nope_dim = nope_dim,
                              .head_dim_v = head_dim_v};
  static_assert(seqlen * num_heads * (66 + head_dim_v) > detail::expanded_elements);
  Random random(2);
  const LatentCase<float> layer_case({.shape = shape}, random);
  Matrix<float> identity(shape.model_dim, shape.model_dim);
  for (Index i = 0; i < shape.model_dim; ++i) identity(i, i) = 1;
  auto weights = layer_case.weights();
  weights.out = {view(std::as_const(identity))};
  const MultiHeadLatentAttention<float> layer(shape, weights, layer_case.rope());

  const auto x = test::normal_matrix<float>(2, shape.model_dim, random);
  const auto c_kv = test::normal_matrix<float>(seqlen - 2, 4, random),
             k_rope = test::normal_matrix<float>(seqlen - 2, 2, random);
  const auto slopes = alibi_slopes<float>(num_heads);
  const test::Booleans allowed(num_heads, {2, seqlen}, random);
  const auto score = chain(Scale{0.125}, Alibi<float>{slopes});
  std::vector<Matrix<float>> results;
  Matrix<float> latent(2, 6);
  for (const MlaPath path : {MlaPath::expanded, MlaPath::absorbed}) {
    auto cache = layer_case.cache(seqlen);
    cache.append(view(c_kv), view(k_rope));
    results.emplace_back(2, shape.model_dim);
    layer.forward(view(x), cache, DenseMask{allowed.view()}, score, view(results.back()),
                  {.path = path});
  }
  // The formula on the same latents; those of x are the last.
  layer.project_latent(view(x), view(latent), RowPositions{.first = seqlen - 2});
  Matrix<float> query(2, layer.query_width());
  layer.project_query(view(x), view(query), RowPositions{.first = seqlen - 2});
  const auto attention_in = [&]<class U>(U) {
    test::Heads<U> key(num_heads, seqlen, 66), value(num_heads, seqlen, head_dim_v);
    const auto latent_at = [&](Index k, Index c) -> U {
      if (k >= seqlen - 2) return latent(k - seqlen + 2, c);
      return c < 4 ? c_kv(k, c) : k_rope(k, c - 4);
    };
    const Matrix<U> up = layer_case.formula<U>().kv_up.weight;
    const auto row_dot = [&](Index row, Index k) {
      U sum = 0;
      for (Index c = 0; c < 4; ++c) sum += up(row, c) * latent_at(k, c);
      return sum;
    };
    for (Index head = 0; head < num_heads; ++head)
      for (Index k = 0; k < seqlen; ++k) {
        const Index key_up = head * (nope_dim + head_dim_v), value_up = key_up + nope_dim;
        for (Index c = 0; c < nope_dim; ++c) key(head, k, c) = row_dot(key_up + c, k);
        for (Index c = 0; c < 2; ++c) key(head, k, nope_dim + c) = latent_at(k, 4 + c);
        for (Index c = 0; c < head_dim_v; ++c) value(head, k, c) = row_dot(value_up + c, k);
      }
    const reference::Score<U> formula{.scale = 0.125,
                                      .alibi_slopes = {slopes.begin(), slopes.end()}};
    const auto visible = [&](Index head, Index q_row, Index k) {
      return allowed.view()(head, q_row, k);
    };
    return reference::join(
        reference::attention(reference::split(test::converted<U>(query), num_heads), key, value,
                             formula, visible)
            .out);
  };
  const auto exact = attention_in(double{});
  const auto plain = attention_in(float{});
  for (const auto& result : results)
    test::expect_as_exact(result.data, plain.data, exact.data, test::attention_stages + 1);
}

// Sequences of any lengths in rounds of any sizes, as for GroupedQueryAttention.
TEST(LatentBatch, EachSequenceAsIfAlone) {
  using Cache = KvCache<LatentKv<>, float>;
  using Sequence = BatchSequence<Cache, CausalMask>;
  Random random(3);
  for (int i = 0; i < 12; ++i) {
    const auto features = test::random_features_of_latents(random);
    SCOPED_TRACE(features.text());
    const LatentCase<float> layer_case(features, random);
    const auto layer = layer_case.layer();
    const Index model_dim = features.shape.model_dim;
    const MlaPath path = test::all_paths[i % 3];
    const auto first_x = test::normal_matrix<float>(20, model_dim, random),
               second_x = test::normal_matrix<float>(33, model_dim, random);
    Matrix<float> first_out(20, model_dim), second_out(33, model_dim);
    Cache first = layer_case.cache(40), second = layer_case.cache(40);
    const auto round = [&](Index first_begin, Index first_count, Index second_begin,
                           Index second_count) {
      Matrix<float> x(first_count + second_count, model_dim), out(x.rows, model_dim);
      const auto both = [&](const auto& copy) {
        for (Index r = 0; r < first_count; ++r) copy(first_x, first_out, first_begin + r, r);
        for (Index r = 0; r < second_count; ++r)
          copy(second_x, second_out, second_begin + r, first_count + r);
      };
      both([&](const Matrix<float>& from, Matrix<float>&, Index row, Index at) {
        for (Index c = 0; c < model_dim; ++c) x(at, c) = from(row, c);
      });
      const std::vector<Sequence> sequences = {{first_count, &first}, {second_count, &second}};
      layer.forward_batch(view(std::as_const(x)), std::span<const Sequence>(sequences),
                          layer.softmax_scale(), view(out), {.path = path});
      both([&](const Matrix<float>&, Matrix<float>& to, Index row, Index at) {
        for (Index c = 0; c < model_dim; ++c) to(row, c) = out(at, c);
      });
    };
    round(0, 19, 0, 5);   // two prefills
    round(19, 1, 5, 27);  // a decode beside a chunk
    round(20, 0, 32, 1);  // one has nothing to say
    layer_case.expect(first_out, first_x, test::positions_from(0, 20), test::causal);
    layer_case.expect(second_out, second_x, test::positions_from(0, 33), test::causal);
    EXPECT_EQ(first.seqlen(), 20);
    EXPECT_EQ(second.seqlen(), 33);
  }
}

// Sequences that share pages: absorbed ones, which are taken together, on both sides of one that is
// long enough to be expanded in most shapes.
TEST(LatentBatch, OverSharedPages) {
  using Cache = KvCache<LatentKv<>, float>;
  using Sequence = BatchSequence<Cache, CausalMask>;
  Random random(4);
  for (int i = 0; i < 12; ++i) {
    const auto features = test::random_features_of_latents(random);
    SCOPED_TRACE(features.text());
    const LatentCase<float> layer_case(features, random);
    const auto layer = layer_case.layer();
    const Index model_dim = features.shape.model_dim;
    const auto prompt = test::normal_matrix<float>(200, model_dim, random),
               x = test::normal_matrix<float>(155, model_dim, random);
    Matrix<float> prompt_out(200, model_dim), together(155, model_dim);
    const PagePool<LatentKv<>, float> pool(50, layer_case.cache(1).entry());
    Cache prefix(pool, 400);
    layer.forward(view(prompt), prefix, CausalMask{}, view(prompt_out));
    std::vector<Cache> caches;
    for (int fork = 0; fork < 5; ++fork) caches.push_back(prefix.fork());
    const std::vector<Sequence> sequences = {
        {1, &caches[0]}, {2, &caches[1]}, {150, &caches[2]}, {0, &caches[3]}, {2, &caches[4]}};
    layer.forward_batch(view(x), std::span<const Sequence>(sequences), layer.softmax_scale(),
                        view(together));
    const auto append_rows = [&](Matrix<float>& to, const Matrix<float>& from, Index row,
                                 Index count) {
      const auto begin = from.data.begin() + row * model_dim;
      to.data.insert(to.data.end(), begin, begin + count * model_dim);
      to.rows += count;
    };
    Index row = 0;
    for (const auto& [seqlen, cache, unused_mask] : sequences) {
      Matrix<float> whole_x = prompt, whole_out = prompt_out;
      append_rows(whole_x, x, row, seqlen);
      append_rows(whole_out, together, row, seqlen);
      layer_case.expect(whole_out, whole_x, test::positions_from(0, whole_x.rows), test::causal);
      EXPECT_EQ(cache->seqlen(), whole_x.rows);
      row += seqlen;
    }
  }
}

}  // namespace
}  // namespace heed
