// SPDX-License-Identifier: MIT
/// \file
/// What a cache holds per token: full keys and values, or a latent. Layer 4, public.
#pragma once

#include <string_view>

#include "heed/base/views.hpp"
#include "heed/cache/codec.hpp"
#include "heed/cache/page.hpp"
#include "heed/simd/packet.hpp"
#include "heed/simd/transpose.hpp"

namespace heed {

/// Keys and values of every key/value head: MHA, GQA and MQA. 2 num_kv_heads head_dim elements a
/// token.
///
/// Sizes are template arguments, or run-time fields where those are `dynamic`:
///
///     KvCache<FullKv<8, 128>> cache{8192};
///     KvCache<FullKv<>> cache{8192, {.num_kv_heads = 8, .head_dim = 128, .head_dim_v = 128}};
///
/// A page holds per head the keys transposed, [head_dim, page_size], then the values,
/// [page_size, head_dim_v padded], then the scales of the keys and of the values, if elements have
/// them.
template <Index NumKvHeads = dynamic, Index HeadDim = dynamic, Index HeadDimV = HeadDim>
struct FullKv {
  Index num_kv_heads = NumKvHeads;
  Index head_dim = HeadDim;
  Index head_dim_v = HeadDimV == dynamic ? head_dim : HeadDimV;

  static constexpr KeyLayout key_layout = KeyLayout::transposed;

  Index elements_per_token() const noexcept { return num_kv_heads * (head_dim + head_dim_v); }
  /// Rows of one token that have a scale each, if elements have scales.
  Index rows_per_token() const noexcept { return 2 * num_kv_heads; }
  /// Elements and scales of one page of one head.
  Index page_elements() const noexcept { return page_size * (head_dim + simd::padded(head_dim_v)); }
  static constexpr Index page_scales = 2 * page_size;
  void check(std::string_view where) const {
    detail::require_shape(
        where, "entry [num_kv_heads, head_dim, head_dim_v]", {num_kv_heads, head_dim, head_dim_v},
        {NumKvHeads == dynamic ? num_kv_heads : NumKvHeads, HeadDim == dynamic ? head_dim : HeadDim,
         HeadDimV == dynamic ? head_dim_v : HeadDimV});
    detail::require(num_kv_heads > 0 && head_dim > 0 && head_dim_v > 0, where,
                    "the entry's sizes must be positive; those left dynamic are given at run time");
  }

  template <class Element>
  PageView<Element> view(const Element* page, const float* scales) const noexcept {
    return {.keys = page,
            .key_stride = page_size,
            .values = page + page_size * head_dim,
            .value_stride = simd::padded(head_dim_v),
            .key_scales = scales,
            .value_scales = scales == nullptr ? nullptr : scales + page_size};
  }
  /// Writes tokens from `slot` on: key [count, head_dim], value [count, head_dim_v].
  template <class Element, class T>
  void write(Element* page, float* scales, Index slot, RowsView<const T> key,
             RowsView<const T> value) const {
    Element* const values = page + page_size * head_dim;
    if constexpr (std::is_same_v<Element, T>) simd::transpose(key, page + slot, page_size);
    for (Index r = 0; r < key.rows; ++r) {
      const float key_scale = detail::row_scale<Element>(key.row(r), head_dim);
      const float value_scale = detail::row_scale<Element>(value.row(r), head_dim_v);
      if constexpr (!std::is_same_v<Element, T>)
        detail::encode_row(key.row(r), head_dim, page + slot + r, page_size, key_scale);
      detail::encode_row(value.row(r), head_dim_v, values + (slot + r) * simd::padded(head_dim_v),
                         1, value_scale);
      if constexpr (has_scales<Element>) {
        scales[slot + r] = key_scale;
        scales[page_size + slot + r] = value_scale;
      }
    }
  }
};

/// A latent and a rotated key that all heads share: MLA. latent_dim + rope_dim elements a token.
///
/// A page holds rows [latent | rope | zeros], [page_size, latent_dim + rope_dim padded]: a row is
/// the key, and its first latent_dim elements are the value. It is stored once. Behind them are the
/// rows' scales, if elements have them.
template <Index LatentDim = dynamic, Index RopeDim = dynamic>
struct LatentKv {
  Index latent_dim = LatentDim;
  Index rope_dim = RopeDim;

  static constexpr KeyLayout key_layout = KeyLayout::row_major;
  static constexpr Index num_kv_heads = 1;

  Index row_stride() const noexcept { return simd::padded(latent_dim + rope_dim); }
  Index elements_per_token() const noexcept { return latent_dim + rope_dim; }
  Index rows_per_token() const noexcept { return 1; }
  Index page_elements() const noexcept { return page_size * row_stride(); }
  static constexpr Index page_scales = page_size;
  void check(std::string_view where) const {
    detail::require_shape(
        where, "entry [latent_dim, rope_dim]", {latent_dim, rope_dim},
        {LatentDim == dynamic ? latent_dim : LatentDim, RopeDim == dynamic ? rope_dim : RopeDim});
    detail::require(latent_dim > 0 && rope_dim >= 0, where,
                    "the entry's sizes must be positive; those left dynamic are given at run time");
  }

  template <class Element>
  PageView<Element> view(const Element* page, const float* scales) const noexcept {
    return {.keys = page,
            .key_stride = row_stride(),
            .values = page,
            .value_stride = row_stride(),
            .key_scales = scales,
            .value_scales = scales};
  }
  /// Writes tokens from `slot` on: c_kv [count, latent_dim], k_rope [count, rope_dim].
  template <class Element, class T>
  void write(Element* page, float* scales, Index slot, RowsView<const T> c_kv,
             RowsView<const T> k_rope) const {
    for (Index r = 0; r < c_kv.rows; ++r) {
      Element* const row = page + (slot + r) * row_stride();
      const float scale = std::max(detail::row_scale<Element>(c_kv.row(r), latent_dim),
                                   detail::row_scale<Element>(k_rope.row(r), rope_dim));
      detail::encode_row(c_kv.row(r), latent_dim, row, 1, scale);
      detail::encode_row(k_rope.row(r), rope_dim, row + latent_dim, 1, scale);
      if constexpr (has_scales<Element>) scales[slot + r] = scale;
    }
  }
};

namespace detail {

template <class Entry>
inline constexpr bool is_latent = Entry::key_layout == KeyLayout::row_major;

}  // namespace detail
}  // namespace heed
