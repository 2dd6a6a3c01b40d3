// SPDX-License-Identifier: MIT
/// \file
/// After the first, a decode step through a layer allocates nothing.

#include <vector>

#include <gtest/gtest.h>

#include "heed/cache/kv_cache.hpp"
#include "support/allocation_count.hpp"  // count_allocations
#include "support/grouped_case.hpp"      // GroupedCase
#include "support/latent_case.hpp"       // LatentCase

namespace heed {
namespace {

using test::Matrix;
using test::Random;
using test::view;

/// Prefills `held` tokens, then decodes.
template <class Layer, class Cache>
void expect_no_allocations(const Layer& layer, Cache cache, Index model_dim, Index held) {
  Random random(1);
  const auto x = test::normal_matrix<float>(held + 20, model_dim, random);
  Matrix<float> out(held + 20, model_dim);
  const auto pass = [&](Index begin, Index count) {
    layer.forward(view(x).middle_rows(begin, count), cache, CausalMask{},
                  view(out).middle_rows(begin, count), {.executor = SerialExecutor{}});
  };
  EXPECT_GT(test::count_allocations([&] { pass(0, held); }), 0)
      << "the first pass makes the scratch";
  pass(held, 1);
  for (Index token = held + 1; token < held + 20; ++token)
    EXPECT_EQ(test::count_allocations([&] { pass(token, 1); }), 0) << "token " << token;
}

TEST(LayerAllocations, ADecodeStepOfGroupedQueryAttentionMakesNone) {
  Random random(2);
  const test::GroupedCase<float> layer_case(
      {.shape = {.model_dim = 64, .num_heads = 4, .num_kv_heads = 2, .head_dim = 16},
       .head_norms = RmsNormGain::weight,
       .rope = RopeOptions{.rope_dim = 16},
       .biases = true},
      random);
  for (const Index held : {5, 1500})
    expect_no_allocations(layer_case.layer(), KvCache<FullKv<2, 16>>(held + 20), 64, held);
}

/// Queries through a latent too, which needs scratch of its own.
test::LatentCase<float> latent_case(Random& random) {
  return test::LatentCase<float>({.shape = {.model_dim = 64,
                                            .num_heads = 4,
                                            .latent_dim = 32,
                                            .rope_dim = 8,
                                            .nope_dim = 16,
                                            .head_dim_v = 16,
                                            .query_latent_dim = 24},
                                  .query_norm = true},
                                 random);
}

TEST(LayerAllocations, ADecodeStepOfLatentAttentionMakesNone) {
  Random random(3);
  const auto layer_case = latent_case(random);
  for (const Index held : {5, 1500})
    expect_no_allocations(layer_case.layer(), layer_case.cache(held + 20), 64, held);
}

// Layers that run one after another need scratch once, not each.
template <class Layer, class Cache>
void expect_scratch_to_serve_both(const Layer& first, const Layer& second, const Cache& empty) {
  Random random(6);
  const Index model_dim = first.shape().model_dim;
  const auto x = test::normal_matrix<float>(300, model_dim, random);
  Matrix<float> out(300, model_dim);
  Workspace workspace;
  const auto pass = [&](const Layer& layer) {
    Cache cache = empty.fork();
    layer.forward(view(x), cache, CausalMask{}, view(out),
                  {.executor = SerialExecutor{}, .workspace = &workspace});
    // Those that have made their scratch there make none of their own.
    const BatchSequence<Cache, CausalMask> sequences[] = {{.seqlen = 300, .cache = &cache}};
    for (int repeat = 0; repeat < 2; ++repeat) {
      cache.clear();
      const auto batch = [&] {
        layer.forward_batch(view(x), sequences, view(out),
                            {.executor = SerialExecutor{}, .workspace = &workspace});
      };
      const Index count = test::count_allocations(batch);
      if (&layer != &first || repeat > 0) {
        EXPECT_EQ(count, 0);
      }
    }
  };
  pass(first);
  const std::size_t bytes = workspace.bytes();
  EXPECT_GT(bytes, 300U * static_cast<std::size_t>(model_dim) * sizeof(float));
  pass(second);
  EXPECT_EQ(workspace.bytes(), bytes);
  workspace.clear();
  EXPECT_EQ(workspace.bytes(), 0U);
  pass(first);
  EXPECT_EQ(workspace.bytes(), bytes);
}

TEST(LayerAllocations, LayersShareAWorkspace) {
  Random random(7);
  const auto grouped = [&] {
    return test::GroupedCase<float>(
        {.shape = {.model_dim = 64, .num_heads = 4, .num_kv_heads = 2, .head_dim = 16}}, random);
  };
  const auto a = grouped(), b = grouped();
  expect_scratch_to_serve_both(a.layer(), b.layer(), KvCache<FullKv<2, 16>>(300));
  const auto c = latent_case(random), d = latent_case(random);
  expect_scratch_to_serve_both(c.layer(), d.layer(), c.cache(300));
}

// With heads enough that none of their keys are split, what a pass takes does not depend on what
// the cache holds; but for MLA's expanded path, which makes keys and values of it.
template <class Layer, class Cache, class Options>
void expect_same_scratch_for_longer_texts(const Layer& layer, Cache cache, Options options) {
  constexpr Index chunk = 96;
  Random random(8);
  const auto x = test::normal_matrix<float>(chunk, layer.shape().model_dim, random);
  Matrix<float> out(chunk, layer.shape().model_dim);
  Workspace workspace;
  options.executor = SerialExecutor{};
  options.workspace = &workspace;
  const auto bytes_at = [&](Index seqlen) {
    while (cache.seqlen() < seqlen) layer.forward(view(x), cache, CausalMask{}, view(out), options);
    return workspace.bytes();
  };
  const std::size_t bytes = bytes_at(5 * chunk);
  EXPECT_EQ(bytes_at(12 * chunk), bytes);
}

TEST(LayerAllocations, ScratchOfAChunkDoesNotGrowWithTheText) {
  Random random(9);
  const test::GroupedCase<float> grouped(
      {.shape = {.model_dim = 16, .num_heads = 64, .num_kv_heads = 64, .head_dim = 4}}, random);
  expect_same_scratch_for_longer_texts(grouped.layer(), KvCache<FullKv<64, 4>>(1152),
                                       ForwardOptions{});
  const test::LatentCase<float> latent({.shape = {.model_dim = 16,
                                                  .num_heads = 64,
                                                  .latent_dim = 8,
                                                  .rope_dim = 2,
                                                  .nope_dim = 2,
                                                  .head_dim_v = 2}},
                                       random);
  expect_same_scratch_for_longer_texts(latent.layer(), latent.cache(1152),
                                       LatentOptions{.path = MlaPath::absorbed});
}

/// Decodes so many sequences together.
template <class Layer, class Cache>
void expect_no_allocations_of_batches(const Layer& layer, const Cache& empty, Index count) {
  Random random(4);
  const auto x = test::normal_matrix<float>(count, layer.shape().model_dim, random);
  Matrix<float> out(count, layer.shape().model_dim);
  std::vector<Cache> caches;
  for (Index i = 0; i < count; ++i) caches.push_back(empty.fork());
  std::vector<BatchSequence<Cache, CausalMask>> sequences;
  for (Cache& cache : caches) sequences.push_back({.seqlen = 1, .cache = &cache});
  const auto pass = [&] {
    layer.forward_batch(view(x), sequences, view(out), {.executor = SerialExecutor{}});
  };
  EXPECT_GT(test::count_allocations(pass), 0) << "the first pass makes the scratch";
  pass();
  for (int step = 0; step < 5; ++step) EXPECT_EQ(test::count_allocations(pass), 0) << step;
}

// Wide enough that Eigen's copies of what it multiplies do not fit on the stack by themselves.
TEST(LayerAllocations, ADecodeStepOfABatchMakesNone) {
  Random random(5);
  const test::GroupedCase<float> grouped(
      {.shape = {.model_dim = 512, .num_heads = 4, .num_kv_heads = 2, .head_dim = 96}}, random);
  const test::LatentCase<float> latent({.shape = {.model_dim = 512,
                                                  .num_heads = 4,
                                                  .latent_dim = 384,
                                                  .rope_dim = 8,
                                                  .nope_dim = 96,
                                                  .head_dim_v = 96}},
                                       random);
  for (const Index count : {2, 8, 40}) {
    expect_no_allocations_of_batches(grouped.layer(), KvCache<FullKv<2, 96>>(30), count);
    expect_no_allocations_of_batches(latent.layer(), latent.cache(30), count);
  }
}

}  // namespace
}  // namespace heed
