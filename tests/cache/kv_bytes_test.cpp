// SPDX-License-Identifier: MIT
/// \file
/// The formulas of kv_bytes.hpp against figures that the models' makers published.

#include "heed/cache/kv_bytes.hpp"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace {

using heed::Index;

constexpr heed::KvElement sixteen_bit{.bits = 16};

/// A model whose layers are all alike.
template <class Shape>
constexpr heed::KvLayers layers(Index num_layers, const Shape& shape,
                                const heed::KvElement& element = sixteen_bit) {
  return {.num_layers = num_layers, .bytes_per_token = heed::kv_bytes_per_token(shape, element)};
}

template <class Shape>
constexpr Index bytes_per_token(Index num_layers, const Shape& shape) {
  const heed::KvLayers model[] = {layers(num_layers, shape)};
  return heed::kv_bytes_per_token(model);
}

constexpr heed::GroupedShape llama2_7b = heed::multi_head(4096, 32, 128);
constexpr heed::GroupedShape llama3_8b{
    .model_dim = 4096, .num_heads = 32, .num_kv_heads = 8, .head_dim = 128};
constexpr heed::GroupedShape qwen25_72b{
    .model_dim = 8192, .num_heads = 64, .num_kv_heads = 8, .head_dim = 128};
constexpr heed::GroupedShape llama31_405b{
    .model_dim = 16384, .num_heads = 128, .num_kv_heads = 8, .head_dim = 128};
constexpr heed::GroupedShape deepseek_67b = qwen25_72b;
constexpr heed::LatentShape deepseek_v2{.model_dim = 5120,
                                        .num_heads = 128,
                                        .latent_dim = 512,
                                        .rope_dim = 64,
                                        .nope_dim = 128,
                                        .head_dim_v = 128,
                                        .query_latent_dim = 1536};
constexpr heed::LatentShape deepseek_v2_lite{.model_dim = 2048,
                                             .num_heads = 16,
                                             .latent_dim = 512,
                                             .rope_dim = 64,
                                             .nope_dim = 128,
                                             .head_dim_v = 128};
constexpr heed::LatentShape deepseek_v3 = deepseek_v2;  // the same but for model_dim, not cached

// 16-bit bytes per token of whole models.
static_assert(bytes_per_token(32, llama2_7b) == 524288);
static_assert(bytes_per_token(32, llama3_8b) == 131072);
static_assert(bytes_per_token(80, qwen25_72b) == 327680);
static_assert(bytes_per_token(126, llama31_405b) == 516096);
static_assert(bytes_per_token(27, deepseek_v2_lite) == 31104);
static_assert(bytes_per_token(61, deepseek_v3) == 70272);
static_assert(27 * heed::expanded_kv_bytes_per_token(deepseek_v2_lite, sixteen_bit) == 276480);
static_assert(61 * heed::expanded_kv_bytes_per_token(deepseek_v3, sixteen_bit) == 4997120);
// Expanded, DeepSeek-V3 takes more than plain MHA with its 128 heads of 128.
static_assert(bytes_per_token(61, heed::multi_head(7168, 128, 128)) == 3997696);

// DeepSeek-V2, arXiv:2405.04434, table 1: MLA takes what GQA with 2.25 groups would.
static_assert(4 * heed::kv_bytes_per_token(deepseek_v2, sixteen_bit) ==
              9 * heed::kv_bytes_per_token(heed::multi_query(5120, 128, 128), sixteen_bit));

// A sequence in a cache, in a memory.
constexpr heed::KvLayers llama3_model[] = {layers(32, llama3_8b)};
static_assert(heed::kv_bytes(llama3_model, 8192) == Index{1} << 30);
static_assert(heed::sequences_that_fit(llama3_model, 8192, Index{24} << 30) == 24);
static_assert(heed::sequences_that_fit(llama3_model, 8192, (Index{24} << 30) - 1) == 23);

