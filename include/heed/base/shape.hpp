// SPDX-License-Identifier: MIT
/// \file
/// The shapes of the attention variants, as template arguments with named fields. Layer 0, public.
#pragma once

#include "heed/base/index.hpp"

namespace heed {

/// The shape of grouped-query attention, and so of MHA (num_kv_heads = num_heads) and MQA
/// (num_kv_heads = 1). Any field may stay `dynamic`; the layer then takes it at run time.
///
/// Source: Ainslie et al. 2023, arXiv:2305.13245; Shazeer 2019, arXiv:1911.02150.
struct GroupedShape {
  Index model_dim = dynamic;     ///< width of the layer's input and output
  Index num_heads = dynamic;     ///< query heads
  Index num_kv_heads = dynamic;  ///< key/value heads; divides num_heads
  Index head_dim = dynamic;      ///< width of a query and key head
  Index head_dim_v = head_dim;   ///< width of a value head; as head_dim unless said

  friend constexpr bool operator==(const GroupedShape&, const GroupedShape&) = default;
};

/// The shape of multi-head attention: one key/value head per query head.
/// Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2.
constexpr GroupedShape multi_head(Index model_dim, Index num_heads, Index head_dim) {
  return {.model_dim = model_dim,
          .num_heads = num_heads,
          .num_kv_heads = num_heads,
          .head_dim = head_dim};
}

/// The shape of multi-query attention: one key/value head for all query heads.
/// Source: Shazeer 2019, arXiv:1911.02150.
constexpr GroupedShape multi_query(Index model_dim, Index num_heads, Index head_dim) {
  return {.model_dim = model_dim, .num_heads = num_heads, .num_kv_heads = 1, .head_dim = head_dim};
}

/// The query projection goes straight from the model width to the heads.
inline constexpr Index no_query_latent = 0;

/// The shape of multi-head latent attention. Any field may be `dynamic`, which all are at first but
/// query_latent_dim: it is 0 unless set.
///
/// A query and key head is [nope_dim | rope_dim] wide, a value head head_dim_v. Per token the cache
/// holds [latent_dim | rope_dim]. Names as DeepSeek's config files have them: kv_lora_rank,
/// qk_rope_head_dim, qk_nope_head_dim, v_head_dim, q_lora_rank.
///
/// Source: DeepSeek-V2 2024, arXiv:2405.04434, section 2.1.
struct LatentShape {
  Index model_dim = dynamic;                 ///< width of the layer's input and output
  Index num_heads = dynamic;                 ///< query heads
  Index latent_dim = dynamic;                ///< width of c_KV
  Index rope_dim = dynamic;                  ///< rotated width of a head, and of the shared key
  Index nope_dim = dynamic;                  ///< unrotated width of a query and key head
  Index head_dim_v = dynamic;                ///< width of a value head
  Index query_latent_dim = no_query_latent;  ///< width of c_Q, or no_query_latent

  friend constexpr bool operator==(const LatentShape&, const LatentShape&) = default;

  /// Width of a query and key head; meaningful when both parts are known.
  constexpr Index head_dim() const noexcept { return nope_dim + rope_dim; }
  /// Columns of a head that come up from the latent: its key without the rope part, its value.
  constexpr Index up_width() const noexcept { return nope_dim + head_dim_v; }
};

}  // namespace heed
