// SPDX-License-Identifier: MIT
/// \file
/// The reader of config.json files: every file of bench/models, awkward forms that hubs publish,
/// and files that must be refused.

#include "kv_memory/model_config.hpp"

#include <filesystem>
#include <fstream>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kv_memory/variants.hpp"

namespace {

using heed::GroupedShape;
using heed::Index;
using heed::LatentShape;
using heed::bench::ConfigError;
using heed::bench::LayerGroup;
using heed::bench::ModelConfig;
using testing::ElementsAre;
using testing::HasSubstr;

const std::filesystem::path models = std::filesystem::path(HEED_TEST_DIR) / "../bench/models";

ModelConfig parse(const std::string& json) {
  return heed::bench::parse_model_config(json, "test.json", "test");
}

GroupedShape grouped(const ModelConfig& config) { return std::get<GroupedShape>(config.attention); }

std::string error_of(const std::string& json) {
  try {
    parse(json);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

/// A Llama with the fields given; they come after the usual ones and so replace them.
std::string llama(const std::string& fields) {
  auto json = nlohmann::json::parse(R"({"model_type": "llama", "hidden_size": 64,
      "num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 2})");
  json.update(nlohmann::json::parse("{" + fields + "}"));
  return json.dump();
}

struct Published {
  std::string name;
  Index bytes_per_token;  // 16-bit, all layers
  Index bytes_at_128k;    // 16-bit, 131072 tokens
};

class Models : public testing::TestWithParam<Published> {};

TEST_P(Models, HaveThePublishedCache) {
  const ModelConfig config = heed::bench::read_model_config(models / (GetParam().name + ".json"));
  EXPECT_EQ(config.name, GetParam().name);
  const auto layers = heed::bench::kv_layers(config, config.attention, {.bits = 16});
  EXPECT_EQ(heed::kv_bytes_per_token(layers), GetParam().bytes_per_token);
  EXPECT_EQ(heed::kv_bytes(layers, 131072), GetParam().bytes_at_128k);
}

constexpr Index k128 = 131072;
INSTANTIATE_TEST_SUITE_P(Published, Models,
                         testing::Values(Published{"Llama-2-7B", 524288, 524288 * k128},
                                         Published{"Llama-3-8B", 131072, 131072 * k128},
                                         Published{"Llama-3.1-70B", 327680, 327680 * k128},
                                         Published{"Llama-3.1-405B", 516096, 516096 * k128},
                                         Published{"Mistral-7B-v0.1", 131072, 131072 * Index{4096}},
                                         Published{"Qwen2.5-7B", 57344, 57344 * k128},
                                         Published{"Qwen2.5-72B", 327680, 327680 * k128},
                                         Published{"Gemma-2-9B", 344064, 172032 * (k128 + 4096)},
                                         Published{"Falcon-7B", 8192, 8192 * k128},
                                         Published{"gpt-oss-20b", 49152, 24576 * (k128 + 128)},
                                         Published{"SmolLM2-135M", 23040, 23040 * k128},
                                         Published{"DeepSeek-67B", 389120, 389120 * k128},
                                         Published{"DeepSeek-V2-Lite", 31104, 31104 * k128},
                                         Published{"DeepSeek-V2", 69120, 69120 * k128},
                                         Published{"DeepSeek-V3", 70272, 70272 * k128}),
                         [](const auto& model) {
                           std::string name = model.param.name;
                           std::replace_if(
                               name.begin(), name.end(), [](char c) { return !std::isalnum(c); },
                               '_');
                           return name;
                         });

TEST(ModelFiles, AreAllTested) {
  Index count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(models)) {
    EXPECT_NO_THROW(heed::bench::read_model_config(entry.path())) << entry.path();
    ++count;
  }
  EXPECT_EQ(count, 15) << "a model was added or removed: see the list above";
}

TEST(ModelConfig, LatentAttentionComesFromTheLatentsFields) {
  const ModelConfig lite = heed::bench::read_model_config(models / "DeepSeek-V2-Lite.json");
  const LatentShape expected{.model_dim = 2048,
                             .num_heads = 16,
                             .latent_dim = 512,
                             .rope_dim = 64,
                             .nope_dim = 128,
                             .head_dim_v = 128};
  EXPECT_EQ(std::get<LatentShape>(lite.attention), expected);
  EXPECT_EQ(lite.max_context, 163840);
  const ModelConfig v3 = heed::bench::read_model_config(models / "DeepSeek-V3.json");
  EXPECT_EQ(std::get<LatentShape>(v3.attention).query_latent_dim, 1536);
}

TEST(ModelConfig, ALatentThatIsNullIsNone) {
  const auto config = parse(llama(R"("kv_lora_rank": null, "v_head_dim": 0)"));
  EXPECT_EQ(grouped(config).num_kv_heads, 2);
}

TEST(ModelConfig, HeadsAreAllCachedUnlessSaid) {
  EXPECT_EQ(grouped(parse(llama(R"("num_key_value_heads": null)"))).num_kv_heads, 8);
  const auto old = parse(R"({"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12})");
  EXPECT_EQ(grouped(old).num_kv_heads, 12);
  EXPECT_EQ(grouped(old).head_dim, 64);
  EXPECT_EQ(old.num_layers, 12);
}

TEST(ModelConfig, HeadDimMayDifferFromTheQuotient) {
  EXPECT_EQ(grouped(parse(llama(R"("head_dim": 256)"))).head_dim, 256);
  EXPECT_EQ(grouped(parse(llama(R"("head_dim": null)"))).head_dim, 8);
  EXPECT_THAT(error_of(llama(R"("hidden_size": 65)")), HasSubstr("no multiple of the 8 heads"));
}

TEST(ModelConfig, MultiQueryFlagsWinOverCounts) {
  // Falcon-7B says 71 and caches one; the later architecture means the count.
  const std::string falcon =
      R"({"model_type": "falcon", "hidden_size": 8192, "num_hidden_layers": 60,
      "num_attention_heads": 128, )";
  EXPECT_EQ(grouped(parse(falcon + R"("num_kv_heads": 128, "multi_query": true})")).num_kv_heads,
            1);
  EXPECT_EQ(grouped(parse(falcon + R"("num_kv_heads": 8, "multi_query": true,
      "new_decoder_architecture": true})"))
                .num_kv_heads,
            8);
  EXPECT_EQ(grouped(parse(falcon + R"("multi_query": false})")).num_kv_heads, 128);
  // Falcon's first form.
  const std::string first = R"({"model_type": "RefinedWeb", "hidden_size": 8192, "n_layer": 60,
      "n_head": 128, "n_head_kv": 8})";
  EXPECT_EQ(grouped(parse(first)).num_kv_heads, 8);
  // StarCoder leaves the flag out; ChatGLM has a flag and a count.
  EXPECT_EQ(grouped(parse(R"({"model_type": "gpt_bigcode", "n_embd": 6144, "n_layer": 40,
      "n_head": 48})"))
                .num_kv_heads,
            1);
  const std::string chatglm = R"({"model_type": "chatglm", "hidden_size": 4096, "num_layers": 28,
      "num_attention_heads": 32, "kv_channels": 128, "multi_query_group_num": 2, )";
  EXPECT_EQ(grouped(parse(chatglm + R"("multi_query_attention": true})")).num_kv_heads, 2);
  EXPECT_EQ(grouped(parse(chatglm + R"("multi_query_attention": false})")).num_kv_heads, 32);
}

