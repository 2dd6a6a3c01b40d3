// SPDX-License-Identifier: MIT
/// \file
/// Layers that end with the results of their heads: with the output projection done by hand, they
/// are the layers that have one, to the bit.

#include <array>
#include <type_traits>
#include <utility>

#include <gtest/gtest.h>

#include "support/grouped_case.hpp"  // GroupedCase
#include "support/latent_case.hpp"   // LatentCase
#include "support/shape_error.hpp"   // expect_shape_error

namespace heed {
namespace {

using test::GroupedCase;
using test::LatentCase;
using test::Matrix;
using test::Random;
using test::view;

constexpr Index num_tokens = 9;

/// Runs `pass(layer, out)` with a layer that ends with its heads and with one that has its last
/// projection.
template <class Layer, class Case, class Pass>
void expect_same(const Case& layer_case, const Pass& pass) {
  auto weights = layer_case.weights();
  const auto out = weights.out;
  const auto make = [&] { return Layer(layer_case.shape(), weights, layer_case.rope()); };
  using T = std::remove_const_t<typename decltype(out.bias)::value_type>;
  const Index model_dim = layer_case.shape().model_dim;
  Matrix<T> heads(num_tokens, out.in()), found(num_tokens, model_dim),
      expected(num_tokens, model_dim);
  pass(make(), view(expected));
  const Identity<T> identity(out.in());
  weights.out = {.projection = &identity};
  pass(make(), view(heads));
  out.apply(view(std::as_const(heads)), view(found));
  EXPECT_EQ(found.data, expected.data);
}

/// The passes that all layers have: a prompt and a token more, a batch of two sequences, and no
/// cache.
template <class Layer, class Case, class T>
void expect_same_passes(const Case& layer_case, const Matrix<T>& x) {
  const auto expect = [&](const auto& pass) { expect_same<Layer>(layer_case, pass); };
  expect([&](const auto& layer, auto out) {
    auto cache = layer_case.cache(num_tokens);
    layer.forward(view(x).middle_rows(0, num_tokens - 1), cache, CausalMask{},
                  out.middle_rows(0, num_tokens - 1));
    layer.forward(view(x).middle_rows(num_tokens - 1, 1), cache, CausalMask{},
                  out.middle_rows(num_tokens - 1, 1));
  });
  expect([&](const auto& layer, auto out) {
    auto first = layer_case.cache(4), second = layer_case.cache(num_tokens - 4);
    using Sequence = BatchSequence<decltype(first), CausalMask>;
    layer.forward_batch(view(x),
                        std::array{Sequence{.seqlen = 4, .cache = &first},
                                   Sequence{.seqlen = num_tokens - 4, .cache = &second}},
                        out);
  });
  expect([&](const auto& layer, auto out) { layer.forward(view(x), CausalMask{}, out); });
}

template <class T>
class Unprojected : public testing::Test {};
using Reals = testing::Types<float, double>;
TYPED_TEST_SUITE(Unprojected, Reals);

TYPED_TEST(Unprojected, GroupedLayersGiveTheirHeads) {
  using Layer = GroupedQueryAttention<TypeParam>;
  Random random(1);
  for (int i = 0; i < 10; ++i) {
    const GroupedCase<TypeParam> layer_case(test::random_features(random), random);
    const auto x = test::normal_matrix<TypeParam>(num_tokens, layer_case.shape().model_dim, random);
    expect_same_passes<Layer>(layer_case, x);
    expect_same<Layer>(layer_case, [&](const auto& layer, auto out) {
      layer.forward_cross(view(x), view(x), view(x), NoMask{}, out);
    });
    expect_same<Layer>(layer_case, [&](const auto& layer, auto out) {
      auto memory = layer_case.cache(num_tokens);
      layer.append_memory(view(x), view(x), memory);
      layer.forward_cross(view(x), std::as_const(memory), NoMask{}, out);
    });
  }
}

TYPED_TEST(Unprojected, LatentLayersGiveTheirHeads) {
  Random random(2);
  for (int i = 0; i < 10; ++i) {
    const LatentCase<TypeParam> layer_case(test::random_features_of_latents(random), random);
    expect_same_passes<MultiHeadLatentAttention<TypeParam>>(
        layer_case,
        test::normal_matrix<TypeParam>(num_tokens, layer_case.shape().model_dim, random));
  }
}

TEST(UnprojectedRefuses, AnOutputOfTheModelsWidth) {
  Random random(3);
  const GroupedCase<float> layer_case(
      {.shape =
           {.model_dim = 10, .num_heads = 4, .num_kv_heads = 2, .head_dim = 6, .head_dim_v = 3}},
      random);
  auto weights = layer_case.weights();
  const Identity<float> identity(12), wrong(10);
  weights.out = {.projection = &wrong};
  test::expect_shape_error({"weights.out.weight [out, in] has shape [10, 10], expected [10, 12]"},
                           [&] { GroupedQueryAttention<float>(layer_case.shape(), weights); });
  weights.out = {.projection = &identity};
  const GroupedQueryAttention<float> layer(layer_case.shape(), weights);
  Matrix<float> x(2, 10), out(2, 10);
  auto cache = layer_case.cache(2);
  test::expect_shape_error(
      {"out [seqlen_q, out of weights.out] has shape [2, 10], expected [2, 12]"},
      [&] { layer.forward(view(x), cache, CausalMask{}, view(out)); });
  EXPECT_EQ(cache.seqlen(), 0);
}

}  // namespace
}  // namespace heed
