// SPDX-License-Identifier: MIT
/// \file
/// Linear and RmsNorm by themselves, and the bits of whole layers on any number of threads.

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "heed/cache/kv_cache.hpp"
#include "heed/layers/linear.hpp"
#include "heed/layers/rms_norm.hpp"
#include "support/executors.hpp"         // executors
#include "support/expect_attention.hpp"  // WorstError, walk_bound
#include "support/grouped_case.hpp"      // GroupedCase
#include "support/latent_case.hpp"       // LatentCase
#include "support/shape_error.hpp"       // expect_shape_error

namespace heed {
namespace {

using test::Exact;
using test::Matrix;
using test::Random;
using test::view;

template <class T>
class LayerParts : public testing::Test {};
using Elements = testing::Types<float, double>;
TYPED_TEST_SUITE(LayerParts, Elements);

TYPED_TEST(LayerParts, LinearIsTheProduct) {
  using E = Exact<TypeParam>;
  Random random(1);
  for (const Index rows : {0, 1, 2, 7, 40})
    for (const Index in : {1, 3, 64, 130})
      for (const Index out : {1, 5, 255, 256, 257, 600})
        for (const bool with_bias : {false, true}) {
          SCOPED_TRACE(std::to_string(rows) + " rows, " + std::to_string(in) + " to " +
                       std::to_string(out));
          const test::LinearCase<TypeParam> linear(out, in, with_bias, random);
          const auto x = test::normal_matrix<TypeParam>(rows, in, random);
          Matrix<TypeParam> y(rows, out);
          y.data.assign(y.data.size(), std::numeric_limits<TypeParam>::quiet_NaN());
          linear.library().apply(view(x), view(y));
          const auto exact = linear.template formula<E>()(test::converted<E>(x));
          test::WorstError worst;
          std::vector<E> terms;
          for (Index r = 0; r < rows; ++r)
            for (Index c = 0; c < out; ++c) {
              terms.clear();
              for (Index k = 0; k < in; ++k) terms.push_back(E{x(r, k)} * E{linear.weight(c, k)});
              if (with_bias) terms.push_back(linear.bias[static_cast<std::size_t>(c)]);
              worst.compare(y(r, c), exact(r, c), test::walk_bound<TypeParam, E>(terms),
                            [&](auto& words) { words << "row " << r << ", output " << c; });
            }
          worst.expect_within_bounds();
        }
}

// Weights and inputs may be blocks of wider matrices, as fused projections are.
TYPED_TEST(LayerParts, LinearTakesBlocks) {
  Random random(2);
  const auto fused = test::normal_matrix<TypeParam>(90, 20, random),
             wide = test::normal_matrix<TypeParam>(8, 30, random);
  const RowsView<const TypeParam> x = view(wide).middle_cols(3, 20);
  Matrix<TypeParam> y(8, 50), expected(8, 40);
  y.data.assign(y.data.size(), TypeParam(7));
  Linear<TypeParam>{view(fused).middle_rows(30, 40)}.apply(x, view(y).middle_cols(5, 40));
  Matrix<TypeParam> weight(40, 20), tight(8, 20);
  for (Index r = 0; r < 40; ++r) std::copy_n(view(fused).row(30 + r), 20, view(weight).row(r));
  for (Index r = 0; r < 8; ++r) std::copy_n(x.row(r), 20, view(tight).row(r));
  Linear<TypeParam>{view(std::as_const(weight))}.apply(view(std::as_const(tight)), view(expected));
  for (Index r = 0; r < 8; ++r)
    for (Index c = 0; c < 50; ++c)
      EXPECT_EQ(y(r, c), c < 5 || c >= 45 ? TypeParam(7) : expected(r, c - 5));
}

// Each row gets the bits that it gets alone: of so many on every target.
TYPED_TEST(LayerParts, LinearOfManyRowsIsThatOfEach) {
  Random random(8);
  for (const Index in : {1, 37, 600, 2050, 9000}) {
    constexpr Index most_rows = 64, out = 21;
    const auto weight = test::normal_matrix<TypeParam>(out, in, random),
               x = test::normal_matrix<TypeParam>(most_rows, in, random);
    const Linear<TypeParam> linear{view(weight)};
    Matrix<TypeParam> alone(most_rows, out);
    for (Index r = 0; r < most_rows; ++r)
      linear.apply(view(x).middle_rows(r, 1), view(alone).middle_rows(r, 1));
    for (const Index rows : {2, 3, 5, 8, 11, 26, 64}) {
      Matrix<TypeParam> together(rows, out);
      linear.apply(view(x).middle_rows(0, rows), view(together));
      EXPECT_TRUE(std::equal(together.data.begin(), together.data.end(), alone.data.begin()))
          << rows << " rows of " << in;
    }
  }
}

/// Weights of whole halves in a byte each, which no Linear could view.
template <class T>
class HalvesProjection : public Projection<T> {
 public:
  HalvesProjection(Index out, Index in, Random& random)
      : rows_(out), cols_(in), halves_(static_cast<std::size_t>(out * in)) {
    for (auto& half : halves_) half = static_cast<signed char>(random.integer(-4, 4));
  }
  Matrix<T> widened() const {
    Matrix<T> weight(rows_, cols_);
    std::ranges::transform(halves_, weight.data.begin(), [](auto half) { return T(half) / 2; });
    return weight;
  }

