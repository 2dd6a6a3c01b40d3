// SPDX-License-Identifier: MIT
/// \file
/// GroupedQueryAttention against the reference layer: with and without a cache, in chunks, with any
/// choice of biases, norms, RoPE and sinks.

#include <algorithm>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "heed/cache/kv_cache.hpp"
#include "heed/layers/grouped_query_attention.hpp"
#include "support/grouped_case.hpp"  // GroupedCase, random_features

namespace heed {
namespace {

using test::GroupedCase;
using test::GroupedFeatures;
using test::Matrix;
using test::positions_from;
using test::Random;
using test::view;

template <class T>
class GroupedLayer : public testing::Test {
 protected:
  /// Calls f(layer case, x) on random layers and inputs.
  template <class F>
  static void for_each_layer(int count, const F& f) {
    Random random(1);
    for (int i = 0; i < count; ++i) {
      const GroupedFeatures features = test::random_features(random);
      SCOPED_TRACE(features.text());
      const GroupedCase<T> layer_case(features, random);
      f(layer_case,
        test::normal_matrix<T>(random.integer(1, 90), features.shape.model_dim, random));
    }
  }
};
using Elements = testing::Types<float, double>;
TYPED_TEST_SUITE(GroupedLayer, Elements);

TYPED_TEST(GroupedLayer, WithoutACache) {
  this->for_each_layer(40,
                       [](const GroupedCase<TypeParam>& layer_case, const Matrix<TypeParam>& x) {
                         const auto layer = layer_case.layer();
                         Matrix<TypeParam> out(x.rows, x.cols);
                         layer.forward(view(x), CausalMask{}, view(out));
                         layer_case.expect(out, x, x, positions_from(0, x.rows), test::causal);
                         layer.forward(view(x), NoMask{}, view(out));
                         layer_case.expect(out, x, x, positions_from(0, x.rows), {});
                       });
}

TYPED_TEST(GroupedLayer, ThroughACacheInChunks) {
  this->for_each_layer(15,
                       [](const GroupedCase<TypeParam>& layer_case, const Matrix<TypeParam>& x) {
                         const auto layer = layer_case.layer();
                         for (const Index chunk : {Index{1}, Index{7}, Index{64}, x.rows}) {
                           SCOPED_TRACE("chunks of " + std::to_string(chunk));
                           auto cache = layer_case.cache(x.rows);
                           Matrix<TypeParam> out(x.rows, x.cols);
                           for (Index begin = 0; begin < x.rows; begin += chunk) {
                             const Index count = std::min(chunk, x.rows - begin);
                             layer.forward(view(x).middle_rows(begin, count), cache, CausalMask{},
                                           view(out).middle_rows(begin, count));
                           }
                           EXPECT_EQ(cache.seqlen(), x.rows);
                           layer_case.expect(out, x, x, positions_from(0, x.rows), test::causal);
                         }
                       });
}

TYPED_TEST(GroupedLayer, AtAnyPositions) {
  this->for_each_layer(
      10, [](const GroupedCase<TypeParam>& layer_case, const Matrix<TypeParam>& x) {
        Random random(2);
        std::vector<Index> positions;
        for (Index i = 0; i < x.rows; ++i) positions.push_back(random.integer(0, 500));
        const auto layer = layer_case.layer();
        Matrix<TypeParam> out(x.rows, x.cols), cached(x.rows, x.cols);
        layer.forward(view(x), CausalMask{}, view(out), {.positions = positions});
        layer_case.expect(out, x, x, positions, test::causal);
        auto cache = layer_case.cache(x.rows);
        layer.forward(view(x), cache, CausalMask{}, view(cached), {.positions = positions});
        layer_case.expect(cached, x, x, positions, test::causal);
      });
}

TYPED_TEST(GroupedLayer, WithAScore) {
  this->for_each_layer(
      10, [](const GroupedCase<TypeParam>& layer_case, const Matrix<TypeParam>& x) {
        const auto layer = layer_case.layer();
        const auto positions = positions_from(0, x.rows);
        Matrix<TypeParam> out(x.rows, x.cols), cached(x.rows, x.cols);
        layer.forward(view(x), CausalMask{}, 0.125, view(out));
        layer_case.expect(out, x, x, positions, test::causal,
                          [](auto& formula) { formula.scale = 0.125; });

        auto weights = layer_case.weights();
        weights.softmax_scale = 0.375;
        GroupedQueryAttention<TypeParam>(layer_case.shape(), weights, layer_case.rope())
            .forward(view(x), CausalMask{}, view(out));
        layer_case.expect(out, x, x, positions, test::causal,
                          [](auto& formula) { formula.scale = 0.375; });

        const auto slopes = alibi_slopes<TypeParam>(layer_case.shape().num_heads);
        const auto score = chain(Scale{0.25}, Softcap{2}, Alibi<TypeParam>{slopes});
        const auto change = [&](auto& formula) {
          formula.scale = 0.25;
          formula.softcap = 2;
          formula.alibi_slopes.assign(slopes.begin(), slopes.end());
        };
        layer.forward(view(x), CausalMask{}, score, view(out));
        layer_case.expect(out, x, x, positions, test::causal, change);
        auto cache = layer_case.cache(x.rows);
        layer.forward(view(x), cache, CausalMask{}, score, view(cached));
        layer_case.expect(cached, x, x, positions, test::causal, change);
      });
}

TYPED_TEST(GroupedLayer, ProjectsNormsAndRotates) {
  this->for_each_layer(
      15, [](const GroupedCase<TypeParam>& layer_case, const Matrix<TypeParam>& x) {
        using E = test::Exact<TypeParam>;
        const auto layer = layer_case.layer();
        Matrix<TypeParam> query(x.rows, layer.query_width()), key(x.rows, layer.key_width()),
            value(x.rows, layer.value_width());
        layer.project_query(view(x), view(query), RowPositions{.first = 5});
        layer.project_key_value(view(x), view(x), view(key), view(value), RowPositions{.first = 5});
        const auto positions = positions_from(5, x.rows);
        const auto wide = test::converted<E>(x);
        const auto exact = layer_case.template formula<E>()(wide, wide, wide, positions);
        const auto plain = layer_case.template formula<TypeParam>()(x, x, x, positions);
        const auto expect_stage = [](const Matrix<TypeParam>& found, const auto& of_plain,
                                     const auto& of_exact) {
          test::expect_as_exact(found.data, reference::join(of_plain).data,
                                reference::join(of_exact).data, 3);
        };
        expect_stage(query, plain.query, exact.query);
        expect_stage(key, plain.key, exact.key);
        expect_stage(value, plain.value, exact.value);
      });
}

/// A fixed shape and the same one given at run time, by any alias, compute the same bits.
template <class T, class Fixed, class Dynamic>
void expect_same_layer(const GroupedShape& shape) {
  Random random(3);
  const GroupedCase<T> layer_case(
      {.shape = shape, .rope = RopeOptions{.rope_dim = 8}, .biases = true}, random);
  const auto x = test::normal_matrix<T>(30, shape.model_dim, random);
  Matrix<T> fixed(30, shape.model_dim), given(30, shape.model_dim), both(30, shape.model_dim);
  Fixed(layer_case.weights(), layer_case.rope()).forward(view(x), CausalMask{}, view(fixed));
  Dynamic(shape, layer_case.weights(), layer_case.rope())
      .forward(view(x), CausalMask{}, view(given));
  Fixed(shape, layer_case.weights(), layer_case.rope()).forward(view(x), CausalMask{}, view(both));
  EXPECT_EQ(fixed.data, given.data);
  EXPECT_EQ(fixed.data, both.data);
  layer_case.expect(fixed, x, x, positions_from(0, 30), test::causal);
}

TYPED_TEST(GroupedLayer, ShapesAreFixedOrGiven) {
  constexpr GroupedShape grouped{
      .model_dim = 24, .num_heads = 6, .num_kv_heads = 2, .head_dim = 8, .head_dim_v = 5};
  constexpr GroupedShape half_fixed{.num_heads = 6, .head_dim = 8, .head_dim_v = dynamic};
  using Fixed = GroupedQueryAttention<TypeParam, grouped>;
  expect_same_layer<TypeParam, Fixed, GroupedQueryAttention<TypeParam>>(grouped);
  expect_same_layer<TypeParam, Fixed, GroupedQueryAttention<TypeParam, half_fixed>>(grouped);
  expect_same_layer<TypeParam, MultiHeadAttention<TypeParam, 24, 3, 8>,
                    MultiHeadAttention<TypeParam>>(multi_head(24, 3, 8));
  expect_same_layer<TypeParam, MultiQueryAttention<TypeParam, 24, 3, 8>,
                    MultiQueryAttention<TypeParam>>(multi_query(24, 3, 8));
}

}  // namespace
}  // namespace heed
