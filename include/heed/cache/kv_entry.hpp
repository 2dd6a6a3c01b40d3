// SPDX-License-Identifier: MIT
/// \file
/// What a cache holds per token: full keys and values, or a latent. Layer 4, public.
#pragma once

#include <concepts>
#include <string>
#include <string_view>

#include "heed/base/element.hpp"
#include "heed/base/error.hpp"
#include "heed/base/index.hpp"
#include "heed/base/shape.hpp"
#include "heed/cache/page.hpp"

namespace heed {

namespace detail {

/// So that the bytes of a page fit in an Index, and a sum of products of codes in 32 bits.
inline constexpr Index most_entry_size = Index{1} << 17;

/// Throws ShapeError unless a size of an entry is known and such that a cache can have it.
inline void require_entry_size(std::string_view where, std::string_view name, Index size,
                               Index least) {
  require_number(least <= size && size <= most_entry_size, where, name, size,
                 least > 0 ? "a number from 1 to 2^17, given at run time where it is dynamic"
                           : "a number from 0 to 2^17, given at run time where it is dynamic");
}

/// Throws ShapeError unless there is such a key/value head.
inline void require_head(std::string_view where, Index kv_head, Index num_kv_heads) {
  require(0 <= kv_head && kv_head < num_kv_heads, where, [&] {
    return "kv_head is " + std::to_string(kv_head) + ", expected 0 to " +
           std::to_string(num_kv_heads - 1);
  });
}

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
  /// As much of a layer's shape as there is here: what kv_bytes_per_token needs.
  constexpr GroupedShape shape() const noexcept {
    return {.num_kv_heads = num_kv_heads, .head_dim = head_dim, .head_dim_v = head_dim_v};
  }

  /// Throws ShapeError unless every size is known and such that a cache can have it.
  void check(std::string_view where) const {
    detail::require_shape(where, "entry [num_kv_heads, head_dim, head_dim_v]",
                          {num_kv_heads, head_dim, head_dim_v},
                          {fixed_or(NumKvHeads, num_kv_heads), fixed_or(HeadDim, head_dim),
                           fixed_or(HeadDimV, head_dim_v)});
    detail::require_entry_size(where, "entry.num_kv_heads", num_kv_heads, 1);
    detail::require_entry_size(where, "entry.head_dim", head_dim, 1);
    detail::require_entry_size(where, "entry.head_dim_v", head_dim_v, 1);
  }
};

/// A latent and a key turned by RoPE that all heads share: MLA. latent_dim + rope_dim elements a
/// token. A token's row is its key, and the row's first latent_dim elements are its value; it is
/// stored once.
template <Index LatentDim = dynamic, Index RopeDim = dynamic>
struct LatentKv {
  Index latent_dim = LatentDim;
  Index rope_dim = RopeDim;

  static constexpr KeyLayout key_layout = KeyLayout::row_major;
  static constexpr Index num_kv_heads = 1;
  /// Columns of a key, and of the value that it begins with.
  constexpr Index key_width() const noexcept { return latent_dim + rope_dim; }
  constexpr Index value_width() const noexcept { return latent_dim; }
  /// As much of a layer's shape as there is here: what kv_bytes_per_token needs.
  constexpr LatentShape shape() const noexcept {
    return {.latent_dim = latent_dim, .rope_dim = rope_dim};
  }

  /// Throws ShapeError unless every size is known and such that a cache can have it.
  void check(std::string_view where) const {
    detail::require_shape(where, "entry [latent_dim, rope_dim]", {latent_dim, rope_dim},
                          {fixed_or(LatentDim, latent_dim), fixed_or(RopeDim, rope_dim)});
    detail::require_entry_size(where, "entry.latent_dim", latent_dim, 1);
    detail::require_entry_size(where, "entry.rope_dim", rope_dim, 0);
  }
};

/// What the cache of a layer of this shape holds per token.
constexpr FullKv<> kv_entry(const GroupedShape& shape) noexcept {
  return {shape.num_kv_heads, shape.head_dim, shape.head_dim_v};
}
constexpr LatentKv<> kv_entry(const LatentShape& shape) noexcept {
  return {shape.latent_dim, shape.rope_dim};
}

/// Whether an entry is a LatentKv.
template <class Entry>
inline constexpr bool is_latent = Entry::key_layout == KeyLayout::row_major;

namespace detail {

/// The entry, before anything is computed from its sizes. \throws ShapeError as its `check`
template <class Entry>
Entry checked_entry(std::string_view where, const Entry& entry) {
  entry.check(where);
  return entry;
}

}  // namespace detail

/// What a KvCache<Entry, Stored> can be made of. A latent is key and value at once, so its scales
/// are per token: it is stored as int8, int4 or Rotated of these, not as PerChannel.
template <class Entry, class Stored>
concept CanStore = StoredElement<Stored> &&
                   !(is_latent<Entry> && std::same_as<detail::Unwrapped<Stored>, PerChannel<int8>>);

}  // namespace heed
