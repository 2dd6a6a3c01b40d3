// SPDX-License-Identifier: MIT
/// \file
/// What of a config.json says that a model's cache is not what its other fields make of it: better
/// no number than a wrong one.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include "kv_memory/json_fields.hpp"

namespace heed::bench {

/// Names of a count of key/value heads that are read.
inline constexpr std::string_view kv_head_names[] = {
    "num_key_value_heads", "num_kv_heads",          "n_head_kv",
    "kv_n_heads",          "multi_query_group_num", "num_attention_groups"};

namespace detail {

struct Refusal {
  std::string_view name, reason;
};

inline void refuse_model_type(const Fields& fields, std::string_view model_type) {
  constexpr Refusal refusals[] = {
      {"gemma4_text", "has layers with head counts of their own, which files may leave out"},
      {"longcat_flash", "attends twice in a layer"},
      {"mimo_v2_flash", "has layers with head counts of their own, which files may leave out"},
  };
  for (const auto& [name, reason] : refusals)
    if (model_type == name)
      fields.fail("model_type " + std::string(name) + " " + std::string(reason) +
                  ", which this reader does not model");
  for (const auto* encoder : {"albert",
                              "bert",
                              "clip",
                              "clip_text_model",
                              "clip_vision_model",
                              "deberta",
                              "deberta-v2",
                              "dinov2",
                              "distilbert",
                              "electra",
                              "hubert",
                              "modernbert",
                              "mpnet",
                              "nomic_bert",
                              "roberta",
                              "siglip",
                              "siglip_vision_model",
                              "vit",
                              "wav2vec2",
                              "xlm-roberta"})
    if (model_type == encoder)
      fields.fail("model_type " + std::string(encoder) + " is an encoder, which caches nothing");
  for (const auto* recurrent : {"falcon_mamba", "gated_deltanet", "gla", "mamba", "mamba2",
                                "retnet", "rwkv", "rwkv5", "rwkv6", "rwkv7", "xlstm"})
    if (model_type == recurrent)
      fields.fail("model_type " + std::string(recurrent) +
                  " does not attend: its state does not grow with the context");
}

/// Throws ConfigError for what this reader would take for another cache than there is.
inline void refuse_unmodelled(const Fields& fields, std::string_view model_type) {
  refuse_model_type(fields, model_type);
  constexpr std::string_view own_heads = "layers with head counts of their own";
  constexpr std::string_view no_attention = "layers without attention";
  constexpr Refusal refusals[] = {
      {"_block_types", no_attention},
      {"attention_layers", "local layers that are not sliding windows"},
      {"block_configs", own_heads},
      {"block_types", no_attention},
      {"compress_ratios", "keys and values compressed along the sequence"},
      {"cross_attention_layers", "layers that cache another sequence"},
      {"global_attn_idx", "layers that share caches"},
      {"global_head_dim", "layers with head widths of their own"},
      {"hybrid_layer_pattern", own_heads},
      {"index_head_dim", "a sparse indexer that caches keys of its own"},
      {"kv_reuse_group", "layers that share caches"},
      {"mamba_step", no_attention},
      {"mb_per_layer", no_attention},
      {"n_shared_head", "heads that share keys and values by a count of its own"},
      {"num_query_heads", own_heads},
      {"per_layer_config", own_heads},
      {"sliding_window_layers", "windows on layers that it names"},
      {"sparse_attention_config", "a sparse indexer that caches keys of its own"},
  };
  for (const auto& [name, reason] : refusals)
    if (fields.has(name))
      fields.fail(std::string(name) + " means " + std::string(reason) +
                  ", which this reader does not model");
  fields.for_each_name([&](const std::string& name) {
    const bool counts = name.find("kv_heads") != std::string::npos ||
                        name.find("key_value_heads") != std::string::npos;
    if (counts && std::ranges::find(kv_head_names, name) == std::end(kv_head_names))
      fields.fail(name + " counts key/value heads in a way that this reader does not model");
  });
  if (fields.flag("is_encoder_decoder", false))
    fields.fail("is_encoder_decoder is true: this reader models decoders alone");
  if (fields.flag("use_cla", false)) fields.fail("use_cla means caches that layers share");
  if (fields.count({"total_ut_steps"}, 0).value_or(1) > 1)
    fields.fail("total_ut_steps means layers that run several times, with a cache for each");
}

}  // namespace detail
}  // namespace heed::bench
