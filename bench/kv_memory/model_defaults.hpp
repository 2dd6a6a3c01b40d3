// SPDX-License-Identifier: MIT
/// \file
/// What files leave out because it equals the default of the model's class.
#pragma once

#include <optional>
#include <string>

#include "heed/base/index.hpp"

namespace heed::bench {

/// Where in a file a model is described. Within another's description transformers leaves out
/// whatever equals the class's default; in a file's own fields it writes what the class adds.
enum class Described { on_top, within_another };

struct ModelDefaults {
  std::optional<Index> num_layers{}, model_dim{}, num_heads{}, num_kv_heads{}, head_dim{}, window{};
};

inline ModelDefaults defaults_of(const std::string& model_type, Described where) {
  if (model_type == "gemma2" || model_type == "gemma3_text")
    return {.num_layers = 26,
            .model_dim = 2304,
            .num_heads = 8,
            .num_kv_heads = 4,
            .head_dim = 256,
            .window = 4096};
  if (model_type == "gpt_oss") return {.num_kv_heads = 8, .head_dim = 64};
  if (where == Described::on_top) return {};
  if (model_type == "llama") return {.num_layers = 32, .model_dim = 4096, .num_heads = 32};
  if (model_type == "mistral")
    return {
        .num_layers = 32, .model_dim = 4096, .num_heads = 32, .num_kv_heads = 8, .window = 4096};
  if (model_type == "qwen2")
    return {.num_layers = 32, .model_dim = 4096, .num_heads = 32, .num_kv_heads = 32};
  if (model_type == "gemma")
    return {
        .num_layers = 28, .model_dim = 3072, .num_heads = 16, .num_kv_heads = 16, .head_dim = 256};
  return {};
}

}  // namespace heed::bench
