// SPDX-License-Identifier: MIT
/// \file
/// MultiHeadLatentAttention against the reference layer, which expands all keys and values: on
/// every path, with and without a cache, in chunks, with and without a query latent.

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "heed/layers/multi_head_latent_attention.hpp"
#include "heed/policy/mask_element.hpp"
#include "support/latent_case.hpp"  // LatentCase, random_features_of_latents, all_paths

namespace heed {
namespace {

using test::LatentCase;
using test::LatentFeatures;
using test::Matrix;
using test::positions_from;
using test::Random;
using test::view;

template <class T>
class LatentLayer : public testing::Test {
 protected:
  /// Calls f(layer case, x) on random layers and inputs.
  template <class F>
  static void for_each_layer(int count, const F& f) {
    Random random(1);
    for (int i = 0; i < count; ++i) {
      const LatentFeatures features = test::random_features_of_latents(random);
      SCOPED_TRACE(features.text());
      const LatentCase<T> layer_case(features, random);
      f(layer_case,
        test::normal_matrix<T>(random.integer(1, 80), features.shape.model_dim, random));
    }
  }
};
using Elements = testing::Types<float, double>;
TYPED_TEST_SUITE(LatentLayer, Elements);

TYPED_TEST(LatentLayer, WithoutACache) {
  this->for_each_layer(15, [](const LatentCase<TypeParam>& layer_case, const Matrix<TypeParam>& x) {
    const auto layer = layer_case.layer();
    Matrix<TypeParam> out(x.rows, x.cols);
    for (const MlaPath path : test::all_paths) {
      SCOPED_TRACE("path " + std::to_string(static_cast<int>(path)));
      layer.forward(view(x), CausalMask{}, view(out), {.path = path});
      layer_case.expect(out, x, positions_from(0, x.rows), test::causal);
      layer.forward(view(x), NoMask{}, view(out), {.path = path});
      layer_case.expect(out, x, positions_from(0, x.rows), {});
    }
  });
}

TYPED_TEST(LatentLayer, ThroughACacheInChunks) {
  this->for_each_layer(5, [](const LatentCase<TypeParam>& layer_case, const Matrix<TypeParam>& x) {
    const auto layer = layer_case.layer();
    for (const MlaPath path : test::all_paths)
      for (const Index chunk : {Index{1}, Index{7}, Index{64}, x.rows}) {
        SCOPED_TRACE("path " + std::to_string(static_cast<int>(path)) + ", chunks of " +
                     std::to_string(chunk));
        auto cache = layer_case.cache(x.rows);
        Matrix<TypeParam> out(x.rows, x.cols);
        for (Index begin = 0; begin < x.rows; begin += chunk) {
          const Index count = std::min(chunk, x.rows - begin);
          layer.forward(view(x).middle_rows(begin, count), cache, CausalMask{},
                        view(out).middle_rows(begin, count), {.path = path});
        }
        EXPECT_EQ(cache.seqlen(), x.rows);
        layer_case.expect(out, x, positions_from(0, x.rows), test::causal);
      }
  });
}

TYPED_TEST(LatentLayer, AtAnyPositions) {
  this->for_each_layer(5, [](const LatentCase<TypeParam>& layer_case, const Matrix<TypeParam>& x) {
    Random random(2);
    std::vector<Index> positions;
    for (Index i = 0; i < x.rows; ++i) positions.push_back(random.integer(0, 500));
    Matrix<TypeParam> out(x.rows, x.cols);
    for (const MlaPath path : test::all_paths) {
      layer_case.layer().forward(view(x), CausalMask{}, view(out),
                                 {.positions = positions, .path = path});
      layer_case.expect(out, x, positions, test::causal);
    }
  });
}

TYPED_TEST(LatentLayer, WithScoresAndMasksPerHead) {
  this->for_each_layer(6, [](const LatentCase<TypeParam>& layer_case, const Matrix<TypeParam>& x) {
    const Index num_heads = layer_case.shape().num_heads;
    const auto slopes = alibi_slopes<TypeParam>(num_heads);
    const auto score = chain(Scale{0.25}, Softcap{2}, Alibi<TypeParam>{slopes});
    std::unique_ptr<bool[]> allowed(
        new bool[static_cast<std::size_t>(num_heads * x.rows * x.rows)]);
    const HeadsView<bool> pairs(allowed.get(), num_heads, x.rows, x.rows);
    Random random(3);
    for (Index head = 0; head < num_heads; ++head)
      for (Index q_row = 0; q_row < x.rows; ++q_row)
        for (Index k = 0; k < x.rows; ++k) pairs(head, q_row, k) = random.uniform() < 0.5;
    Matrix<TypeParam> out(x.rows, x.cols);
    auto weights = layer_case.weights();
    weights.softmax_scale = 0.375;
    MultiHeadLatentAttention<TypeParam>(layer_case.shape(), weights, layer_case.rope())
        .forward(view(x), CausalMask{}, view(out));
    layer_case.expect(out, x, positions_from(0, x.rows), test::causal,
                      [](auto& formula) { formula.scale = 0.375; });
    for (const MlaPath path : test::all_paths) {
      SCOPED_TRACE("path " + std::to_string(static_cast<int>(path)));
      layer_case.layer().forward(view(x), DenseMask{pairs}, score, view(out), {.path = path});
      layer_case.expect(
          out, x, positions_from(0, x.rows),
          [&](Index head, Index q_row, Index k) { return pairs(head, q_row, k); },
          [&](auto& formula) {
            formula.scale = 0.25;
            formula.softcap = 2;
            formula.alibi_slopes.assign(slopes.begin(), slopes.end());
          });
    }
  });
}

TYPED_TEST(LatentLayer, ProjectsNormsAndRotates) {
  this->for_each_layer(15, [](const LatentCase<TypeParam>& layer_case, const Matrix<TypeParam>& x) {
    using E = test::Exact<TypeParam>;
    const auto layer = layer_case.layer();
    Matrix<TypeParam> query(x.rows, layer.query_width()), latent(x.rows, layer.latent_width());
    layer.project_query(view(x), view(query), RowPositions{.first = 5});
    layer.project_latent(view(x), view(latent), RowPositions{.first = 5});
    const auto positions = positions_from(5, x.rows);
    const auto exact = layer_case.template formula<E>()(test::converted<E>(x), positions);
    const auto plain = layer_case.template formula<TypeParam>()(x, positions);
    test::expect_as_exact(query.data, reference::join(plain.query).data,
                          reference::join(exact.query).data, 5);
    const auto part = [&](Index begin, Index count) {
      return reference::columns(latent, begin, count).data;
    };
    const auto& shape = layer_case.shape();
    test::expect_as_exact(part(0, shape.latent_dim), plain.c_kv.data, exact.c_kv.data, 3);
    test::expect_as_exact(part(shape.latent_dim, shape.rope_dim), plain.k_rope.data,
                          exact.k_rope.data, 3);

    // The cache holds just this.
    auto cache = layer_case.cache(x.rows);
    Matrix<TypeParam> out(x.rows, x.cols), c_kv(x.rows, shape.latent_dim),
        k_rope(x.rows, shape.rope_dim);
    layer.forward(view(x), cache, CausalMask{}, view(out), {.positions = positions});
    cache.read_latent(view(c_kv), view(k_rope));
    EXPECT_EQ(c_kv.data, part(0, shape.latent_dim));
    EXPECT_EQ(k_rope.data, part(shape.latent_dim, shape.rope_dim));
  });
}

// Without its norm the latent is the projection itself.
TYPED_TEST(LatentLayer, TheNormOfTheLatentMayBeLeftOut) {
  this->for_each_layer(5, [](const LatentCase<TypeParam>& layer_case, const Matrix<TypeParam>& x) {
    auto weights = layer_case.weights();
    weights.kv_norm.reset();
    const MultiHeadLatentAttention<TypeParam> layer(layer_case.shape(), weights);  // nor rotated
    Matrix<TypeParam> latent(x.rows, layer.latent_width()), expected(x.rows, layer.latent_width());
    layer.project_latent(view(x), view(latent));
    weights.kv_down.apply(view(x), view(expected));
    EXPECT_EQ(latent.data, expected.data);
  });
}

/// A fixed shape and the same one given at run time compute the same bits.
template <class T, LatentShape fixed, LatentShape partly>
void expect_same_layer() {
  Random random(4);
  const LatentCase<T> layer_case({.shape = fixed, .query_norm = true}, random);
  const auto x = test::normal_matrix<T>(30, fixed.model_dim, random);
  Matrix<T> a(30, fixed.model_dim), b(30, fixed.model_dim), c(30, fixed.model_dim);
  MultiHeadLatentAttention<T, fixed>(layer_case.weights(), layer_case.rope())
      .forward(view(x), CausalMask{}, view(a));
  layer_case.layer().forward(view(x), CausalMask{}, view(b));
  MultiHeadLatentAttention<T, partly>(fixed, layer_case.weights(), layer_case.rope())
      .forward(view(x), CausalMask{}, view(c));
  EXPECT_EQ(a.data, b.data);
  EXPECT_EQ(a.data, c.data);
  layer_case.expect(a, x, positions_from(0, 30), test::causal);
}

TYPED_TEST(LatentLayer, ShapesAreFixedOrGiven) {
  constexpr LatentShape direct{.model_dim = 24,
                               .num_heads = 3,
                               .latent_dim = 10,
                               .rope_dim = 4,
                               .nope_dim = 6,
                               .head_dim_v = 5};
  constexpr LatentShape latent{.model_dim = 24,
                               .num_heads = 3,
                               .latent_dim = 10,
                               .rope_dim = 4,
                               .nope_dim = 6,
                               .head_dim_v = 5,
                               .query_latent_dim = 7};
  expect_same_layer<TypeParam, direct, LatentShape{.num_heads = 3}>();
  expect_same_layer<TypeParam, latent,
                    LatentShape{.latent_dim = 10, .query_latent_dim = dynamic}>();
}

}  // namespace
}  // namespace heed
