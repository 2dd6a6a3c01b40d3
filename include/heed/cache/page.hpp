// SPDX-License-Identifier: MIT
/// \file
/// Where keys and values come from: pages of 64 tokens. Layer 4, extension. The one thing that
/// caches and the attention kernel both know.
#pragma once

#include <concepts>

#include "heed/base/index.hpp"
#include "heed/policy/mask.hpp"  // KeyRange

namespace heed {

/// How the keys of a page lie.
enum class KeyLayout {
  transposed,  ///< [head_dim, page_size]: vector lanes are tokens, so scores need no horizontal
               ///< sums
  row_major,   ///< [page_size, head_dim]: for latents, whose rows are key and value at once
};

/// The keys and values of one page, for one key/value head.
///
/// Every row of values, and of row-major keys, may be read up to the next multiple of
/// simd::row_padding; what row-major keys hold there is 0. Tokens beyond the sequence's end may
/// hold any value.
template <class Element>
struct PageView {
  const Element* keys;    ///< [head_dim, key_stride = page_size], or [page_size, key_stride]
  Index key_stride;       ///< elements from one row of `keys` to the next
  const Element* values;  ///< [page_size, head_dim_v]
  Index value_stride;     ///< elements from one token's values to the next
  const float* key_scales = nullptr;    ///< [page_size], what each token's key is multiplied by, if
                                        ///< elements have scales
  const float* value_scales = nullptr;  ///< [page_size], likewise for its values
};

/// What a source may have beside: keys that it no longer holds. They are hidden from every query,
/// and no page that lies within them is asked for.
template <class S>
concept HasDroppedKeys = requires(const S& source) {
  { source.dropped() } noexcept -> std::same_as<KeyRange>;
};

/// A source of pages: a cache, or matrices that are packed on the way. `page` is called from
/// several threads at once. `scratch` has room for page_scratch() elements and belongs to the
/// calling task; the view may point into it. Element is the type stored; what the kernel computes
/// with is its own.
template <class S>
concept PageSource =
    requires(const S& source, Index kv_head, Index page, typename S::Element* scratch) {
      { S::key_layout } -> std::convertible_to<KeyLayout>;
      { source.num_kv_heads() } -> std::same_as<Index>;
      { source.head_dim() } -> std::same_as<Index>;
      { source.head_dim_v() } -> std::same_as<Index>;
      { source.seqlen() } -> std::same_as<Index>;
      { source.page_scratch() } -> std::same_as<Index>;
      { source.page(kv_head, page, scratch) } -> std::same_as<PageView<typename S::Element>>;
    };

}  // namespace heed
