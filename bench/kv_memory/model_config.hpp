// SPDX-License-Identifier: MIT
/// \file
/// What a model's config.json, as hubs publish it, says about its attention.
///
/// Only dimensions are read; other fields are ignored, but for those that would change the cache in
/// a way this reader does not model (refusals.hpp).
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
#include "kv_memory/model_defaults.hpp"
#include "kv_memory/refusals.hpp"

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

inline std::optional<Index> num_layers(const Fields& fields) {
  if (const auto count = fields.count({"num_hidden_layers", "n_layer", "num_layers", "n_layers"}))
    return count;
  const nlohmann::json* list = fields.find({"layers_block_type"});
  if (list == nullptr || !list->is_array()) return std::nullopt;
  return static_cast<Index>(list->size());
}

/// The language model: files of models that also see or hear describe it within.
struct TextModel {
  Fields fields;
  Described where = Described::on_top;
};
inline TextModel text_model(const Fields& whole) {
  for (const auto* name : {"text_config", "language_config", "llm_config", "thinker_config"})
    if (const auto within = whole.object(name)) {
      const TextModel inner = text_model(*within);
      if (num_layers(inner.fields) || !num_layers(whole))
        return {inner.fields, Described::within_another};
    }
  return {whole};
}

/// One of the counts, which the file may leave out if its class has a default.
inline Index count_or(const Fields& fields, Fields::Names names, std::optional<Index> usual) {
  return usual ? fields.count(names).value_or(*usual) : fields.required_count(names);
}

/// Falcon, GPT-BigCode and ChatGLM have a flag for MQA beside a count of heads; the flag wins,
/// since Falcon-7B says num_kv_heads = 71 and caches one. MPT says it by a name.
inline Index num_kv_heads(const Fields& fields, const std::string& model_type,
                          const ModelDefaults& usual, Index num_heads) {
  const bool multi_query_unless_said = model_type == "falcon" || model_type == "gpt_bigcode";
  if (fields.flag("multi_query", multi_query_unless_said) &&
      !fields.flag("new_decoder_architecture", false))
    return 1;
  if (!fields.flag("multi_query_attention", true)) return num_heads;
  if (const auto within = fields.object("attn_config")) {
    if (within->text("attn_type") == "multiquery_attention") return 1;
    if (const auto count = within->count({"kv_n_heads"})) return *count;
  }
  for (const std::string_view name : kv_head_names)
    if (const auto count = fields.count({name})) return *count;
  return usual.num_kv_heads.value_or(num_heads);
}

inline Index head_dim(const Fields& fields, const ModelDefaults& usual, Index model_dim,
                      Index num_heads) {
  if (const auto said = fields.count({"head_dim", "attention_head_dim", "kv_channels"}))
    return *said;
  if (usual.head_dim) return *usual.head_dim;
  if (model_dim % num_heads != 0)
    fields.fail("hidden_size " + std::to_string(model_dim) + " is no multiple of the " +
                std::to_string(num_heads) + " heads, and there is no head_dim");
  return model_dim / num_heads;
}

/// The width of latents, unless the file describes heads.
inline std::optional<Index> latent_dim(const Fields& fields) {
  const auto width = fields.count({"kv_lora_rank"}, 0);
  return fields.flag("use_mla", true) && width > 0 ? width : std::nullopt;
}