TEST(KvBytes, VariantsDifferByTheHeadsThatAreCached) {
  const heed::GroupedShape mha = heed::multi_head(4096, 32, 128);
  const heed::GroupedShape mqa = heed::multi_query(4096, 32, 128);
  EXPECT_EQ(heed::kv_bytes_per_token(mha, heed::kv_element<float>), 2 * 32 * 128 * 4);
  EXPECT_EQ(heed::kv_bytes_per_token(llama3_8b, heed::kv_element<float>), 2 * 8 * 128 * 4);
  EXPECT_EQ(heed::kv_bytes_per_token(mqa, heed::kv_element<float>), 2 * 128 * 4);
  EXPECT_EQ(heed::kv_bytes_per_token(mqa, heed::kv_element<double>), 2 * 128 * 8);
}

TEST(KvBytes, ValuesMayHaveAWidthOfTheirOwn) {
  const heed::GroupedShape shape{
      .model_dim = 512, .num_heads = 8, .num_kv_heads = 2, .head_dim = 96, .head_dim_v = 64};
  EXPECT_EQ(heed::kv_bytes_per_token(shape, sixteen_bit), 2 * (96 + 64) * 2);
}

TEST(KvBytes, RefusesWhatItCannotKnow) {
  const auto refused = [](const char* words, const auto& call) {
    EXPECT_THAT(call, testing::ThrowsMessage<heed::ShapeError>(testing::HasSubstr(words)));
  };
  refused("kv_bytes_per_token: num_kv_heads is -1, expected a size that is known", [] {
    (void)heed::kv_bytes_per_token(heed::GroupedShape{.num_heads = 8, .head_dim = 4}, sixteen_bit);
  });
  refused("kv_bytes_per_token: rope_dim is -1",
          [] { (void)heed::kv_bytes_per_token(heed::LatentShape{.latent_dim = 8}, sixteen_bit); });
  refused("kv_bytes_per_token: num_heads is -1", [] {
    (void)heed::expanded_kv_bytes_per_token(
        heed::LatentShape{.latent_dim = 8, .rope_dim = 2, .nope_dim = 4, .head_dim_v = 4},
        sixteen_bit);
  });
  refused("sequences_that_fit: bytes of a sequence is 0",
          [] { (void)heed::sequences_that_fit(llama3_model, 0, 1 << 30); });
  refused("sequences_that_fit: bytes of a sequence is 0",
          [] { (void)heed::sequences_that_fit({}, 8192, 1 << 30); });
}

TEST(KvBytes, QuantisedRowsBringTheirScales) {
  const heed::KvElement int8{.bits = 8, .scale_bytes_per_row = 4};
  EXPECT_EQ(heed::kv_bytes_per_token(llama3_8b, int8), 2 * 8 * (128 + 4));
  EXPECT_EQ(heed::kv_bytes_per_token(deepseek_v3, int8), 512 + 64 + 4);
  EXPECT_EQ(heed::expanded_kv_bytes_per_token(deepseek_v3, int8), 128 * (192 + 4 + 128 + 4));
}

// Two pages of float of all heads for keys with scales per channel, and one of a head for rotation.
TEST(KvBytes, WhatASequenceTakesBesideItsPages) {
  const auto bytes = [](const auto& shape, const heed::KvElement& element) {
    return heed::kv_bytes_per_sequence(shape, element);
  };
  EXPECT_EQ(bytes(llama3_8b, heed::kv_element<heed::int8>), 0);
  EXPECT_EQ(bytes(llama3_8b, heed::kv_element<heed::int4>), 2 * 64 * 8 * 2 * 128 * 4);
  EXPECT_EQ(bytes(llama3_8b, heed::kv_element<heed::Rotated<heed::int8>>), 64 * 2 * 128 * 4);
  EXPECT_EQ(bytes(deepseek_v3, heed::kv_element<heed::int4>), 0);
  EXPECT_EQ(bytes(deepseek_v3, heed::kv_element<heed::Rotated<heed::int4>>), 64 * 512 * 4);
  const heed::KvLayers model[] = {
      {.num_layers = 3, .bytes_per_token = 10, .bytes_per_sequence = 7}};
  EXPECT_EQ(heed::kv_bytes_in_pages(model, 65), 3 * (1280 + 7));
  EXPECT_EQ(heed::sequences_that_fit(model, 65, 2 * 3 * 1287 - 1), 1);
}