  Index in() const noexcept override { return cols_; }
  Index out() const noexcept override { return rows_; }
  void apply(RowsView<const T> x, RowsView<T> y, const AnyExecutor& executor) const override {
    const Matrix<T> weight = widened();
    Linear<T>{view(weight)}.apply(x, y, executor);
  }

 private:
  Index rows_, cols_;
  std::vector<signed char> halves_;
};

TYPED_TEST(LayerParts, LinearTakesAProjectionForItsWeight) {
  Random random(6);
  const HalvesProjection<TypeParam> halves(70, 33, random);
  const Matrix<TypeParam> weight = halves.widened();
  const auto x = test::normal_matrix<TypeParam>(5, 33, random);
  const auto bias = random.normals<TypeParam>(70, 1);
  const Linear<TypeParam> projected{.bias = bias, .projection = &halves};
  EXPECT_EQ(projected.in(), 33);
  EXPECT_EQ(projected.out(), 70);
  Matrix<TypeParam> y(5, 70), expected(5, 70);
  projected.apply(view(x), view(y));
  Linear<TypeParam>{view(weight), bias}.apply(view(x), view(expected));
  EXPECT_EQ(y.data, expected.data);
  test::expect_shape_error({"query.weight [out, in] has shape [70, 33], expected [70, 34]"},
                           [&] { projected.check("layer", "query", 70, 34); });
}

TYPED_TEST(LayerParts, LayersTakeProjections) {
  Random random(7);
  const HalvesProjection<TypeParam> query(64, 40, random), key(32, 40, random),
      value(32, 40, random), out(40, 64, random), down(24, 40, random),
      latent_query(48, 40, random), latent_out(40, 32, random);
  const Matrix<TypeParam> weights[] = {query.widened(),     key.widened(),          value.widened(),
                                       out.widened(),       latent_query.widened(), down.widened(),
                                       latent_out.widened()};
  const auto own = [](const auto& projection) {
    return Linear<TypeParam>{.projection = &projection};
  };
  const auto plain = [&](int i) { return Linear<TypeParam>{view(weights[i])}; };
  const auto x = test::normal_matrix<TypeParam>(9, 40, random);
  Matrix<TypeParam> y(9, 40), expected(9, 40);
  const auto run = [&](const auto& layer, auto cache, Matrix<TypeParam>& result) {
    layer.forward(view(x), cache, CausalMask{}, view(result));
  };

  const GroupedShape grouped{.model_dim = 40, .num_heads = 4, .num_kv_heads = 2, .head_dim = 16};
  const auto layer = [&](const GroupedWeights<TypeParam>& from) {
    return GroupedQueryAttention<TypeParam>(grouped, from, Rope({.rope_dim = 16}));
  };
  run(layer({own(query), own(key), own(value), own(out)}), KvCache<FullKv<2, 16>, TypeParam>(9), y);
  run(layer({plain(0), plain(1), plain(2), plain(3)}), KvCache<FullKv<2, 16>, TypeParam>(9),
      expected);
  EXPECT_EQ(y.data, expected.data);

  const LatentShape latent{.model_dim = 40,
                           .num_heads = 4,
                           .latent_dim = 16,
                           .rope_dim = 8,
                           .nope_dim = 4,
                           .head_dim_v = 8};
  const auto up = test::normal_matrix<TypeParam>(48, 16, random);
  const auto latent_layer = [&](const LatentWeights<TypeParam>& from) {
    return MultiHeadLatentAttention<TypeParam>(latent, from, Rope({.rope_dim = 8}));
  };
  run(latent_layer({.query = own(latent_query),
                    .kv_down = own(down),
                    .kv_up = {view(up)},
                    .out = own(latent_out)}),
      KvCache<LatentKv<16, 8>, TypeParam>(9), y);
  run(latent_layer({.query = plain(4), .kv_down = plain(5), .kv_up = {view(up)}, .out = plain(6)}),
      KvCache<LatentKv<16, 8>, TypeParam>(9), expected);
  EXPECT_EQ(y.data, expected.data);
  test::expect_shape_error({"weights.kv_up must be a matrix: heads are cut out of it"}, [&] {
    latent_layer({.query = own(latent_query),
                  .kv_down = own(down),
                  .kv_up = own(latent_query),
                  .out = own(latent_out)});
  });
}

TYPED_TEST(LayerParts, RmsNormIsItsFormula) {
  using E = Exact<TypeParam>;
  Random random(3);
  for (const Index dim : {1, 2, 7, 64, 100})
    for (const RmsNormGain gain : {RmsNormGain::weight, RmsNormGain::one_plus_weight})
      for (const double size : {1e-4, 1.0, 1e4}) {
        const test::NormCase<TypeParam> norm(dim, gain, random);
        auto x = test::normal_heads<TypeParam>(3, 5, dim, random, size);
        const auto exact = norm.template formula<E>()(test::converted<E>(x));
        norm.library().apply(view(x));
        test::WorstError worst;
        // The mean of squares sums positive terms; the gain, root, quotient and product round once
        // each.
        const double bound = (test::dot_bound<TypeParam>(dim) + 6 * test::unit_roundoff<TypeParam>);
        for (std::size_t i = 0; i < x.data.size(); ++i)
          worst.compare(x.data[i], exact.data[i],
                        bound * std::abs(static_cast<double>(exact.data[i])),
                        [&](auto& words) { words << "dim " << dim << ", element " << i; });
        worst.expect_within_bounds();
      }
}

TYPED_TEST(LayerParts, RmsNormOfNoColumnsIsNothing) {
  RmsNorm<TypeParam>{}.apply(HeadsView<TypeParam>(nullptr, 2, 3, 0));
}

TYPED_TEST(LayerParts, RmsNormOfZerosIsZero) {
  const std::vector<TypeParam> weight(6, TypeParam(2));
  std::vector<TypeParam> x(12, TypeParam(0));
  RmsNorm<TypeParam>{.weight = weight}.apply(RowsView<TypeParam>(x.data(), 2, 6));
  EXPECT_EQ(x, std::vector<TypeParam>(12, TypeParam(0)));
}

/// Prefill and decode through `layer`, with each executor: the outputs must be the same to the bit.
template <class T, class Layer, class MakeCache>
void expect_same_bits(const Layer& layer, const MakeCache& make_cache, Index model_dim) {
  Random random(4);
  const auto x = test::normal_matrix<T>(101, model_dim, random);
  std::vector<T> serial;
  for (const AnyExecutor& executor : test::executors()) {
    auto cache = make_cache();
    Matrix<T> out(101, model_dim);
    layer.forward(view(x).middle_rows(0, 100), cache, CausalMask{}, view(out).middle_rows(0, 100),
                  {.executor = executor});
    layer.forward(view(x).middle_rows(100, 1), cache, CausalMask{}, view(out).middle_rows(100, 1),
                  {.executor = executor});
    if (serial.empty()) serial = out.data;
    EXPECT_EQ(out.data, serial);
  }
}

TYPED_TEST(LayerParts, LayersGiveTheSameBitsOnAnyThreads) {
  Random random(5);
  const GroupedShape grouped{.model_dim = 300, .num_heads = 12, .num_kv_heads = 4, .head_dim = 64};
  const test::GroupedCase<TypeParam> grouped_case(
      {.shape = grouped, .rope = RopeOptions{.rope_dim = 64}, .biases = true}, random);
  expect_same_bits<TypeParam>(
      grouped_case.layer(), [] { return KvCache<FullKv<4, 64>, TypeParam>(101); }, 300);
  const LatentShape latent{.model_dim = 300,
                           .num_heads = 8,
                           .latent_dim = 64,
                           .rope_dim = 16,
                           .nope_dim = 32,
                           .head_dim_v = 48,
                           .query_latent_dim = 100};
  const test::LatentCase<TypeParam> latent_case({.shape = latent, .query_norm = true}, random);
  expect_same_bits<TypeParam>(latent_case.layer(), [&] { return latent_case.cache(101); }, 300);
}

// What a pass writes, it writes when it no longer reads its input.
TYPED_TEST(LayerParts, LayersMayOverwriteTheirInput) {
  Random random(8);
  const auto expect_in_place = [&](const auto& layer, auto cache, Index model_dim) {
    auto x = test::normal_matrix<TypeParam>(7, model_dim, random);
    Matrix<TypeParam> out(7, model_dim);
    auto same_cache = cache.fork();
    layer.forward(view(std::as_const(x)), cache, CausalMask{}, view(out));
    layer.forward(view(std::as_const(x)), same_cache, CausalMask{}, view(x));
    EXPECT_EQ(x.data, out.data);
  };
  const GroupedShape grouped{.model_dim = 300, .num_heads = 4, .num_kv_heads = 2, .head_dim = 16};
  const test::GroupedCase<TypeParam> grouped_case({.shape = grouped}, random);
  expect_in_place(grouped_case.layer(), KvCache<FullKv<2, 16>, TypeParam>(7), 300);
  const LatentShape latent{.model_dim = 300,
                           .num_heads = 4,
                           .latent_dim = 16,
                           .rope_dim = 8,
                           .nope_dim = 4,
                           .head_dim_v = 8};
  const test::LatentCase<TypeParam> latent_case({.shape = latent}, random);
  expect_in_place(latent_case.layer(), latent_case.cache(7), 300);
}

}  // namespace
}  // namespace heed