TEST(ModelConfig, NestedTextModelsAreFound) {
  const auto nested = parse(R"({"model_type": "mllm", "hidden_size": 1, "vision_config":
      {"num_hidden_layers": 27}, "text_config": )" +
                            llama(R"("head_dim": 16)") + "}");
  EXPECT_EQ(grouped(nested).head_dim, 16);
  EXPECT_EQ(nested.model_type, "llama");
  const auto deeper = parse(R"({"thinker_config": {"text_config": )" + llama("") + "}}");
  EXPECT_EQ(deeper.num_layers, 6);
  // A nested object without dimensions leaves those beside it.
  auto beside = nlohmann::json::parse(llama(""));
  beside["text_config"] = {{"model_type", "clip"}};
  EXPECT_EQ(parse(beside.dump()).num_layers, 6);
}

TEST(ModelConfig, Gemma3LeavesOutItsDefaults) {
  const auto config = parse(R"({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text",
      "hidden_size": 2560, "num_hidden_layers": 34, "sliding_window": 1024}})");
  const GroupedShape expected{
      .model_dim = 2560, .num_heads = 8, .num_kv_heads = 4, .head_dim = 256};
  EXPECT_EQ(grouped(config), expected);
  EXPECT_THAT(config.layers, ElementsAre(LayerGroup{.num_layers = 5},
                                         LayerGroup{.num_layers = 29, .window = 1024}));
}

