// SPDX-License-Identifier: MIT
/// \file
/// What a cache holds per token: full keys and values, or a latent. Layer 4, public.
#pragma once

#include <algorithm>
#include <string_view>

#include "heed/base/error.hpp"
#include "heed/base/index.hpp"
#include "heed/cache/page.hpp"

namespace heed {

namespace detail {
/// So that the bytes of a page fit in an Index.
inline constexpr Index most_entry_size = Index{1} << 24;
}  // namespace detail

/// Keys and values of every key/value head: MHA, GQA and MQA. 2 num_kv_heads head_dim elements a
/// token.
///
/// Sizes are template arguments, or run-time fields where those are `dynamic`:
///
///     KvCache<FullKv<8, 128>> cache{8192};
///     KvCache<FullKv<>> cache{8192, {.num_kv_heads = 8, .head_dim = 128, .head_dim_v = 128}};
template <Index NumKvHeads = dynamic, Index HeadDim = dynamic, Index HeadDimV = HeadDim>
struct FullKv {
  Index num_kv_heads = NumKvHeads;
  Index head_dim = HeadDim;
  Index head_dim_v = fixed_or(HeadDimV, head_dim);

  static constexpr KeyLayout key_layout = KeyLayout::transposed;
  /// Columns of a key and of a value of a head.
  constexpr Index key_width() const noexcept { return head_dim; }
  constexpr Index value_width() const noexcept { return head_dim_v; }

  void check(std::string_view where) const {
    detail::require_shape(where, "entry [num_kv_heads, head_dim, head_dim_v]",
                          {num_kv_heads, head_dim, head_dim_v},
                          {fixed_or(NumKvHeads, num_kv_heads), fixed_or(HeadDim, head_dim),
                           fixed_or(HeadDimV, head_dim_v)});
    detail::require(num_kv_heads > 0 && head_dim > 0 && head_dim_v > 0, where,
                    "the entry's sizes must be positive; those left dynamic are given at run time");
    detail::require(std::max({num_kv_heads, head_dim, head_dim_v}) <= detail::most_entry_size,
                    where, "the entry's sizes must not be above 2^24");
  }
};

/// A latent and a rotated key that all heads share: MLA. latent_dim + rope_dim elements a token. A
/// token's row is its key, and the row's first latent_dim elements are its value; it is stored
/// once.
template <Index LatentDim = dynamic, Index RopeDim = dynamic>
struct LatentKv {
  Index latent_dim = LatentDim;
  Index rope_dim = RopeDim;

  static constexpr KeyLayout key_layout = KeyLayout::row_major;
  static constexpr Index num_kv_heads = 1;
  /// Columns of a key, and of the value that it begins with.
  constexpr Index key_width() const noexcept { return latent_dim + rope_dim; }
  constexpr Index value_width() const noexcept { return latent_dim; }

  void check(std::string_view where) const {
    detail::require_shape(where, "entry [latent_dim, rope_dim]", {latent_dim, rope_dim},
                          {fixed_or(LatentDim, latent_dim), fixed_or(RopeDim, rope_dim)});
    detail::require(latent_dim > 0 && rope_dim >= 0, where,
                    "latent_dim must be positive and rope_dim not negative; those left dynamic are "
                    "given at run time");
    detail::require(std::max(latent_dim, rope_dim) <= detail::most_entry_size, where,
                    "the entry's sizes must not be above 2^24");
  }
};

namespace detail {

template <class Entry>
inline constexpr bool is_latent = Entry::key_layout == KeyLayout::row_major;

}  // namespace detail
}  // namespace heed
