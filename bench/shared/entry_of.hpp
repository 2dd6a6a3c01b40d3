// SPDX-License-Identifier: MIT
/// \file
/// What a cache of a layer's shape stores of a token.
#pragma once

#include "heed/base/shape.hpp"
#include "heed/cache/kv_entry.hpp"

namespace heed::bench {

inline FullKv<> entry_of(const GroupedShape& shape) {
  return {.num_kv_heads = shape.num_kv_heads,
          .head_dim = shape.head_dim,
          .head_dim_v = shape.head_dim_v};
}
inline LatentKv<> entry_of(const LatentShape& shape) {
  return {.latent_dim = shape.latent_dim, .rope_dim = shape.rope_dim};
}

}  // namespace heed::bench
