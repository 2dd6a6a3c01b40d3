// SPDX-License-Identifier: MIT
/// \file
/// Layers that end with the results of their heads: with the output projection done by hand, they
/// are the layers that have one, to the bit.

#include <array>
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
/// \param make  (weights): a layer
template <class T, class Weights, class Make, class Pass>
void expect_same(const Weights& weights, Index model_dim, const Make& make, const Pass& pass) {
  const Identity<T> identity(weights.out.in());
  Weights unprojected = weights;
  unprojected.out = {.projection = &identity};
  Matrix<T> heads(num_tokens, weights.out.in()), found(num_tokens, model_dim),
      expected(num_tokens, model_dim);
  pass(make(unprojected), view(heads));
  weights.out.apply(view(std::as_const(heads)), view(found));
  pass(make(weights), view(expected));
  EXPECT_EQ(found.data, expected.data);
}

/// A prompt, then one token more, and the same in a batch of two sequences.
template <class T>
auto cached_passes(const Matrix<T>& x, const auto& make_cache) {
  const auto one_by_one = [&x, make_cache](const auto& layer, RowsView<T> out) {
    auto cache = make_cache();
    layer.forward(view(x).middle_rows(0, num_tokens - 1), cache, CausalMask{},
                  out.middle_rows(0, num_tokens - 1));
    layer.forward(view(x).middle_rows(num_tokens - 1, 1), cache, CausalMask{},
                  out.middle_rows(num_tokens - 1, 1));
  };
  const auto batch = [&x, make_cache](const auto& layer, RowsView<T> out) {
    auto first = make_cache(), second = make_cache();
    using Sequence = BatchSequence<decltype(first), CausalMask>;
    layer.forward_batch(view(x),
                        std::array{Sequence{.seqlen = 4, .cache = &first},
                                   Sequence{.seqlen = num_tokens - 4, .cache = &second}},
                        out);
  };
  return std::pair(one_by_one, batch);
}

template <class T>
class Unprojected : public testing::Test {};
using Reals = testing::Types<float, double>;
TYPED_TEST_SUITE(Unprojected, Reals);

TYPED_TEST(Unprojected, GroupedLayersGiveTheirHeads) {
  Random random(1);
  for (int i = 0; i < 10; ++i) {
    const GroupedCase<TypeParam> layer_case(test::random_features(random), random);
    const Index model_dim = layer_case.shape().model_dim;
    const auto x = test::normal_matrix<TypeParam>(num_tokens, model_dim, random);
    const auto make = [&](const GroupedWeights<TypeParam>& weights) {
      return GroupedQueryAttention<TypeParam>(layer_case.shape(), weights, layer_case.rope());
    };
    const auto expect = [&](const auto& pass) {
      expect_same<TypeParam>(layer_case.weights(), model_dim, make, pass);
    };
    const auto [one_by_one, batch] = cached_passes(x, [&] { return layer_case.cache(num_tokens); });
    expect(one_by_one);
    expect(batch);
    expect([&](const auto& layer, auto out) { layer.forward(view(x), CausalMask{}, out); });
    expect([&](const auto& layer, auto out) {
      layer.forward_cross(view(x), view(x), view(x), NoMask{}, out);
    });
    expect([&](const auto& layer, auto out) {
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
    const Index model_dim = layer_case.shape().model_dim;
    const auto x = test::normal_matrix<TypeParam>(num_tokens, model_dim, random);
    const auto make = [&](const LatentWeights<TypeParam>& weights) {
      return MultiHeadLatentAttention<TypeParam>(layer_case.shape(), weights, layer_case.rope());
    };
    const auto expect = [&](const auto& pass) {
      expect_same<TypeParam>(layer_case.weights(), model_dim, make, pass);
    };
    const auto [one_by_one, batch] = cached_passes(x, [&] { return layer_case.cache(num_tokens); });
    expect(one_by_one);
    expect(batch);
    expect([&](const auto& layer, auto out) { layer.forward(view(x), CausalMask{}, out); });
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