inline AttentionShape attention_shape(const Fields& fields, const std::string& model_type,
                                      const ModelDefaults& usual) {
  const Index model_dim =
      count_or(fields, {"hidden_size", "n_embd", "n_embed", "d_model"}, usual.model_dim);
  const Index num_heads =
      count_or(fields, {"num_attention_heads", "n_head", "num_heads", "n_heads", "attention_heads"},
               usual.num_heads);
  if (const auto width = latent_dim(fields))
    return LatentShape{
        .model_dim = model_dim,
        .num_heads = num_heads,
        .latent_dim = *width,
        .rope_dim = fields.required_count({"qk_rope_head_dim"}),
        .nope_dim = fields.required_count({"qk_nope_head_dim"}),
        .head_dim_v = count_or(
            fields, {"v_head_dim"},
            model_type == "minicpm3" ? std::optional(model_dim / num_heads) : std::nullopt),
        .query_latent_dim = fields.count({"q_lora_rank"}, 0).value_or(no_query_latent)};
  GroupedShape shape{.model_dim = model_dim,
                     .num_heads = num_heads,
                     .num_kv_heads = num_kv_heads(fields, model_type, usual, num_heads),
                     .head_dim = head_dim(fields, usual, model_dim, num_heads)};
  if (shape.num_heads % shape.num_kv_heads != 0)
    fields.fail(std::to_string(shape.num_kv_heads) + " key/value heads do not divide the " +
                std::to_string(shape.num_heads) + " heads");
  if (const Index width = fields.count({"v_head_dim"}, 0).value_or(0);
      width != 0 && width != shape.head_dim)
    fields.fail("v_head_dim " + std::to_string(width) + " beside a head_dim of " +
                std::to_string(shape.head_dim) +
                " means values of a width of their own, which this reader does not model");
  return shape;
}

/// That a token leaves behind in a layer, at most: with a key and a value for each head, or a
/// latent.
inline double most_elements(const AttentionShape& attention) {
  const auto real = [](Index number) { return static_cast<double>(number); };
  if (const auto* latent = std::get_if<LatentShape>(&attention))
    return real(latent->num_heads) *
               (real(latent->nope_dim) + real(latent->rope_dim) + real(latent->head_dim_v)) +
           real(latent->latent_dim);
  const auto& grouped = std::get<GroupedShape>(attention);
  return real(grouped.num_heads) * (real(grouped.head_dim) + real(grouped.head_dim_v));
}

}  // namespace detail

/// \param file  how errors name the config
/// \throws ConfigError naming file and field
inline ModelConfig parse_model_config(const std::string& json_text, const std::string& file,
                                      const std::string& name) {
  const nlohmann::json json = parse_object(json_text, file);
  const Fields whole(json, file);
  if (whole.flag("is_encoder_decoder", false))
    whole.fail("is_encoder_decoder is true: this reader models decoders alone");
  const auto [fields, where] = detail::text_model(whole);

  ModelConfig config{.name = name, .model_type = fields.text("model_type")};
  const ModelDefaults usual = defaults_of(config.model_type, where);
  detail::refuse_unmodelled(fields, config.model_type);
  constexpr Index most_layers = 100000;  // a list is made of them
  const auto num_layers = detail::num_layers(fields);
  if (!num_layers && !usual.num_layers) fields.fail("no field num_hidden_layers");
  config.num_layers = num_layers.value_or(usual.num_layers.value_or(0));
  if (config.num_layers > most_layers)
    fields.fail(std::to_string(config.num_layers) + " layers, " + std::to_string(most_layers) +
                " at most");
  config.attention = detail::attention_shape(fields, config.model_type, usual);
  // What is reckoned from it, of 2^31 tokens, then fits in an Index.
  if (static_cast<double>(config.num_layers) * detail::most_elements(config.attention) > 0x1p28)
    fields.fail("heads so many and so wide leave more than 2^28 elements a token behind");
  config.layers = layer_groups(fields, usual, config.model_type, config.num_layers);
  config.max_context =
      fields.count({"max_position_embeddings", "n_positions", "seq_length", "max_seq_len"});
  return config;
}

/// \param path  a file, or a folder with a config.json
/// \throws ConfigError naming the file and what is wrong with it
inline ModelConfig read_model_config(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) return read_model_config(path / "config.json");
  std::ifstream stream(path);
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  if (!stream) throw ConfigError(path.string() + ": cannot be read");
  const auto whole = std::filesystem::absolute(path).lexically_normal();  // "." has no name
  const auto name = path.filename() == "config.json" ? whole.parent_path().filename() : path.stem();
  return parse_model_config(text, path.string(), name.string());
}

}  // namespace heed::bench
