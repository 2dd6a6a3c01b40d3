// SPDX-License-Identifier: MIT
/// \file
/// What a cache of either kind gives back.
#pragma once

#include "heed/cache/kv_cache.hpp"

namespace heed::bench {

/// The keys of a head; of latents whole rows, which are the keys and begin with the values.
/// \param out  [seqlen, head_dim], overwritten
template <class Entry, class Stored>
void read_keys(const KvCache<Entry, Stored>& cache, Index kv_head,
               RowsView<ComputeType<Stored>> out) {
  if constexpr (is_latent<Entry>)
    cache.read_latent(out.middle_cols(0, cache.entry().latent_dim),
                      out.middle_cols(cache.entry().latent_dim, cache.entry().rope_dim));
  else
    cache.read_key(kv_head, out);
}

}  // namespace heed::bench
