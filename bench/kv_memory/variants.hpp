// SPDX-License-Identifier: MIT
/// \file
/// A model as published, and the same model with each other variant of attention in its place.
///
/// Layers, windows, heads and the width of a head stay. What changes is what a token leaves in the
/// cache:
///
/// | variant | of a model that has it | of another model                                       |
/// | ------- | ---------------------- | ------------------------------------------------------ |
/// | MHA     | as published           | a key/value head for each head                         |
/// | GQA     | its own groups         | 8 groups, or the largest divisor of the heads below 8  |
/// | MQA     | as published           | one key/value head                                     |
/// | MLA     | as published           | as DeepSeek's: latent 4 heads wide, rope half one      |
///
/// The width of a head of an MLA model is its unrotated part, as in the comparison of DeepSeek-V2
/// (arXiv:2405.04434, table 1, where latent_dim = 4 d and rope_dim = d / 2).
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "heed/cache/kv_bytes.hpp"
#include "kv_memory/model_config.hpp"

namespace heed::bench {

enum class Origin { published, converted };

struct Variant {
  std::string kind;  ///< "MHA", "GQA", "MQA" or "MLA"
  AttentionShape shape;
  Origin origin;

  /// "GQA, 8 groups"; "MLA, 512 + 64"
  std::string label() const {
    if (const auto* latent = std::get_if<LatentShape>(&shape))
      return kind + ", " + std::to_string(latent->latent_dim) + " + " +
             std::to_string(latent->rope_dim);
    const Index num_kv_heads = std::get<GroupedShape>(shape).num_kv_heads;
    return kind == "GQA" ? kind + ", " + std::to_string(num_kv_heads) + " groups" : kind;
  }
};

inline Index num_heads(const AttentionShape& shape) {
  return std::visit([](const auto& one) { return one.num_heads; }, shape);
}

inline Index kv_bytes_per_token(const AttentionShape& shape, const KvElement& element) {
  return std::visit([&](const auto& one) { return heed::kv_bytes_per_token(one, element); }, shape);
}

/// The layers of `config` with this attention in each.
inline std::vector<KvLayers> kv_layers(const ModelConfig& config, const AttentionShape& shape,
                                       const KvElement& element) {
  std::vector<KvLayers> model;
  for (const LayerGroup& group : config.layers)
    model.push_back(
        {.num_layers = group.num_layers,
         .bytes_per_token = kv_bytes_per_token(shape, element),
         .window_left = group.window ? std::optional(*group.window - 1) : std::nullopt,
         .bytes_per_sequence = std::visit(
             [&](const auto& one) { return kv_bytes_per_sequence(one, element); }, shape)});
  return model;
}

namespace detail {

/// The published shape, or what comes next to it when every token caches heads.
inline GroupedShape as_grouped(const AttentionShape& shape) {
  if (const auto* grouped = std::get_if<GroupedShape>(&shape)) return *grouped;
  const auto& latent = std::get<LatentShape>(shape);
  return {.model_dim = latent.model_dim,
          .num_heads = latent.num_heads,
          .num_kv_heads = latent.num_heads,
          .head_dim = latent.nope_dim,
          .head_dim_v = latent.head_dim_v};
}

inline LatentShape as_latent(const GroupedShape& shape) {
  return {.model_dim = shape.model_dim,
          .num_heads = shape.num_heads,
          .latent_dim = 4 * shape.head_dim,
          .rope_dim = (shape.head_dim + 3) / 4 * 2,  // half, made even: RoPE turns pairs
          .nope_dim = shape.head_dim,
          .head_dim_v = shape.head_dim_v};
}

/// The largest divisor of `num_heads` up to 8 that leaves groups of two or more heads.
/// A prime number of heads (Falcon-7B has 71) has none.
inline std::optional<Index> usual_num_groups(Index num_heads) {
  for (Index groups = std::min<Index>(8, num_heads / 2); groups > 1; --groups)
    if (num_heads % groups == 0) return groups;
  return std::nullopt;
}

}  // namespace detail

/// MHA, GQA, MQA, MLA: those that a model with so many heads can have.
inline std::vector<Variant> variants_of(const ModelConfig& config) {
  const bool is_latent = std::holds_alternative<LatentShape>(config.attention);
  const GroupedShape published = detail::as_grouped(config.attention);
  std::vector<Variant> variants;
  const auto add_grouped = [&](const char* kind, Index num_kv_heads) {
    GroupedShape shape = published;
    shape.num_kv_heads = num_kv_heads;
    const bool same = !is_latent && shape == published;
    variants.push_back({kind, shape, same ? Origin::published : Origin::converted});
  };

  add_grouped("MHA", published.num_heads);
  const bool is_grouped =
      !is_latent && published.num_kv_heads > 1 && published.num_kv_heads < published.num_heads;
  if (is_grouped)
    add_grouped("GQA", published.num_kv_heads);
  else if (const auto num_groups = detail::usual_num_groups(published.num_heads))
    add_grouped("GQA", *num_groups);
  if (published.num_heads > 1) add_grouped("MQA", 1);
  if (is_latent)
    variants.push_back({"MLA", config.attention, Origin::published});
  else
    variants.push_back({"MLA", detail::as_latent(published), Origin::converted});
  return variants;
}

}  // namespace heed::bench
