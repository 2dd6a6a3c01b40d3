// SPDX-License-Identifier: MIT
/// \file
/// The famous saving of DeepSeek-V2 against DeepSeek-67B, and what each of its two figures counts.
#pragma once

#include "heed/cache/kv_bytes.hpp"

namespace heed::bench {

/// Bytes per token of two whole models.
struct Saving {
  Index dense = 0;   ///< DeepSeek-67B: 95 layers, GQA with 8 groups of 128, in 16 bits
  Index latent = 0;  ///< DeepSeek-V2: 60 layers, MLA with 512 + 64

  constexpr double percent() const {
    return 100 * (1 - static_cast<double>(latent) / static_cast<double>(dense));
  }
};

constexpr Saving deepseek_saving(Index latent_bits) {
  constexpr GroupedShape dense{
      .model_dim = 8192, .num_heads = 64, .num_kv_heads = 8, .head_dim = 128};
  constexpr LatentShape latent{.latent_dim = 512, .rope_dim = 64};
  return {.dense = 95 * kv_bytes_per_token(dense, {.bits = 16}),
          .latent = 60 * kv_bytes_per_token(latent, {.bits = latent_bits})};
}

/// Both at 16 bits an element: 82.2%.
inline constexpr Saving saving_at_equal_bits = deepseek_saving(16);
/// As published, arXiv:2405.04434, abstract and section 3.2.3, where DeepSeek-V2's elements are
/// quantised to 6 bits on average: 93.3%.
inline constexpr Saving saving_as_published = deepseek_saving(6);

}  // namespace heed::bench
