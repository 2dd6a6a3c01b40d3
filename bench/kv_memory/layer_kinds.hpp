// SPDX-License-Identifier: MIT
/// \file
/// What each layer of a model caches, where its config.json says so layer by layer.
///
/// Files say it by a name, a letter, a number or an index for each layer, or by a period:
///
///   `layer_types`, `layers_block_type`               names (gpt-oss, Granite 4, new files of all)
///   `hybrid_override_pattern`                        letters, of which * attends (Nemotron-H)
///   `attn_type_list`                                 1 attends (MiniMax)
///   `attn_layer_indices`, `full_attn_idxs`,
///   `linear_attn_config.full_attn_layers`            those that attend (Bamba, LFM2, Kimi Linear)
///   `full_attention_interval`, `attn_layer_period`   each fourth or eighth (Qwen3-Next, Jamba)
///   `no_rope_layers`, `no_rope_layer_interval`       those that do not chunk (Llama 4)
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "kv_memory/json_fields.hpp"

namespace heed::bench {

/// Tokens that a layer keeps: all, a window behind the newest, the newest's chunk, or none. A
/// recurrent state does not grow with the context: it is no cache of keys and values.
enum class LayerKind { full, window, chunk, without_cache };

namespace detail {

using LayerKinds = std::vector<LayerKind>;

inline LayerKind kind_of_name(const Fields& fields, const std::string& list,
                              const nlohmann::json& name) {
  struct Named {
    const char* name;
    LayerKind kind;
  };
  constexpr Named known[] = {{"full_attention", LayerKind::full},
                             {"attention", LayerKind::full},
                             {"sliding_attention", LayerKind::window},
                             {"chunked_attention", LayerKind::chunk},
                             {"linear_attention", LayerKind::without_cache},
                             {"conv", LayerKind::without_cache},
                             {"mamba", LayerKind::without_cache},
                             {"moe", LayerKind::without_cache},
                             {"mlp", LayerKind::without_cache},
                             {"recurrent", LayerKind::without_cache}};
  for (const Named& one : known)
    if (name == one.name) return one.kind;
  fields.fail(list + " has " + name.dump() + ", which this reader does not know");
}

/// One of a list of entries for each layer. \param kind  (entry) -> LayerKind
template <class Kind>
LayerKinds listed_layers(const Fields& fields, const std::string& list, Index num_layers,
                         const Kind& kind) {
  const nlohmann::json& entries = *fields.find({list});
  if (!entries.is_array() || static_cast<Index>(entries.size()) != num_layers)
    fields.fail(list + " must be a list of " + std::to_string(num_layers) +
                " entries, one for each layer");
  LayerKinds kinds;
  for (const nlohmann::json& entry : entries) kinds.push_back(kind(entry));
  return kinds;
}

/// A letter for each layer: of Mamba, of attention, and of networks between tokens' numbers alone.
inline LayerKinds lettered_hybrid(const Fields& fields, Index num_layers) {
  const std::string letters = fields.text("hybrid_override_pattern");
  if (static_cast<Index>(letters.size()) != num_layers ||
      letters.find_first_not_of("M*-E") != std::string::npos)
    fields.fail("hybrid_override_pattern is \"" + letters + "\", expected " +
                std::to_string(num_layers) + " letters of M, *, - and E");
  LayerKinds kinds;
  for (const char letter : letters)
    kinds.push_back(letter == '*' ? LayerKind::full : LayerKind::without_cache);
  return kinds;
}

/// Those of the list attend, the others do not cache. Files count from 0 or from 1.
inline LayerKinds indexed_layers(const Fields& fields, const char* list, Index num_layers) {
  const nlohmann::json& indices = *fields.find({list});
  if (!indices.is_array() || static_cast<Index>(indices.size()) > num_layers)
    fields.fail(std::string(list) + " must be a list of at most " + std::to_string(num_layers) +
                " layers");
  LayerKinds kinds(static_cast<std::size_t>(num_layers), LayerKind::without_cache);
  std::fill_n(kinds.begin(), indices.size(), LayerKind::full);  // which ones does not matter
  return kinds;
}

/// Every `period`-th layer is of one kind, the others are of another.
inline LayerKinds periodic_layers(Index period, Index num_layers, LayerKind one, LayerKind others) {
  LayerKinds kinds;
  for (Index layer = 0; layer < num_layers; ++layer)
    kinds.push_back((layer + 1) % period == 0 ? one : others);
  return kinds;
}

/// Llama 4: layers with RoPE see the chunk that they are in, each fourth has none and sees all.
inline LayerKinds chunked_layers(const Fields& fields, Index num_layers) {
  const nlohmann::json* list = fields.find({"no_rope_layers"});
  if (list != nullptr && !list->empty())
    return listed_layers(fields, "no_rope_layers", num_layers, [](const nlohmann::json& entry) {
      return entry == 0 ? LayerKind::full : LayerKind::chunk;
    });
  return periodic_layers(fields.count({"no_rope_layer_interval"}).value_or(4), num_layers,
                         LayerKind::full, LayerKind::chunk);
}

/// What the file says of each layer, or nothing if it says nothing.
inline std::optional<LayerKinds> named_layers(const Fields& fields, const std::string& model_type,
                                              Index num_layers) {
  for (const std::string list : {"layer_types", "layers_block_type"})
    if (fields.has(list))
      return listed_layers(fields, list, num_layers, [&](const nlohmann::json& entry) {
        return kind_of_name(fields, list, entry);
      });
  if (fields.has("hybrid_override_pattern")) return lettered_hybrid(fields, num_layers);
  if (fields.has("attn_type_list"))
    return listed_layers(fields, "attn_type_list", num_layers, [](const nlohmann::json& entry) {
      return entry == 1 ? LayerKind::full : LayerKind::without_cache;
    });
  for (const char* list : {"attn_layer_indices", "full_attn_idxs"})
    if (fields.has(list)) return indexed_layers(fields, list, num_layers);
  if (const auto linear = fields.object("linear_attn_config");
      linear && linear->has("full_attn_layers"))
    return indexed_layers(*linear, "full_attn_layers", num_layers);
  for (const auto* name : {"full_attention_interval", "attn_layer_period"})
    if (const auto period = fields.count({name})) {
      const Index offset = fields.count({"attn_layer_offset"}, 0).value_or(*period - 1);
      LayerKinds kinds;
      for (Index layer = 0; layer < num_layers; ++layer)
        kinds.push_back(layer % *period == offset ? LayerKind::full : LayerKind::without_cache);
      return kinds;
    }
  if (model_type == "llama4_text") return chunked_layers(fields, num_layers);
  return std::nullopt;
}

}  // namespace detail
}  // namespace heed::bench
