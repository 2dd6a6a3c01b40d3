// SPDX-License-Identifier: MIT
/// \file
/// Which layers of a model keep all tokens and which keep a window of them, from its config.json.
///
/// Hubs have five ways to say it; the first that applies counts:
///
///   1. layer by layer (layer_kinds.hpp)                      as named (gpt-oss, new files of all)
///   2. no `sliding_window`, or `use_sliding_window: false`   every layer keeps all (Qwen2.5)
///   3. `sliding_window_pattern`, 6 or "LLLG"                 each sixth, each G: all (Gemma 3)
///   4. the model type's own pattern                          Gemma 2: windows on even layers
///   5. `max_window_layers`                                   windows from that layer on (Qwen2)
///   else                                                     a window on every layer (Mistral)
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "kv_memory/json_fields.hpp"
#include "kv_memory/layer_kinds.hpp"
#include "kv_memory/model_defaults.hpp"

namespace heed::bench {

/// Layers that keep the same number of tokens.
struct LayerGroup {
  Index num_layers = 0;
  std::optional<Index> window{};  ///< tokens kept; without one, all of them

  friend bool operator==(const LayerGroup&, const LayerGroup&) = default;
};

namespace detail {

/// Way 3 with letters: L (local) has a window, G (global) keeps all, and so does the last layer.
inline LayerKinds lettered_layers(const Fields& fields, const std::string& letters,
                                  Index num_layers) {
  if (letters.empty() || letters.find_first_not_of("LG") != std::string::npos)
    fields.fail("sliding_window_pattern is \"" + letters + "\", expected letters L and G");
  LayerKinds kinds;
  for (Index layer = 0; layer < num_layers; ++layer) {
    const char letter = letters[static_cast<std::size_t>(layer) % letters.size()];
    const bool full = letter == 'G' || layer + 1 == num_layers;
    kinds.push_back(full ? LayerKind::full : LayerKind::window);
  }
  return kinds;
}

/// Ways 3 to 5, for a model that has a window.
inline LayerKinds patterned_layers(const Fields& fields, const std::string& model_type,
                                   Index num_layers) {
  const auto each_nth_full = [&](Index period) {
    return periodic_layers(period, num_layers, LayerKind::full, LayerKind::window);
  };
  for (const auto* name : {"sliding_window_pattern", "_sliding_window_pattern"})
    if (const nlohmann::json* pattern = fields.find({name}))
      return pattern->is_string() ? lettered_layers(fields, pattern->get<std::string>(), num_layers)
                                  : each_nth_full(fields.required_count({name}));
  if (model_type == "gemma2" || model_type == "gpt_oss") return each_nth_full(2);
  if (model_type == "gemma3_text") return each_nth_full(6);
  LayerKinds kinds(static_cast<std::size_t>(num_layers), LayerKind::window);
  if (const auto first = fields.count({"max_window_layers"}, 0))
    std::fill_n(kinds.begin(), std::min(*first, num_layers), LayerKind::full);
  return kinds;
}

inline std::optional<Index> window_size(const Fields& fields, const ModelDefaults& usual,
                                        const std::string& model_type) {
  const bool off_unless_said = model_type.starts_with("qwen");
  if (!fields.flag("use_sliding_window", !off_unless_said)) return std::nullopt;
  const auto window = fields.count({"sliding_window", "sliding_window_size"});
  return window || fields.says_null("sliding_window") ? window : usual.window;
}

}  // namespace detail

/// The layers that cache keys and values, gathered by how many tokens they keep: all, a window, a
/// chunk. Layers that use another layer's cache (num_kv_shared_layers) are not among them.
inline std::vector<LayerGroup> layer_groups(const Fields& fields, const ModelDefaults& usual,
                                            const std::string& model_type, Index num_layers) {
  const auto window = detail::window_size(fields, usual, model_type);
  const auto chunk = fields.count({"attention_chunk_size"});
  detail::LayerKinds kinds(static_cast<std::size_t>(num_layers), LayerKind::full);
  if (const auto named = detail::named_layers(fields, model_type, num_layers))
    kinds = *named;
  else if (chunk)
    fields.fail("attention_chunk_size without layer_types: which layers it is for is not said");
  else if (window)
    kinds = detail::patterned_layers(fields, model_type, num_layers);

  // These are the last layers.
  const Index num_shared = fields.count({"num_kv_shared_layers"}, 0).value_or(0);
  kinds.resize(static_cast<std::size_t>(std::max(num_layers - num_shared, Index{0})));

  struct Kept {
    LayerKind kind;
    std::optional<Index> tokens;
    const char* field;  // that says how many, if not all
  };
  std::vector<LayerGroup> groups;
  for (const auto& [kind, tokens, field] :
       {Kept{LayerKind::full, std::nullopt, nullptr},
        Kept{LayerKind::window, window, "sliding_window"},
        Kept{LayerKind::chunk, chunk, "attention_chunk_size"}}) {
    const Index count = std::count(kinds.begin(), kinds.end(), kind);
    if (count == 0) continue;
    if (field != nullptr && !tokens)
      fields.fail(std::string("some layers keep a part of the tokens, but no ") + field +
                  " says how many");
    groups.push_back({.num_layers = count, .window = tokens});
  }
  if (groups.empty()) fields.fail("no layer caches keys and values");
  return groups;
}

}  // namespace heed::bench
