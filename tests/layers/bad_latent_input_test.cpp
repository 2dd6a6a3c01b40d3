// SPDX-License-Identifier: MIT
/// \file
/// What the constructor and the entries of MultiHeadLatentAttention refuse, and how they say so.

#include <algorithm>
#include <span>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "heed/layers/multi_head_latent_attention.hpp"
#include "layers/same_numbers.hpp"  // rows, some
#include "support/shape_error.hpp"  // expect_shape_error

namespace heed {
namespace {

using test::expect_shape_error;
using test::rows;
using test::some;

constexpr LatentShape small_latent{.model_dim = 10,
                                   .num_heads = 4,
                                   .latent_dim = 7,
                                   .rope_dim = 2,
                                   .nope_dim = 3,
                                   .head_dim_v = 6};
constexpr LatentShape through_latent{.model_dim = 10,
                                     .num_heads = 4,
                                     .latent_dim = 7,
                                     .rope_dim = 2,
                                     .nope_dim = 3,
                                     .head_dim_v = 6,
                                     .query_latent_dim = 8};

LatentWeights<float> weights() {
  return {.query = Linear<float>{rows(20, 10)},
          .kv_down = {rows(9, 10)},
          .kv_norm = RmsNorm<float>{some(7)},
          .kv_up = {rows(36, 7)},
          .out = {rows(10, 24)}};
}
LatentQuery<float> latent_query() {
  return {.down = {rows(8, 10)}, .norm = RmsNorm<float>{some(8)}, .up = {rows(20, 8)}};
}

constexpr auto where = "heed::MultiHeadLatentAttention: ";

/// The weights after `spoil` must be refused.
template <class Spoil>
void expect_refused(std::string_view words, const Spoil& spoil) {
  auto spoiled = weights();
  spoil(spoiled);
  expect_shape_error({where, words},
                     [&] { MultiHeadLatentAttention<float>(small_latent, spoiled); });
  expect_shape_error({where, words},
                     [&] { MultiHeadLatentAttention<float, small_latent>{spoiled}; });
}

TEST(LatentLayerRefuses, WeightsOfOtherShapes) {
  MultiHeadLatentAttention<float>(small_latent, weights());  // is fine
  expect_refused("weights.query.weight [out, in] has shape [12, 10], expected [20, 10]",
                 [](auto& w) { w.query = Linear<float>{rows(12, 10)}; });
  expect_refused("weights.kv_down.weight [out, in] has shape [7, 10], expected [9, 10]",
                 [](auto& w) { w.kv_down.weight = rows(7, 10); });
  expect_refused("weights.kv_down.bias [out] has shape [7], expected [9]",
                 [](auto& w) { w.kv_down.bias = some(7); });
  expect_refused("weights.kv_norm [latent_dim] has shape [9], expected [7]",
                 [](auto& w) { w.kv_norm = {some(9)}; });
  expect_refused("weights.kv_up.weight [out, in] has shape [24, 7], expected [36, 7]",
                 [](auto& w) { w.kv_up.weight = rows(24, 7); });
  expect_refused(
      "weights.kv_up must have no bias: absorbed into the query it would need another term",
      [](auto& w) { w.kv_up.bias = some(36); });
  expect_refused("weights.out.weight [out, in] has shape [24, 10], expected [10, 24]",
                 [](auto& w) { w.out.weight = rows(24, 10); });
}

TEST(LatentLayerRefuses, QueriesOfTheOtherKind) {
  expect_refused("weights.query is a LatentQuery, so the shape needs its query_latent_dim",
                 [](auto& w) { w.query = latent_query(); });
  expect_shape_error(
      {where, "the shape has a query_latent_dim, so weights.query must be a LatentQuery"},
      [] { MultiHeadLatentAttention<float>(through_latent, weights()); });
  const auto refuse = [](std::string_view words, const LatentQuery<float>& query) {
    auto spoiled = weights();
    spoiled.query = query;
    expect_shape_error({where, words},
                       [&] { MultiHeadLatentAttention<float>(through_latent, spoiled); });
  };
  auto query = latent_query();
  query.down.weight = rows(7, 10);
  refuse("weights.query.down.weight [out, in] has shape [7, 10], expected [8, 10]", query);
  query = latent_query();
  query.norm = {some(7)};
  refuse("weights.query.norm [query_latent_dim] has shape [7], expected [8]", query);
  query = latent_query();
  query.up.weight = rows(20, 10);
  refuse("weights.query.up.weight [out, in] has shape [20, 10], expected [20, 8]", query);
}

TEST(LatentLayerRefuses, Shapes) {
  constexpr auto known = "shape.model_dim is -1, expected a positive size";
  expect_shape_error({where, known},
                     [] { MultiHeadLatentAttention<float>(LatentShape{}, weights()); });
  expect_shape_error({where, known}, [] { MultiHeadLatentAttention<float>{weights()}; });
  auto shape = small_latent;
  const auto refuse = [&](std::string_view words, Index LatentShape::* field, Index size) {
    shape = small_latent;
    shape.*field = size;
    expect_shape_error({where, words}, [&] { MultiHeadLatentAttention<float>(shape, weights()); });
  };
  refuse("shape.num_heads is 0, expected a positive size", &LatentShape::num_heads, 0);
  refuse("shape.latent_dim is 0, expected a positive size", &LatentShape::latent_dim, 0);
  refuse("shape.rope_dim is -1, expected a size of 0 or more", &LatentShape::rope_dim, -1);
  refuse("shape.nope_dim is -1, expected a size of 0 or more", &LatentShape::nope_dim, -1);
  refuse("shape.head_dim_v is 0, expected a positive size", &LatentShape::head_dim_v, 0);
  refuse("shape.query_latent_dim is -1, expected a size of 0 or more",
         &LatentShape::query_latent_dim, -1);
  shape = small_latent;
  shape.nope_dim = shape.rope_dim = 0;
  expect_shape_error({where, "shape.nope_dim + rope_dim is 0, expected a positive size"},
                     [&] { MultiHeadLatentAttention<float>(shape, weights()); });
  shape = small_latent;
  shape.latent_dim = 8;
  expect_shape_error({where,
                      "shape [model_dim, num_heads, latent_dim, rope_dim, nope_dim, head_dim_v, "
                      "query_latent_dim] has shape "
                      "[10, 4, 8, 2, 3, 6, 0], expected [10, 4, 7, 2, 3, 6, 0]"},
                     [&] { MultiHeadLatentAttention<float, small_latent>(shape, weights()); });
}

TEST(LatentLayerRefuses, ARopeOfAnotherWidth) {
  expect_shape_error({where, "the rope's rope_dim is 4, expected the shape's, 2"}, [] {
    MultiHeadLatentAttention<float>(small_latent, weights(), Rope{{.rope_dim = 4}});
  });
}

TEST(LatentLayerRefuses, CachesAndInputsOfOtherShapes) {
  const MultiHeadLatentAttention<float> layer(small_latent, weights());
  std::vector<float> memory(2000, 7.0F);
  const auto out = [&](Index count, Index cols) {
    return RowsView<float>(memory.data(), count, cols);
  };
  const auto refuse = [&](auto cache, std::string_view found) {
    using Sequence = BatchSequence<decltype(cache), CausalMask>;
    const std::vector<Sequence> sequences = {{3, &cache}};
    for (const std::string_view name : {"forward", "forward_batch"})
      expect_shape_error({name, "cache [latent_dim, latent_dim + rope_dim] has shape ", found,
                          ", expected [7, 9]"},
                         [&] {
                           if (name == "forward")
                             layer.forward(rows(3, 10), cache, CausalMask{}, out(3, 10));
                           if (name == "forward_batch")
                             layer.forward_batch(rows(3, 10), std::span<const Sequence>(sequences),
                                                 out(3, 10));
                         });
    EXPECT_EQ(cache.seqlen(), 0);
  };
  refuse(KvCache<LatentKv<6, 2>>(10), "[6, 8]");
  refuse(KvCache<LatentKv<7, 4>>(10), "[7, 11]");
  refuse(KvCache<LatentKv<9, 0>>(10), "[9, 9]");

  constexpr auto query = "heed::MultiHeadLatentAttention::project_query: ";
  expect_shape_error({query, "x [seqlen_q, model_dim] has shape [3, 9], expected [3, 10]"},
                     [&] { layer.project_query(rows(3, 9), out(3, 20)); });
  expect_shape_error(
      {query,
       "query [seqlen_q, num_heads * (nope_dim + rope_dim)] has shape [2, 20], expected [3, 20]"},
      [&] { layer.project_query(rows(3, 10), out(2, 20)); });
  constexpr auto latent = "heed::MultiHeadLatentAttention::project_latent: ";
  expect_shape_error({latent, "x [seqlen_kv, model_dim] has shape [3, 9], expected [3, 10]"},
                     [&] { layer.project_latent(rows(3, 9), out(3, 9)); });
  expect_shape_error(
      {latent, "latent [seqlen_kv, latent_dim + rope_dim] has shape [3, 7], expected [3, 9]"},
      [&] { layer.project_latent(rows(3, 10), out(3, 7)); });
  const std::vector<Index> positions(2);
  expect_shape_error({latent, "positions [rows of the input] has shape [2], expected [3]"}, [&] {
    layer.project_latent(rows(3, 10), out(3, 9), RowPositions{.each = positions});
  });
  EXPECT_TRUE(std::ranges::all_of(memory, [](float x) { return x == 7; }));
}

}  // namespace
}  // namespace heed