TEST(ModelConfig, NestedModelsLeaveOutTheirDefaults) {
  // LLaVA 1.5 says no dimension at all; Idefics2 leaves out Mistral's heads and window.
  const auto llava = parse(R"({"model_type": "llava", "text_config": {"model_type": "llama"}})");
  EXPECT_EQ(grouped(llava), heed::multi_head(4096, 32, 128));
  EXPECT_EQ(llava.num_layers, 32);
  const auto idefics = parse(R"({"text_config": {"model_type": "mistral", "num_hidden_layers": 2,
      "hidden_size": 8192, "num_attention_heads": 64}})");
  EXPECT_EQ(grouped(idefics).num_kv_heads, 8);
  EXPECT_THAT(idefics.layers, ElementsAre(LayerGroup{.num_layers = 2, .window = 4096}));
  const auto whole = parse(R"({"text_config": {"model_type": "mistral", "sliding_window": null}})");
  EXPECT_THAT(whole.layers, ElementsAre(LayerGroup{.num_layers = 32}));
}

TEST(ModelConfig, OtherNamesAreKnown) {
  const auto mpt = parse(R"({"model_type": "mpt", "d_model": 4096, "n_heads": 32, "n_layers": 30,
      "max_seq_len": 2048, "attn_config": {"attn_type": "multihead_attention"}})");
  EXPECT_EQ(grouped(mpt), heed::multi_head(4096, 32, 128));
  EXPECT_EQ(mpt.num_layers, 30);
  EXPECT_EQ(mpt.max_context, 2048);
  const auto mqa = parse(R"({"model_type": "mpt", "d_model": 4096, "n_heads": 32, "n_layers": 30,
      "attn_config": {"attn_type": "multiquery_attention"}})");
  EXPECT_EQ(grouped(mqa).num_kv_heads, 1);
  const auto dbrx = parse(R"({"model_type": "dbrx", "d_model": 6144, "n_heads": 48, "n_layers": 40,
      "attn_config": {"kv_n_heads": 8, "clip_qkv": 8}})");
  EXPECT_EQ(grouped(dbrx).num_kv_heads, 8);
  const auto step = parse(llama(R"("num_key_value_heads": null, "num_attention_groups": 4)"));
  EXPECT_EQ(grouped(step).num_kv_heads, 4);
}

TEST(ModelConfig, LatentsMayBeSwitchedOff) {
  const std::string fields = R"("v_head_dim": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, )";
  EXPECT_EQ(grouped(parse(llama(fields + R"("kv_lora_rank": 0)"))).num_kv_heads, 2);
  EXPECT_EQ(grouped(parse(llama(fields + R"("kv_lora_rank": 5, "use_mla": false)"))).num_kv_heads,
            2);
  const auto minicpm = parse(R"({"model_type": "minicpm3", "hidden_size": 2560,
      "num_hidden_layers": 62, "num_attention_heads": 40, "kv_lora_rank": 256, "q_lora_rank": 768,
      "qk_nope_head_dim": 64, "qk_rope_head_dim": 32})");
  EXPECT_EQ(std::get<LatentShape>(minicpm.attention).head_dim_v, 64);
}

