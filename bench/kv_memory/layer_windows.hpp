// SPDX-License-Identifier: MIT
/// \file
/// Which layers of a model keep all tokens and which keep a window of them, from its config.json.
///
/// Hubs have five ways to say it; the first that applies counts:
///
///   1. no `sliding_window`, or `use_sliding_window: false`   every layer keeps all (Qwen2.5)
///   2. `layer_types`, one name a layer                       as named (gpt-oss, new files of all)
///   3. `sliding_window_pattern`, 6 or "LLLG"                 each sixth, each G: all (Gemma 3)
///   4. the model type's own pattern                          Gemma 2: windows on even layers
///   5. `max_window_layers`                                   windows from that layer on (Qwen2)
///   else                                                     a window on every layer (Mistral)
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kv_memory/json_fields.hpp"

namespace heed::bench {

/// Layers that keep the same number of tokens.
struct LayerGroup {
  Index num_layers = 0;
  std::optional<Index> window{};  ///< tokens kept; without one, all of them

  friend bool operator==(const LayerGroup&, const LayerGroup&) = default;
};

namespace detail {

enum class LayerKind { full, window, without_cache };

inline LayerKind layer_kind(const Fields& fields, const nlohmann::json& name) {
  if (name == "full_attention") return LayerKind::full;
  if (name == "sliding_attention") return LayerKind::window;
  // A recurrent state does not grow with the context: it is no cache of keys and values.
  for (const auto* recurrent : {"linear_attention", "conv", "mamba", "recurrent"})
    if (name == recurrent) return LayerKind::without_cache;
  fields.fail("layer_types has " + name.dump() + ", which this reader does not know");
}

/// Way 2.
inline std::vector<LayerKind> named_layers(const Fields& fields, const nlohmann::json& names,
                                           Index num_layers) {
  if (!names.is_array() || static_cast<Index>(names.size()) != num_layers)
    fields.fail("layer_types must be a list of " + std::to_string(num_layers) +
                " names, one for each layer");
  std::vector<LayerKind> kinds;
  for (const auto& name : names) kinds.push_back(layer_kind(fields, name));
  return kinds;
}

/// Every `period`-th layer keeps all tokens, the others a window: ways 3 and 4.
inline std::vector<LayerKind> periodic_layers(Index period, Index num_layers) {
  std::vector<LayerKind> kinds;
  for (Index layer = 0; layer < num_layers; ++layer)
    kinds.push_back((layer + 1) % period == 0 ? LayerKind::full : LayerKind::window);
  return kinds;
}

/// Way 3 with letters: L (local) has a window, G (global) keeps all, and so does the last layer.
inline std::vector<LayerKind> lettered_layers(const Fields& fields, const std::string& letters,
                                              Index num_layers) {
  if (letters.empty() || letters.find_first_not_of("LG") != std::string::npos)
    fields.fail("sliding_window_pattern is \"" + letters + "\", expected letters L and G");
  std::vector<LayerKind> kinds;
  for (Index layer = 0; layer < num_layers; ++layer) {
    const char letter = letters[static_cast<std::size_t>(layer) % letters.size()];
    const bool full = letter == 'G' || layer + 1 == num_layers;
    kinds.push_back(full ? LayerKind::full : LayerKind::window);
  }
  return kinds;
}

/// Ways 3 to 5, for a model that has a window.
inline std::vector<LayerKind> patterned_layers(const Fields& fields, const std::string& model_type,
                                               Index num_layers) {
  for (const auto* name : {"sliding_window_pattern", "_sliding_window_pattern"})
    if (const nlohmann::json* pattern = fields.find({name}))
      return pattern->is_string() ? lettered_layers(fields, pattern->get<std::string>(), num_layers)
                                  : periodic_layers(fields.required_count({name}), num_layers);
  if (model_type == "gemma2" || model_type == "gpt_oss") return periodic_layers(2, num_layers);
  if (model_type == "gemma3_text") return periodic_layers(6, num_layers);
  std::vector<LayerKind> kinds(static_cast<std::size_t>(num_layers), LayerKind::window);
  if (const auto first = fields.count({"max_window_layers"}, 0))
    std::fill_n(kinds.begin(), std::min(*first, num_layers), LayerKind::full);
  return kinds;
}

inline std::optional<Index> window_size(const Fields& fields, const std::string& model_type) {
  const bool off_unless_said = model_type.starts_with("qwen");
  if (!fields.flag("use_sliding_window", !off_unless_said)) return std::nullopt;
  const auto window = fields.count({"sliding_window", "sliding_window_size"});
  // Files leave out what equals the class's default.
  if (!window && (model_type == "gemma2" || model_type == "gemma3_text")) return 4096;
  return window;
}

}  // namespace detail

/// The layers that cache keys and values, gathered by window: at most one group without a window
/// and one with. Layers that use another layer's cache (num_kv_shared_layers) are not among them.
inline std::vector<LayerGroup> layer_groups(const Fields& fields, const std::string& model_type,
                                            Index num_layers) {
  using detail::LayerKind;
  const auto window = detail::window_size(fields, model_type);
  std::vector<LayerKind> kinds(static_cast<std::size_t>(num_layers), LayerKind::full);
  if (const nlohmann::json* names = fields.find({"layer_types"}))
    kinds = detail::named_layers(fields, *names, num_layers);
  else if (window)
    kinds = detail::patterned_layers(fields, model_type, num_layers);

  // These are the last layers.
  const Index num_shared = fields.count({"num_kv_shared_layers"}, 0).value_or(0);
  kinds.resize(static_cast<std::size_t>(std::max(num_layers - num_shared, Index{0})));

  const Index num_full = std::count(kinds.begin(), kinds.end(), LayerKind::full);
  const Index num_windowed = std::count(kinds.begin(), kinds.end(), LayerKind::window);
  if (num_windowed > 0 && !window)
    fields.fail("layer_types names windows, but no sliding_window says how wide");
  std::vector<LayerGroup> groups;
  if (num_full > 0) groups.push_back({.num_layers = num_full});
  if (num_windowed > 0) groups.push_back({.num_layers = num_windowed, .window = window});
  if (groups.empty()) fields.fail("no layer caches keys and values");
  return groups;
}

}  // namespace heed::bench
