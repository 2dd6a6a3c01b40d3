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

}  // namespace
}  // namespace heed
