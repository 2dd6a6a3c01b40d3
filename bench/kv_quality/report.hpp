// SPDX-License-Identifier: MIT
/// \file
/// A table of qualities in Markdown.
#pragma once

#include <cstdio>
#include <string>
#include <variant>

#include "kv_quality/measure.hpp"

namespace heed::bench::quality {
namespace detail {

/// \param format  of printf, for one double
inline std::string formatted(const char* format, double number) {
  char text[64];
  std::snprintf(text, sizeof text, format, number);
  return text;
}

/// Two digits that count; 0 stays plain.
inline std::string error_text(double error) { return error == 0 ? "0" : formatted("%.1e", error); }

}  // namespace detail

/// "32 heads, 8 key/value heads of 128"
inline std::string heads_text(const AttentionShape& shape) {
  if (const auto* latent = std::get_if<LatentShape>(&shape))
    return std::to_string(latent->num_heads) + " heads, latents of " +
           std::to_string(latent->latent_dim) + " + " + std::to_string(latent->rope_dim);
  const auto& grouped = std::get<GroupedShape>(shape);
  return std::to_string(grouped.num_heads) + " heads, " + std::to_string(grouped.num_kv_heads) +
         " key/value heads of " + std::to_string(grouped.head_dim);
}

inline std::string markdown(const Inputs& inputs, const QualityTable& table) {
  std::string text = heads_text(inputs.shape) + "; " + std::to_string(inputs.seqlen()) +
                     " tokens; " + inputs.text + "; entropy " +
                     detail::formatted("%.1f", table.entropy_bits) + " bits\n\n";
  text +=
      "| element | bytes per token | output error | worst row | score error | KL, nats | append, "
      "us a "
      "token | decode, us |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n";
  for (const QualityRow& row : table.rows)
    text += "| " + row.element + " | " + std::to_string(row.bytes_per_token) + " | " +
            detail::error_text(row.errors.out) + " | " + detail::error_text(row.errors.worst_row) +
            " | " + detail::error_text(row.errors.score) + " | " +
            detail::error_text(row.errors.divergence) + " | " +
            detail::formatted("%.2g", 1e6 * row.append_seconds) + " | " +
            detail::formatted("%.0f", 1e6 * row.decode_seconds) + " |\n";
  return text;
}

}  // namespace heed::bench::quality
