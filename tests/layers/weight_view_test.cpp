// SPDX-License-Identifier: MIT
/// \file
/// Weights of 16 bits: results of up to 64 rows have the bits of the same numbers in the layer's
/// type.

#include "heed/layers/weight_view.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "heed/cache/kv_cache.hpp"
#include "heed/layers/grouped_query_attention.hpp"
#include "heed/layers/multi_head_latent_attention.hpp"
#include "support/layer_case.hpp"   // normal_matrix, view, converted
#include "support/shape_error.hpp"  // expect_shape_error

namespace heed {
namespace {

using test::Matrix;
using test::Random;
using test::view;

/// Random numbers of E, and the same in T.
template <class T, class E>
struct Weight {
  Matrix<E> narrow;
  Matrix<T> wide;

  Weight(Index out, Index in, Random& random)
      : narrow(test::converted<E>(test::normal_matrix<T>(out, in, random, 0.2))),
        wide(test::converted<T>(narrow)) {}
};

template <class T, class E>
struct Pair {
  using Computed = T;
  using Stored = E;
};

template <class Types>
class NarrowWeights : public testing::Test {
 protected:
  using Computed = typename Types::Computed;
  using Stored = Weight<Computed, typename Types::Stored>;

  static Linear<Computed> narrow(const Stored& weight) { return {view(weight.narrow)}; }
  static Linear<Computed> wide(const Stored& weight) { return {view(weight.wide)}; }

  /// A pass of make_layer(narrow) over a cache of its own, and of make_layer(wide).
  template <class MakeLayer, class Cache, class... Options>
  static void expect_same_pass(const MakeLayer& make_layer, const Cache& empty, Index model_dim,
                               const Options&... options) {
    Random random(2);
    const auto x = test::normal_matrix<Computed>(9, model_dim, random);
    const auto run = [&](const auto& layer) {
      Matrix<Computed> out(9, model_dim);
      Cache cache = empty.fork();
      layer.forward(view(x).middle_rows(0, 8), cache, CausalMask{}, view(out).middle_rows(0, 8),
                    options...);
      layer.forward(view(x).middle_rows(8, 1), cache, CausalMask{}, view(out).middle_rows(8, 1),
                    options...);
      return out.data;
    };
    EXPECT_EQ(run(make_layer(narrow)), run(make_layer(wide)));
  }
};
using Types = testing::Types<Pair<float, bf16>, Pair<float, f16>, Pair<double, bf16>>;
TYPED_TEST_SUITE(NarrowWeights, Types);

TYPED_TEST(NarrowWeights, OfALinear) {
  using Scalar = typename TestFixture::Computed;
  Random random(1);
  const typename TestFixture::Stored weight(300, 70, random);
  const auto x = test::normal_matrix<Scalar>(5, 70, random);
  const auto bias = random.normals<Scalar>(300, 1);
  const Linear<Scalar> narrow{view(weight.narrow), bias};
  EXPECT_EQ(narrow.in(), 70);
  EXPECT_EQ(narrow.out(), 300);
  Matrix<Scalar> found(5, 300), expected(5, 300);
  narrow.apply(view(x), view(found));
  Linear<Scalar>{view(weight.wide), bias}.apply(view(x), view(expected));
  EXPECT_EQ(found.data, expected.data);
}

TYPED_TEST(NarrowWeights, OfAGroupedLayer) {
  using Scalar = typename TestFixture::Computed;
  Random random(3);
  const GroupedShape shape{.model_dim = 40, .num_heads = 4, .num_kv_heads = 2, .head_dim = 16};
  const typename TestFixture::Stored query(64, 40, random), key(32, 40, random),
      value(32, 40, random), out(40, 64, random);
  this->expect_same_pass(
      [&](const auto& of) {
        return GroupedQueryAttention<Scalar>(shape, {of(query), of(key), of(value), of(out)},
                                             Rope({.rope_dim = 16}));
      },
      KvCache<FullKv<2, 16>, Scalar>(9), 40);
}

TYPED_TEST(NarrowWeights, OfALatentLayerOnBothPaths) {
  using Scalar = typename TestFixture::Computed;
  Random random(4);
  const LatentShape shape{.model_dim = 40,
                          .num_heads = 4,
                          .latent_dim = 16,
                          .rope_dim = 8,
                          .nope_dim = 5,
                          .head_dim_v = 8,
                          .query_latent_dim = 20};
  const typename TestFixture::Stored query_down(20, 40, random), query_up(52, 20, random),
      down(24, 40, random), up(52, 16, random), out(40, 32, random);
  const auto make_layer = [&](const auto& of) {
    return MultiHeadLatentAttention<Scalar>(
        shape,
        {.query = LatentQuery<Scalar>{.down = of(query_down), .up = of(query_up)},
         .kv_down = of(down),
         .kv_up = of(up),
         .out = of(out)},
        Rope({.rope_dim = 8}));
  };
  for (const MlaPath path : {MlaPath::absorbed, MlaPath::expanded})
    this->expect_same_pass(make_layer, KvCache<LatentKv<16, 8>, Scalar>(9), 40,
                           LatentOptions{.path = path});
}

TEST(WeightView, LooksAtWhatEigenHolds) {
  using Stored = Eigen::Matrix<bf16, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Stored whole = Eigen::MatrixXf::Random(6, 40).cast<bf16>();
  const WeightView<float> weight(whole.block(1, 3, 4, 33));
  EXPECT_EQ(weight.out(), 4);
  EXPECT_EQ(weight.in(), 33);
  const std::vector<float> one(33, 1.0F);
  float sums[2];
  weight.middle_rows(2, 2).apply(std::span(one), RowsView<float>(sums, 1, 2));
  for (Index row = 0; row < 2; ++row) {
    const double sum = whole.block(3 + row, 3, 1, 33).cast<double>().sum();
    EXPECT_NEAR(sums[row], sum, 33 * test::unit_roundoff<float> * 33);
  }
}

TEST(WeightView, OfNothingIsEmpty) {
  const WeightView<float> nothing;
  EXPECT_EQ(nothing.out(), 0);
  EXPECT_EQ(nothing.in(), 0);
  nothing.apply(RowsView<const float>(nullptr, 3, 0), RowsView<float>(nullptr, 3, 0));
}

TEST(WeightView, RefusesOtherShapes) {
  const std::vector<f16> numbers(12, f16(1));
  const WeightView<float> weight(numbers.data(), 3, 4);
  std::vector<float> x(8), y(8, 7.0F);
  const auto rows = [&](std::vector<float>& of, Index cols) {
    return RowsView<float>(of.data(), 2, cols);
  };
  test::expect_shape_error(
      {"heed::WeightView::apply: x [rows, in] has shape [2, 3], expected [2, 4]"},
      [&] { weight.apply(rows(x, 3), rows(y, 3)); });
  test::expect_shape_error(
      {"heed::WeightView::apply: y [rows, out] has shape [2, 4], expected [2, 3]"},
      [&] { weight.apply(rows(x, 4), rows(y, 4)); });
  test::expect_shape_error(
      {"heed::WeightView::apply_transposed: x [rows, out] has shape [2, 4], expected [2, 3]"},
      [&] { weight.apply_transposed(rows(x, 4), rows(y, 4)); });
  test::expect_shape_error(
      {"heed::WeightView::apply_transposed: y [rows, in] has shape [2, 3], expected [2, 4]"},
      [&] { weight.apply_transposed(rows(x, 3), rows(y, 3)); });
  EXPECT_EQ(y, std::vector<float>(8, 7.0F));
}

}  // namespace
}  // namespace heed
