// SPDX-License-Identifier: MIT
/// \file
/// What a model's config.json, as hubs publish it, says about its attention.
///
/// Only dimensions are read; other fields are ignored. Fields that would change the cache in a way
/// this reader does not model are refused: better no number than a wrong one.
#pragma once

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "heed/base/shape.hpp"
#include "kv_memory/json_fields.hpp"
#include "kv_memory/layer_windows.hpp"

namespace heed::bench {

/// MHA, GQA and MQA are GroupedShape; MLA is LatentShape.
using AttentionShape = std::variant<GroupedShape, LatentShape>;

struct ModelConfig {
  std::string name;        ///< of the file, or of its folder if the file is called config.json
  std::string model_type;  ///< "llama"; empty if not said
  Index num_layers = 0;    ///< all of them, those without a cache included
  AttentionShape attention{};
  std::vector<LayerGroup> layers{};    ///< those that cache, gathered by window
  std::optional<Index> max_context{};  ///< tokens the model was made for, if said
};

namespace detail {

/// Fields that say that the cache is not what the others make of it.
inline void refuse_unmodelled(const Fields& fields) {
  struct Refusal {
    std::string_view name, reason;
  };
  constexpr Refusal refusals[] = {
      {"attn_config", "attention described in a nested object"},
      {"attention_layers", "local layers that are not sliding windows"},
      {"block_configs", "layers with head counts of their own"},
      {"compress_ratios", "keys and values compressed along the sequence"},
      {"cross_attention_layers", "layers that cache another sequence"},
      {"global_head_dim", "layers with head widths of their own"},
      {"hybrid_layer_pattern", "layers with head counts of their own"},
      {"hybrid_override_pattern", "layers without attention"},
      {"index_head_dim", "a sparse indexer that caches keys of its own"},
      {"layers_block_type", "layers without attention"},
      {"num_global_key_value_heads", "layers with head counts of their own"},
      {"num_query_heads", "layers with head counts of their own"},
      {"swa_num_key_value_heads", "layers with head counts of their own"},
  };
  for (const auto& [name, reason] : refusals)
    if (fields.has(name))
      fields.fail(std::string(name) + " means " + std::string(reason) +
                  ", which this reader does not model");
  if (fields.flag("is_encoder_decoder", false))
    fields.fail("is_encoder_decoder is true: this reader models decoders alone");
  if (fields.flag("use_cla", false)) fields.fail("use_cla means caches that layers share");
  if (fields.has("layer_types")) return;
  for (const auto* name : {"attention_chunk_size", "attn_layer_period", "full_attention_interval",
                           "linear_attn_config", "attn_layer_indices"})
    if (fields.has(name))
      fields.fail(std::string(name) +
                  " without layer_types: which layers cache all tokens is not said");
}

/// Heads and widths that a file may leave out because they equal its model type's defaults.
struct Defaults {
  std::optional<Index> num_heads{}, num_kv_heads{}, head_dim{};
};
inline Defaults defaults_of(const std::string& model_type) {
  if (model_type == "gemma2" || model_type == "gemma3_text")
    return {.num_heads = 8, .num_kv_heads = 4, .head_dim = 256};
  if (model_type == "gpt_oss") return {.num_kv_heads = 8, .head_dim = 64};
  return {};
}

/// Falcon, GPT-BigCode and ChatGLM have a flag for MQA beside a count of heads; the flag wins,
/// since Falcon-7B says num_kv_heads = 71 and caches one.
inline Index num_kv_heads(const Fields& fields, const std::string& model_type, Index num_heads) {
  const bool multi_query_unless_said = model_type == "falcon" || model_type == "gpt_bigcode";
  if (fields.flag("multi_query", multi_query_unless_said) &&
      !fields.flag("new_decoder_architecture", false))
    return 1;
  if (!fields.flag("multi_query_attention", true)) return num_heads;
  const auto count =
      fields.count({"num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num"});
  return count.value_or(defaults_of(model_type).num_kv_heads.value_or(num_heads));
}

inline Index head_dim(const Fields& fields, const std::string& model_type, Index model_dim,
                      Index num_heads) {
  if (const auto said = fields.count({"head_dim", "kv_channels"})) return *said;
  if (const auto usual = defaults_of(model_type).head_dim) return *usual;
  if (model_dim % num_heads != 0)
    fields.fail("hidden_size " + std::to_string(model_dim) + " is no multiple of the " +
                std::to_string(num_heads) + " heads, and there is no head_dim");
  return model_dim / num_heads;
}

inline AttentionShape attention_shape(const Fields& fields, const std::string& model_type) {
  const Index model_dim = fields.required_count({"hidden_size", "n_embd"});
  const Fields::Names head_names = {"num_attention_heads", "n_head", "num_heads"};
  const auto usual_num_heads = defaults_of(model_type).num_heads;
  const Index num_heads = usual_num_heads ? fields.count(head_names).value_or(*usual_num_heads)
                                          : fields.required_count(head_names);
  if (const auto latent_dim = fields.count({"kv_lora_rank"}))
    return LatentShape{
        .model_dim = model_dim,
        .num_heads = num_heads,
        .latent_dim = *latent_dim,
        .rope_dim = fields.required_count({"qk_rope_head_dim"}),
        .nope_dim = fields.required_count({"qk_nope_head_dim"}),
        .head_dim_v = fields.required_count({"v_head_dim"}),
        .query_latent_dim = fields.count({"q_lora_rank"}, 0).value_or(no_query_latent)};
  GroupedShape shape{.model_dim = model_dim,
                     .num_heads = num_heads,
                     .num_kv_heads = num_kv_heads(fields, model_type, num_heads),
                     .head_dim = head_dim(fields, model_type, model_dim, num_heads)};
  if (shape.num_heads % shape.num_kv_heads != 0)
    fields.fail(std::to_string(shape.num_kv_heads) + " key/value heads do not divide the " +
                std::to_string(shape.num_heads) + " heads");
  return shape;
}

/// The object that describes the language model: files of models that also see or hear nest it.
inline const nlohmann::json& text_object(const nlohmann::json& object) {
  for (const auto* name : {"text_config", "language_config", "llm_config", "thinker_config"})
    if (const auto nested = object.find(name); nested != object.end() && nested->is_object())
      if (const auto& inner = text_object(*nested); inner.contains("num_hidden_layers"))
        return inner;
  return object;
}

}  // namespace detail

/// \param file  how errors name the config
/// \throws ConfigError naming file and field
inline ModelConfig parse_model_config(const std::string& json_text, const std::string& file,
                                      const std::string& name) {
  const auto json = nlohmann::json::parse(json_text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object())
    throw ConfigError(file + ": " + (json.is_discarded() ? "not valid JSON" : "not a JSON object"));
  const Fields fields(detail::text_object(json), file);
  detail::refuse_unmodelled(fields);

  ModelConfig config{.name = name, .model_type = fields.text("model_type")};
  constexpr Index most_layers = 100000;  // a list is made of them
  config.num_layers = fields.required_count({"num_hidden_layers", "n_layer", "num_layers"});
  if (config.num_layers > most_layers)
    fields.fail(std::to_string(config.num_layers) + " layers, " + std::to_string(most_layers) +
                " at most");
  config.attention = detail::attention_shape(fields, config.model_type);
  config.layers = layer_groups(fields, config.model_type, config.num_layers);
  config.max_context = fields.count({"max_position_embeddings", "n_positions", "seq_length"});
  return config;
}

/// \param path  a file, or a folder with a config.json
/// \throws ConfigError naming the file and what is wrong with it
inline ModelConfig read_model_config(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) return read_model_config(path / "config.json");
  std::ifstream stream(path);
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  if (!stream) throw ConfigError(path.string() + ": cannot be read");
  const bool named_by_folder = path.filename() == "config.json" && path.has_parent_path();
  const auto name = named_by_folder ? path.parent_path().filename() : path.stem();
  return parse_model_config(text, path.string(), name.string());
}

}  // namespace heed::bench
