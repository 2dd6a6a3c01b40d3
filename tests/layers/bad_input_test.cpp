// SPDX-License-Identifier: MIT
/// \file
/// What the constructors and the entries of the layers refuse, and how they say so.

#include <algorithm>
#include <limits>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "heed/cache/kv_cache.hpp"
#include "heed/layers/grouped_query_attention.hpp"
#include "heed/layers/multi_head_latent_attention.hpp"
#include "layers/same_numbers.hpp"  // rows, some
#include "support/shape_error.hpp"  // expect_shape_error

namespace heed {
namespace {

using test::expect_shape_error;
using test::rows;
using test::some;

/// Memory for outputs, which must stay untouched.
struct Untouched {
  std::vector<float> data = std::vector<float>(2000, 7.0F);
  RowsView<float> rows(Index count, Index cols) { return {data.data(), count, cols}; }
  ~Untouched() {
    EXPECT_TRUE(std::ranges::all_of(data, [](float x) { return x == 7; }));
  }
};

constexpr GroupedShape small_grouped{
    .model_dim = 10, .num_heads = 4, .num_kv_heads = 2, .head_dim = 6, .head_dim_v = 3};
GroupedWeights<float> grouped_weights() {
  return {.query = {rows(24, 10)},
          .key = {rows(12, 10)},
          .value = {rows(6, 10)},
          .out = {rows(10, 12)}};
}

/// The weights after `spoil` must be refused.
template <class Spoil>
void expect_grouped_refused(std::initializer_list<std::string_view> words, const Spoil& spoil) {
  auto weights = grouped_weights();
  spoil(weights);
  expect_shape_error(words, [&] { GroupedQueryAttention<float>(small_grouped, weights); });
  expect_shape_error(words, [&] { GroupedQueryAttention<float, small_grouped>{weights}; });
}

TEST(GroupedLayerRefuses, WeightsOfOtherShapes) {
  GroupedQueryAttention<float>(small_grouped, grouped_weights());  // is fine
  constexpr auto where = "heed::GroupedQueryAttention: ";
  expect_grouped_refused(
      {where, "weights.query.weight [out, in] has shape [12, 10], expected [24, 10]"},
      [](auto& w) { w.query.weight = rows(12, 10); });
  expect_grouped_refused(
      {where, "weights.query.weight [out, in] has shape [10, 24], expected [24, 10]"},
      [](auto& w) { w.query.weight = rows(10, 24); });
  expect_grouped_refused(
      {where, "weights.key.weight [out, in] has shape [24, 10], expected [12, 10]"},
      [](auto& w) { w.key.weight = rows(24, 10); });
  expect_grouped_refused(
      {where, "weights.value.weight [out, in] has shape [12, 10], expected [6, 10]"},
      [](auto& w) { w.value.weight = rows(12, 10); });
  expect_grouped_refused(
      {where, "weights.out.weight [out, in] has shape [12, 10], expected [10, 12]"},
      [](auto& w) { w.out.weight = rows(12, 10); });
  expect_grouped_refused(
      {where, "weights.query.weight [out, in] has shape [0, 0], expected [24, 10]"},
      [](auto& w) { w.query = {}; });
}

TEST(GroupedLayerRefuses, BiasesNormsAndSinksOfOtherSizes) {
  constexpr auto where = "heed::GroupedQueryAttention: ";
  expect_grouped_refused({where, "weights.query.bias [out] has shape [10], expected [24]"},
                         [](auto& w) { w.query.bias = some(10); });
  expect_grouped_refused({where, "weights.key.bias [out] has shape [24], expected [12]"},
                         [](auto& w) { w.key.bias = some(24); });
  expect_grouped_refused({where, "weights.value.bias [out] has shape [12], expected [6]"},
                         [](auto& w) { w.value.bias = some(12); });
  expect_grouped_refused({where, "weights.out.bias [out] has shape [12], expected [10]"},
                         [](auto& w) { w.out.bias = some(12); });
  expect_grouped_refused({where, "weights.query_norm [head_dim] has shape [24], expected [6]"},
                         [](auto& w) { w.query_norm = {some(24)}; });
  expect_grouped_refused({where, "weights.key_norm [head_dim] has shape [3], expected [6]"},
                         [](auto& w) { w.key_norm = {some(3)}; });
  expect_grouped_refused({where, "weights.sinks [num_heads] has shape [2], expected [4]"},
                         [](auto& w) { w.sinks = some(2); });
}

TEST(GroupedLayerRefuses, Shapes) {
  const auto refuse = [](std::string_view words, GroupedShape shape) {
    expect_shape_error({"heed::GroupedQueryAttention: ", words},
                       [&] { GroupedQueryAttention<float>(shape, grouped_weights()); });
  };
  constexpr auto positive =
      "shape.model_dim is -1, expected a positive size, given at run time where it is dynamic";
  refuse(positive, {});
  refuse("shape.head_dim is -1", {.model_dim = 10, .num_heads = 4, .num_kv_heads = 2});
  refuse("shape.num_heads is 0",
         {.model_dim = 10, .num_heads = 0, .num_kv_heads = 2, .head_dim = 6});
  refuse("shape.head_dim_v is 0",
         {.model_dim = 10, .num_heads = 4, .num_kv_heads = 2, .head_dim = 6, .head_dim_v = 0});
  refuse("shape.num_kv_heads is 0",
         {.model_dim = 10, .num_heads = 4, .num_kv_heads = 0, .head_dim = 6});
  refuse("num_kv_heads (3) must divide num_heads (4)",
         {.model_dim = 10, .num_heads = 4, .num_kv_heads = 3, .head_dim = 6});
  expect_shape_error({"heed::GroupedQueryAttention: ", positive},
                     [] { GroupedQueryAttention<float>{grouped_weights()}; });
  constexpr GroupedShape half{.num_heads = 4, .num_kv_heads = 2, .head_dim_v = dynamic};
  auto other = small_grouped;
  other.num_kv_heads = 4;
  expect_shape_error({"heed::GroupedQueryAttention: shape [model_dim, num_heads, num_kv_heads, "
                      "head_dim, head_dim_v] has shape "
                      "[10, 4, 4, 6, 3], expected [10, 4, 2, 6, 3]"},
                     [&] { GroupedQueryAttention<float, half>(other, grouped_weights()); });
  expect_shape_error({"expected [10, 4, 1, 6, 6]"},
                     [] { MultiQueryAttention<float>(multi_head(10, 4, 6), grouped_weights()); });
}

TEST(GroupedLayerRefuses, ARopeWiderThanItsHeads) {
  constexpr auto message =
      "heed::GroupedQueryAttention: the rope's rope_dim is 8, expected at most head_dim, 6";
  expect_shape_error({message}, [] {
    GroupedQueryAttention<float>(small_grouped, grouped_weights(), Rope{{.rope_dim = 8}});
  });
}

TEST(GroupedLayerRefuses, CachesOfOtherShapes) {
  const GroupedQueryAttention<float> layer(small_grouped, grouped_weights());
  Untouched memory;
  const auto refuse = [&](auto cache, std::string_view found) {
    for (const std::string_view where :
         {"forward", "forward_cross", "append_memory", "forward_batch"})
      expect_shape_error({where, "cache [num_kv_heads, head_dim, head_dim_v] has shape ", found,
                          ", expected [2, 6, 3]"},
                         [&] {
                           using Sequence = BatchSequence<decltype(cache), CausalMask>;
                           const std::vector<Sequence> sequences = {{3, &cache}};
                           if (where == "forward")
                             layer.forward(rows(3, 10), cache, CausalMask{}, memory.rows(3, 10));
                           if (where == "forward_cross")
                             layer.forward_cross(rows(3, 10), std::as_const(cache), NoMask{},
                                                 memory.rows(3, 10));
                           if (where == "append_memory")
                             layer.append_memory(rows(3, 10), rows(3, 10), cache);
                           if (where == "forward_batch")
                             layer.forward_batch(rows(3, 10), std::span<const Sequence>(sequences),
                                                 memory.rows(3, 10));
                         });
    EXPECT_EQ(cache.seqlen(), 0);
  };
  refuse(KvCache<FullKv<4, 6, 3>>(10), "[4, 6, 3]");
  refuse(KvCache<FullKv<2, 5, 3>>(10), "[2, 5, 3]");
  refuse(KvCache<FullKv<2, 6>>(10), "[2, 6, 6]");
}

TEST(GroupedLayerRefuses, InputsOfItsProjections) {
  const GroupedQueryAttention<float> layer(small_grouped, grouped_weights());
  Untouched memory;
  constexpr auto query = "heed::GroupedQueryAttention::project_query: ";
  expect_shape_error({query, "x [seqlen_q, model_dim] has shape [3, 9], expected [3, 10]"},
                     [&] { layer.project_query(rows(3, 9), memory.rows(3, 24)); });
  expect_shape_error(
      {query, "query [seqlen_q, num_heads * head_dim] has shape [2, 24], expected [3, 24]"},
      [&] { layer.project_query(rows(3, 10), memory.rows(2, 24)); });
  const std::vector<Index> positions(2);
  expect_shape_error({query, "positions [rows of the input] has shape [2], expected [3]"}, [&] {
    layer.project_query(rows(3, 10), memory.rows(3, 24), RowPositions{.each = positions});
  });
  constexpr auto both = "heed::GroupedQueryAttention::project_key_value: ";
  const auto key = memory.rows(3, 12), value = memory.rows(3, 6);
  expect_shape_error(
      {both, "key_input [seqlen_kv, in of weights.key] has shape [3, 9], expected [3, 10]"},
      [&] { layer.project_key_value(rows(3, 9), rows(3, 10), key, value); });
  expect_shape_error(
      {both, "value_input [seqlen_kv, in of weights.value] has shape [4, 10], expected [3, 10]"},
      [&] { layer.project_key_value(rows(3, 10), rows(4, 10), key, value); });
  expect_shape_error(
      {both, "key [seqlen_kv, num_kv_heads * head_dim] has shape [3, 6], expected [3, 12]"},
      [&] { layer.project_key_value(rows(3, 10), rows(3, 10), value, value); });
  expect_shape_error(
      {both, "value [seqlen_kv, num_kv_heads * head_dim_v] has shape [3, 12], expected [3, 6]"},
      [&] { layer.project_key_value(rows(3, 10), rows(3, 10), key, key); });
  expect_shape_error({both, "positions [rows of the input] has shape [2], expected [3]"}, [&] {
    layer.project_key_value(rows(3, 10), rows(3, 10), key, value, RowPositions{.each = positions});
  });
}

TEST(GroupedLayerRefuses, InputsOfAPassWithoutACache) {
  const GroupedQueryAttention<float> layer(small_grouped, grouped_weights());
  Untouched memory;
  expect_shape_error({"GroupedQueryAttention::forward: x [seqlen_q, model_dim] has shape [3, 9], "
                      "expected [3, 10]"},
                     [&] { layer.forward(rows(3, 9), NoMask{}, memory.rows(3, 10)); });
}

// On their own, the layers having checked what they pass on.
TEST(LayerPartsRefuse, RowsOfAnotherWidth) {
  Untouched memory;
  const Linear<float> linear{rows(4, 10)};
  expect_shape_error({"heed::Linear::apply: x [seqlen, in] has shape [3, 9], expected [3, 10]"},
                     [&] { linear.apply(rows(3, 9), memory.rows(3, 4)); });
  expect_shape_error({"heed::Linear::apply: y [seqlen, out] has shape [2, 4], expected [3, 4]"},
                     [&] { linear.apply(rows(3, 10), memory.rows(2, 4)); });
  expect_shape_error({"heed::Linear::apply: y [seqlen, out] has shape [3, 5], expected [3, 4]"},
                     [&] { linear.apply(rows(3, 10), memory.rows(3, 5)); });
  const Linear<float> short_bias{rows(4, 10), some(3)};
  expect_shape_error({"heed::Linear::apply: bias [out] has shape [3], expected [4]"},
                     [&] { short_bias.apply(rows(3, 10), memory.rows(3, 4)); });
  const std::vector<float> gain(5);
  expect_shape_error({"heed::RmsNorm::apply: weight [dim] has shape [5], expected [6]"},
                     [&] { RmsNorm<float>{.weight = gain}.apply(memory.rows(3, 6)); });
}

// Before it projects: RoPE would refuse them after.
TEST(GroupedLayerRefuses, PositionsThatRowsCannotFollowOn) {
  const GroupedQueryAttention<float> layer(small_grouped, grouped_weights(), Rope{{.rope_dim = 6}});
  Untouched memory;
  const RowPositions last{{}, std::numeric_limits<Index>::max() - 2};
  expect_shape_error(
      {"the first position is 9223372036854775805, expected one that rows can follow"},
      [&] { layer.project_query(rows(3, 10), memory.rows(3, 24), last); });
}

// The sum of their rows is no Index.
TEST(GroupedLayerRefuses, BatchesOfMoreRowsThanThereCanBe) {
  const GroupedQueryAttention<float> layer(small_grouped, grouped_weights());
  constexpr Index huge = Index{1} << 62;
  const PagePool<FullKv<2, 6, 3>> pool(4);
  std::vector<KvCache<FullKv<2, 6, 3>>> caches;
  for (int i = 0; i < 4; ++i) caches.emplace_back(pool, huge);
  std::vector<BatchSequence<KvCache<FullKv<2, 6, 3>>, NoMask>> sequences;
  for (auto& cache : caches) sequences.push_back({.seqlen = huge, .cache = &cache});
  Untouched memory;
  expect_shape_error({"heed::GroupedQueryAttention::forward_batch", "x"},
                     [&] { layer.forward_batch(rows(0, 10), sequences, memory.rows(0, 10)); });
}

TEST(GroupedLayerRefuses, InputsOfCrossAttention) {
  const GroupedQueryAttention<float> layer(small_grouped, grouped_weights());
  Untouched memory;
  KvCache<FullKv<2, 6, 3>> cache(4);
  const auto out = memory.rows(3, 10);
  expect_shape_error(
      {"forward_cross: x [seqlen_q, model_dim] has shape [3, 9], expected [3, 10]"},
      [&] { layer.forward_cross(rows(3, 9), rows(5, 10), rows(5, 10), NoMask{}, out); });
  expect_shape_error(
      {"forward_cross: out [seqlen_q, out of weights.out] has shape [3, 10], expected [2, 10]"},
      [&] { layer.forward_cross(rows(2, 10), rows(5, 10), rows(5, 10), NoMask{}, out); });
  expect_shape_error(
      {"key_input [seqlen_kv, in of weights.key] has shape [5, 9], expected [5, 10]"},
      [&] { layer.forward_cross(rows(3, 10), rows(5, 9), rows(5, 10), NoMask{}, out); });
  expect_shape_error(
      {"value_input [seqlen_kv, in of weights.value] has shape [4, 10], expected [5, 10]"},
      [&] { layer.forward_cross(rows(3, 10), rows(5, 10), rows(4, 10), NoMask{}, out); });
  expect_shape_error(
      {"forward_cross: out [seqlen_q, out of weights.out] has shape [3, 10], expected [2, 10]"},
      [&] { layer.forward_cross(rows(2, 10), std::as_const(cache), NoMask{}, out); });
  const std::vector<Index> positions(2);
  expect_shape_error({"positions [rows of the input] has shape [2], expected [5]"}, [&] {
    layer.forward_cross(rows(3, 10), rows(5, 10), rows(5, 10), NoMask{}, out,
                        {.memory_positions = positions});
  });
  expect_shape_error(
      {"value_input [seqlen_kv, in of weights.value] has shape [2, 10], expected [3, 10]"},
      [&] { layer.append_memory(rows(3, 10), rows(2, 10), cache); });
  // Scratch is sized by the rows, so a negative number must not come so far.
  expect_shape_error(
      {"forward_cross: key_input [seqlen_kv, in of weights.key] has -7 rows, expected 0 or more"},
      [&] { layer.forward_cross(rows(3, 10), rows(-7, 10), rows(-7, 10), NoMask{}, out); });
  expect_shape_error(
      {"append_memory: key_input [seqlen_kv, in of weights.key] has -7 rows, expected 0 or more"},
      [&] { layer.append_memory(rows(-7, 10), rows(-7, 10), cache); });
  EXPECT_THROW(layer.append_memory(rows(5, 10), rows(5, 10), cache), CapacityError);
  EXPECT_EQ(cache.seqlen(), 0);
}

}  // namespace
}  // namespace heed