TEST(ModelConfig, NumbersOfPythonAreNotRead) {
  EXPECT_EQ(parse(R"({"time_step_limit": [0.0, Infinity], "low": -Infinity, "x": NaN, )" +
                  llama("").substr(1))
                .num_layers,
            6);
  // In a text they are what they are; and space between them may be any length.
  EXPECT_EQ(heed::bench::without_infinities(R"({"a": "NaN, \"Infinity\"", "b": [NaN]})"),
            R"({"a": "NaN, \"Infinity\"", "b": [null]})");
  EXPECT_EQ(parse(R"({"x":)" + std::string(100'000, ' ') + "-Infinity, " + llama("").substr(1))
                .num_layers,
            6);
  EXPECT_EQ(heed::bench::without_infinities(R"({"cut \)"), R"({"cut \)");
}

// Hubs keep links in a folder of the model's name to files that are named by their content.
TEST(ModelConfig, IsNamedByTheFolderThatItIsFoundIn) {
  const auto root = std::filesystem::path(testing::TempDir()) / "heed_model_names";
  std::filesystem::remove_all(root);
  std::filesystem::create_directories(root / "a-model");
  std::filesystem::create_directories(root / "blobs");
  std::ofstream(root / "blobs" / "abc123") << llama("");
  std::filesystem::create_symlink("../blobs/abc123", root / "a-model" / "config.json");
  using heed::bench::read_model_config;
  EXPECT_EQ(read_model_config(root / "a-model" / "config.json").name, "a-model");
  EXPECT_EQ(read_model_config(root / "a-model").name, "a-model");
  EXPECT_EQ(read_model_config(root / "a-model" / ".").name, "a-model");
  EXPECT_EQ(read_model_config(root / "blobs" / ".." / "a-model").name, "a-model");
  std::filesystem::remove_all(root);
}

TEST(ModelConfig, HasNotMoreElementsThanCanBeCounted) {
  EXPECT_THAT(error_of(R"({"num_hidden_layers": 100000, "hidden_size": 2147483647,
      "num_attention_heads": 1, "head_dim": 2147483647})"),
              HasSubstr("more than 2^28 elements a token"));
}

TEST(Windows, NoneUnlessInUse) {
  const LayerGroup all{.num_layers = 6};
  EXPECT_THAT(parse(llama("")).layers, ElementsAre(all));
  EXPECT_THAT(parse(llama(R"("sliding_window": null)")).layers, ElementsAre(all));
  EXPECT_THAT(parse(llama(R"("sliding_window": 128, "use_sliding_window": false)")).layers,
              ElementsAre(all));
  EXPECT_THAT(parse(llama(R"("sliding_window": 128, "model_type": "qwen2")")).layers,
              ElementsAre(all));
  EXPECT_THAT(parse(llama(R"("sliding_window": null, "sliding_window_pattern": "LLLG")")).layers,
              ElementsAre(all));
}

TEST(Windows, OnEveryLayerUnlessAPatternSaysOtherwise) {
  EXPECT_THAT(parse(llama(R"("sliding_window": 128)")).layers,
              ElementsAre(LayerGroup{.num_layers = 6, .window = 128}));
}

TEST(Windows, FromALayerOn) {
  const auto config = parse(llama(R"("model_type": "qwen2", "sliding_window": 128,
      "use_sliding_window": true, "max_window_layers": 4)"));
  EXPECT_THAT(config.layers,
              ElementsAre(LayerGroup{.num_layers = 4}, LayerGroup{.num_layers = 2, .window = 128}));
}

TEST(Windows, ByPattern) {
  const auto three_of_six =
      ElementsAre(LayerGroup{.num_layers = 3}, LayerGroup{.num_layers = 3, .window = 128});
  const auto two_of_six =
      ElementsAre(LayerGroup{.num_layers = 2}, LayerGroup{.num_layers = 4, .window = 128});
  const auto layers = [](const std::string& fields) {
    return parse(llama(R"("sliding_window": 128, )" + fields)).layers;
  };
  EXPECT_THAT(layers(R"("sliding_window_pattern": 3)"), two_of_six);
  EXPECT_THAT(layers(R"("_sliding_window_pattern": 2)"), three_of_six);
  EXPECT_THAT(layers(R"("sliding_window_pattern": "LG")"), three_of_six);
  // Layer 3 is a G, and the last layer keeps all whatever its letter.
  EXPECT_THAT(layers(R"("sliding_window_pattern": "LLLG")"), two_of_six);
  EXPECT_THAT(layers(R"("model_type": "gemma2")"), three_of_six);
  EXPECT_THAT(layers(R"("model_type": "gpt_oss")"), three_of_six);
}

TEST(Windows, ByNamedLayers) {
  const auto config = parse(llama(R"("sliding_window": 128, "layer_types": ["sliding_attention",
      "full_attention", "full_attention", "full_attention", "full_attention", "full_attention"])"));
  EXPECT_THAT(config.layers,
              ElementsAre(LayerGroup{.num_layers = 5}, LayerGroup{.num_layers = 1, .window = 128}));
  const auto hybrid = parse(llama(R"("layer_types": ["linear_attention", "linear_attention",
      "full_attention", "linear_attention", "linear_attention", "full_attention"])"));
  EXPECT_THAT(hybrid.layers, ElementsAre(LayerGroup{.num_layers = 2}));
  EXPECT_EQ(hybrid.num_layers, 6);
}

TEST(Windows, OfHybridsOnlyTheLayersThatAttend) {
  const auto num_caching = [](const std::string& fields) {
    const auto config = parse(llama(fields));
    EXPECT_EQ(config.num_layers, 6);
    EXPECT_THAT(config.layers, ElementsAre(LayerGroup{.num_layers = config.layers[0].num_layers}));
    return config.layers[0].num_layers;
  };
  EXPECT_EQ(num_caching(R"("full_attention_interval": 4)"), 1);
  EXPECT_EQ(num_caching(R"("attn_layer_period": 4, "attn_layer_offset": 1)"), 2);
  EXPECT_EQ(num_caching(R"("attn_layer_indices": [0, 2, 5])"), 3);
  EXPECT_EQ(num_caching(R"("full_attn_idxs": [3])"), 1);
  EXPECT_EQ(num_caching(R"("linear_attn_config": {"full_attn_layers": [4, 6], "head_dim": 8})"), 2);
  EXPECT_EQ(num_caching(R"("hybrid_override_pattern": "M-M*E*")"), 2);
  EXPECT_EQ(num_caching(R"("attn_type_list": [0, 0, 1, 0, 0, 1])"), 2);
  EXPECT_EQ(num_caching(R"("layers_block_type": ["mamba", "attention", "mlp", "moe", "mamba",
      "attention"])"),
            2);
  EXPECT_EQ(
      parse(llama(R"("num_hidden_layers": null, "layers_block_type": ["mamba", "attention"])"))
          .num_layers,
      2);
  EXPECT_THAT(error_of(llama(R"("hybrid_override_pattern": "M-M*")")), HasSubstr("6 letters"));
  EXPECT_THAT(error_of(llama(R"("layers_block_type": ["hybrid", 1, 2, 3, 4, 5])")),
              HasSubstr("layers_block_type has \"hybrid\""));
  EXPECT_THAT(error_of(llama(R"("attn_layer_indices": 3)")), HasSubstr("must be a list"));
  EXPECT_THAT(error_of(llama(R"("attn_type_list": [0, 0, 0, 0, 0, 0])")),
              HasSubstr("no layer caches"));
}

TEST(Windows, ChunksKeepAsManyTokens) {
  const LayerGroup one{.num_layers = 1}, chunks{.num_layers = 5, .window = 8192};
  const std::string llama4 = R"("model_type": "llama4_text", "attention_chunk_size": 8192)";
  EXPECT_THAT(parse(llama(llama4)).layers, ElementsAre(one, chunks));
  EXPECT_THAT(parse(llama(llama4 + R"(, "no_rope_layers": [])")).layers, ElementsAre(one, chunks));
  EXPECT_THAT(parse(llama(llama4 + R"(, "no_rope_layers": [1, 1, 0, 1, 1, 1])")).layers,
              ElementsAre(one, chunks));
  EXPECT_THAT(parse(llama(R"("attention_chunk_size": 8192, "layer_types": ["chunked_attention",
      "chunked_attention", "chunked_attention", "full_attention", "chunked_attention",
      "chunked_attention"])"))
                  .layers,
              ElementsAre(one, chunks));
  EXPECT_THAT(error_of(llama(R"("model_type": "llama4_text")")),
              HasSubstr("no attention_chunk_size"));
}

TEST(Windows, LayersThatShareACacheHaveNone) {
  EXPECT_THAT(parse(llama(R"("num_kv_shared_layers": 2)")).layers,
              ElementsAre(LayerGroup{.num_layers = 4}));
  EXPECT_THAT(parse(llama(R"("num_kv_shared_layers": 0)")).layers,
              ElementsAre(LayerGroup{.num_layers = 6}));
}

TEST(BadConfig, ErrorsNameFileAndField) {
  EXPECT_EQ(error_of(""), "test.json: not valid JSON from byte 1 on");
  EXPECT_EQ(error_of("{\"hidden_size\": 64"), "test.json: not valid JSON from byte 19 on");
  EXPECT_EQ(error_of("[1, 2]"), "test.json: not a JSON object");
  EXPECT_EQ(error_of("{}"), "test.json: no field num_hidden_layers");
  EXPECT_EQ(error_of(llama(R"("hidden_size": null)")),
            "test.json: no field hidden_size or n_embd or n_embed or d_model");
  EXPECT_THAT(error_of(llama(R"("num_attention_heads": "8")")),
              HasSubstr("num_attention_heads is \"8\", expected a whole number from 1"));
  for (const auto* wrong : {"0", "-8", "8.5", "true", "[8]", "1e30", "9999999999"})
    EXPECT_THAT(error_of(llama(std::string(R"("num_attention_heads": )") + wrong)),
                HasSubstr("num_attention_heads is "))
        << wrong;
  EXPECT_THAT(error_of(llama(R"("num_key_value_heads": 3)")),
              HasSubstr("3 key/value heads do not divide the 8 heads"));
  EXPECT_THAT(error_of(llama(R"("num_hidden_layers": 2000000)")),
              HasSubstr("layers, 100000 at most"));
  EXPECT_THAT(error_of(llama(R"("kv_lora_rank": 512)")), HasSubstr("no field qk_rope_head_dim"));
  EXPECT_THAT(error_of(llama(R"("use_sliding_window": 1)")),
              HasSubstr("use_sliding_window is 1, expected true or false"));
  EXPECT_THAT(error_of(llama(R"("model_type": 7)")), HasSubstr("model_type is 7, expected a text"));
  EXPECT_THAT(error_of(llama(R"("num_kv_shared_layers": 6)")), HasSubstr("no layer caches"));
}

TEST(BadConfig, BadWindowsAreRefused) {
  EXPECT_THAT(error_of(llama(R"("sliding_window": 0)")), HasSubstr("sliding_window is 0"));
  EXPECT_THAT(error_of(llama(R"("layer_types": ["full_attention"])")),
              HasSubstr("layer_types must be a list of 6 entries"));
  EXPECT_THAT(error_of(llama(R"("num_hidden_layers": 1, "layer_types": ["sliding_attention"])")),
              HasSubstr("no sliding_window"));
  EXPECT_THAT(error_of(llama(R"("num_hidden_layers": 1, "layer_types": ["psychic_attention"])")),
              HasSubstr("psychic_attention"));
  EXPECT_THAT(error_of(llama(R"("sliding_window": 8, "sliding_window_pattern": "LXG")")),
              HasSubstr("expected letters L and G"));
  EXPECT_THAT(error_of(llama(R"("sliding_window": 8, "sliding_window_pattern": 0)")),
              HasSubstr("sliding_window_pattern is 0"));
}

TEST(BadConfig, WhatIsNotModelledIsRefused) {
  for (const auto* field : {"global_head_dim", "index_head_dim", "swa_num_key_value_heads",
                            "num_key_value_heads_per_layer", "n_shared_head", "block_types",
                            "attention_chunk_size", "total_ut_steps", "v_head_dim"})
    EXPECT_THAT(error_of(llama('"' + std::string(field) + R"(": 4)")), HasSubstr(field));
  EXPECT_THAT(error_of(llama(R"("is_encoder_decoder": true)")), HasSubstr("is_encoder_decoder"));
  EXPECT_THAT(error_of(R"({"is_encoder_decoder": true, "text_config": )" + llama("") + "}"),
              HasSubstr("is_encoder_decoder"));
  EXPECT_THAT(error_of(llama(R"("model_type": "bert")")), HasSubstr("caches nothing"));
  EXPECT_THAT(error_of(llama(R"("model_type": "mamba2")")), HasSubstr("does not attend"));
  EXPECT_THAT(error_of(llama(R"("model_type": "longcat_flash")")), HasSubstr("twice in a layer"));
  EXPECT_THAT(error_of(R"({"text_config": {"num_hidden_layers": 2}})"),
              HasSubstr("test.json: text_config: no field hidden_size"));
}

TEST(ReadModelConfig, FilesAndFoldersNameTheModel) {
  const auto folder = std::filesystem::path(testing::TempDir()) / "heed_model_config" / "My-Model";
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "config.json") << llama("");
  EXPECT_EQ(heed::bench::read_model_config(folder).name, "My-Model");
  EXPECT_EQ(heed::bench::read_model_config(folder / "config.json").name, "My-Model");
  std::filesystem::rename(folder / "config.json", folder / "small.json");
  EXPECT_EQ(heed::bench::read_model_config(folder / "small.json").name, "small");
  EXPECT_THROW(heed::bench::read_model_config(folder), ConfigError);
  std::filesystem::remove_all(folder.parent_path());
}

std::vector<std::string> labels(const ModelConfig& config) {
  std::vector<std::string> labels;
  for (const auto& variant : heed::bench::variants_of(config))
    labels.push_back((variant.origin == heed::bench::Origin::published ? "*" : "") +
                     variant.label());
  return labels;
}

TEST(Variants, KeepWhatIsPublishedAndConvertTheRest) {
  const auto of = [](const std::string& name) {
    return labels(heed::bench::read_model_config(models / (name + ".json")));
  };
  EXPECT_THAT(of("Llama-2-7B"), ElementsAre("*MHA", "GQA, 8 groups", "MQA", "MLA, 512 + 64"));
  EXPECT_THAT(of("Llama-3-8B"), ElementsAre("MHA", "*GQA, 8 groups", "MQA", "MLA, 512 + 64"));
  EXPECT_THAT(of("SmolLM2-135M"), ElementsAre("MHA", "*GQA, 3 groups", "MQA", "MLA, 256 + 32"));
  EXPECT_THAT(of("Gemma-2-9B"), ElementsAre("MHA", "*GQA, 8 groups", "MQA", "MLA, 1024 + 128"));
  EXPECT_THAT(of("DeepSeek-V3"), ElementsAre("MHA", "GQA, 8 groups", "MQA", "*MLA, 512 + 64"));
  // 71 is a prime: no number of groups divides it.
  EXPECT_THAT(of("Falcon-7B"), ElementsAre("MHA", "*MQA", "MLA, 256 + 32"));
  EXPECT_THAT(labels(parse(llama(R"("num_attention_heads": 1, "num_key_value_heads": 1)"))),
              ElementsAre("*MHA", "MLA, 256 + 32"));
}

TEST(Variants, OfALatentModelHaveItsUnrotatedHeads) {
  const auto config = heed::bench::read_model_config(models / "DeepSeek-V2-Lite.json");
  const auto variants = heed::bench::variants_of(config);
  EXPECT_EQ(std::get<GroupedShape>(variants[0].shape), heed::multi_head(2048, 16, 128));
}

}  // namespace