TEST(KvBytes, ARowEndsAtAFullByte) {
  EXPECT_EQ(heed::KvElement{.bits = 6}.row_bytes(576), 432);
  EXPECT_EQ(heed::KvElement{.bits = 4}.row_bytes(7), 4);
  EXPECT_EQ((heed::KvElement{.bits = 4, .scale_bytes_per_row = 2}.row_bytes(0)), 2);
}

/// The 93.3% of DeepSeek-V2's abstract counts its elements at 6 bits, DeepSeek-67B's at 16.
TEST(KvBytes, DeepSeekV2AgainstDeepSeek67B) {
  const double dense = static_cast<double>(bytes_per_token(95, deepseek_67b));
  const heed::KvLayers six_bit[] = {layers(60, deepseek_v2, {.bits = 6})};
  EXPECT_EQ(dense, 389120);
  EXPECT_EQ(bytes_per_token(60, deepseek_v2), 69120);
  EXPECT_EQ(heed::kv_bytes_per_token(six_bit), 25920);
  const auto saved_percent = [&](Index bytes) {
    return 100 * (1 - static_cast<double>(bytes) / dense);
  };
  EXPECT_EQ(std::round(10 * saved_percent(69120)) / 10, 82.2);
  EXPECT_EQ(std::round(10 * saved_percent(25920)) / 10, 93.3);
}

TEST(KvBytes, ALayerWithAWindowHoldsNoMore) {
  const heed::KvLayers windowed{.num_layers = 1, .bytes_per_token = 10, .window_left = 4095};
  EXPECT_EQ(windowed.tokens_held(0), 0);
  EXPECT_EQ(windowed.tokens_held(4095), 4095);
  EXPECT_EQ(windowed.tokens_held(4096), 4096);
  EXPECT_EQ(windowed.tokens_held(131072), 4096);
  const heed::KvLayers full{.num_layers = 1, .bytes_per_token = 10};
  EXPECT_EQ(full.tokens_held(131072), 131072);
}

/// Gemma-2-9B: 42 layers, every other one with a window of 4096; 8 groups of 256.
TEST(KvBytes, MixedWindowsAreCountedLayerByLayer) {
  const heed::GroupedShape shape{
      .model_dim = 3584, .num_heads = 16, .num_kv_heads = 8, .head_dim = 256};
  heed::KvLayers windowed = layers(21, shape);
  windowed.window_left = 4095;
  const heed::KvLayers model[] = {layers(21, shape), windowed};
  constexpr Index layer_bytes = 2 * 8 * 256 * 2;
  EXPECT_EQ(heed::kv_bytes_per_token(model), 42 * layer_bytes);
  EXPECT_EQ(heed::kv_bytes(model, 4096), 42 * layer_bytes * 4096);
  EXPECT_EQ(heed::kv_bytes(model, 8192), 21 * layer_bytes * (8192 + 4096));
  EXPECT_EQ(heed::kv_bytes(model, 131072), 21 * layer_bytes * (131072 + 4096));
}

TEST(KvBytes, PagesRoundUp) {
  EXPECT_EQ(heed::round_up_to_pages(0), 0);
  EXPECT_EQ(heed::round_up_to_pages(1), heed::page_size);
  EXPECT_EQ(heed::round_up_to_pages(heed::page_size), heed::page_size);
  EXPECT_EQ(heed::round_up_to_pages(heed::page_size + 1), 2 * heed::page_size);

  const heed::KvLayers model[] = {{.num_layers = 3, .bytes_per_token = 10},
                                  {.num_layers = 2, .bytes_per_token = 10, .window_left = 99}};
  EXPECT_EQ(heed::kv_bytes(model, 200), 10 * (3 * 200 + 2 * 100));
  // With windows, one page behind the first token that is seen, here 100 of 200 and 200 of 300.
  EXPECT_EQ(heed::kv_bytes_in_pages(model, 200), 10 * (3 * 256 + 2 * 256));
  EXPECT_EQ(heed::kv_bytes_in_pages(model, 300), 10 * (3 * 320 + 2 * 192));
  // Sequences fit by whole pages.
  EXPECT_EQ(heed::sequences_that_fit(model, 200, 2 * 12800), 2);
  EXPECT_EQ(heed::sequences_that_fit(model, 200, 2 * 12800 - 1), 1);
  EXPECT_EQ(heed::sequences_that_fit(model, 200, 0), 0);
}

}  // namespace
