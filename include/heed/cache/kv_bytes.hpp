// SPDX-License-Identifier: MIT
/// \file
/// How many bytes a cache of keys and values takes: formulas to size a machine with. Layer 4,
/// public.
///
/// What one token costs in one layer, at b bytes an element:
///
///     MHA   2 num_heads head_dim b         GQA   2 num_kv_heads head_dim b
///     MQA   2 head_dim b                   MLA   (latent_dim + rope_dim) b
///
/// A whole model is a list of groups of layers that cache alike. Llama-3-8B in 16 bits, and how
/// many conversations of 8192 tokens fit in 24 GiB beside the weights:
///
///     constexpr heed::GroupedShape shape{
///         .model_dim = 4096, .num_heads = 32, .num_kv_heads = 8, .head_dim = 128};
///     constexpr heed::KvLayers model[] = {
///         {.num_layers = 32, .bytes_per_token = heed::kv_bytes_per_token(shape, {.bits = 16})}};
///     static_assert(heed::kv_bytes_per_token(model) == 131072);
///     static_assert(heed::sequences_that_fit(model, 8192, heed::Index{24} << 30) == 24);
#pragma once

#include <algorithm>
#include <optional>
#include <span>
#include <string_view>

#include "heed/base/element.hpp"
#include "heed/base/error.hpp"
#include "heed/base/index.hpp"
#include "heed/base/page_size.hpp"
#include "heed/base/shape.hpp"

namespace heed {

/// How the elements of a cache are stored. A row is what one token adds to one matrix: a head's
/// key, a head's value, or a latent.
struct KvElement {
  Index bits = 16;                ///< of one element
  Index scale_bytes_per_row = 0;  ///< the scales of a quantised row; float types have none
  /// The scales of a channel of keys in a page, where they take the place of their rows' scales.
  std::optional<Index> scale_bytes_per_channel{};
  std::optional<Index> rope_bits{};  ///< of the rope part of a latent, if it is stored apart
  /// Pages of float that a KvCache has beside those it stores: of all heads, where keys have scales
  /// per channel, which are known once a page is whole; of one head, for rows on their way through
  /// the Walsh-Hadamard transform.
  Index open_pages = 0, rotated_pages = 0;

  /// Bytes of a row of `width` elements; a last byte that is not full counts whole.
  constexpr Index row_bytes(Index width) const {
    return ceil_div(width * bits, 8) + scale_bytes_per_row;
  }
  /// The same of a key of a head.
  constexpr Index key_bytes(Index width) const {
    if (!scale_bytes_per_channel) return row_bytes(width);
    return ceil_div(width * bits, 8) + ceil_div(width * *scale_bytes_per_channel, page_size);
  }

  friend constexpr bool operator==(const KvElement&, const KvElement&) = default;
};

/// How a KvCache stores elements of a type: kv_element<float>, kv_element<bf16>, kv_element<int4>.
template <StoredElement E>
inline constexpr KvElement kv_element{
    .bits = element_bits<E>,
    .scale_bytes_per_row = has_scales<E> ? 4 : 0,
    .scale_bytes_per_channel = keys_per_channel<E> ? std::optional<Index>(4) : std::nullopt,
    .rope_bits = has_scales<E> ? std::optional<Index>(16) : std::nullopt,
    .open_pages = keys_per_channel<E> ? 2 : 0,
    .rotated_pages = is_rotated<E> ? 1 : 0};

namespace detail {

/// Throws ShapeError, or does not compile, where a formula lacks a size.
constexpr void require_known(std::string_view name, Index size) {
  if (size < 0) require_number(false, "kv_bytes_per_token", name, size, "a size that is known");
}

}  // namespace detail

/// Bytes that one token takes in one layer of MHA, GQA or MQA: a key and a value per key/value
/// head. Every field of the shape but model_dim and num_heads must be known.
///
/// \throws ShapeError if one is not; in a constant expression this does not compile.
/// Source: Shazeer 2019, arXiv:1911.02150, section 3; Ainslie et al. 2023, arXiv:2305.13245.
[[nodiscard]] constexpr Index kv_bytes_per_token(const GroupedShape& shape,
                                                 const KvElement& element) {
  detail::require_known("num_kv_heads", shape.num_kv_heads);
  detail::require_known("head_dim", shape.head_dim);
  detail::require_known("head_dim_v", shape.head_dim_v);
  return shape.num_kv_heads *
         (element.key_bytes(shape.head_dim) + element.row_bytes(shape.head_dim_v));
}

/// Bytes that one token takes in one layer of MLA: the latent and the rope key that all heads
/// share, in one row. latent_dim and rope_dim must be known.
///
/// \throws ShapeError as above.
/// Source: DeepSeek-V2 2024, arXiv:2405.04434, section 2.1.4 and table 1.
[[nodiscard]] constexpr Index kv_bytes_per_token(const LatentShape& shape,
                                                 const KvElement& element) {
  detail::require_known("latent_dim", shape.latent_dim);
  detail::require_known("rope_dim", shape.rope_dim);
  if (!element.rope_bits) return element.row_bytes(shape.latent_dim + shape.rope_dim);
  return element.row_bytes(shape.latent_dim) + ceil_div(shape.rope_dim * *element.rope_bits, 8);
}

/// Bytes that one token takes in one layer of MLA if the keys and values made from the latent are
/// cached in its place, as implementations do that treat MLA as MHA: more than MHA itself, since
/// each head's key carries its own copy of the rope part. \throws ShapeError as above.
[[nodiscard]] constexpr Index expanded_kv_bytes_per_token(const LatentShape& shape,
                                                          const KvElement& element) {
  detail::require_known("num_heads", shape.num_heads);
  detail::require_known("nope_dim", shape.nope_dim);
  detail::require_known("rope_dim", shape.rope_dim);
  return kv_bytes_per_token(GroupedShape{.num_kv_heads = shape.num_heads,
                                         .head_dim = shape.head_dim(),
                                         .head_dim_v = shape.head_dim_v},
                            element);
}

/// Bytes that a KvCache takes in one layer beside its pages, however many tokens it holds: none,
/// but where scales are per channel or rows are rotated. Sizes and \throws as above.
[[nodiscard]] constexpr Index kv_bytes_per_sequence(const GroupedShape& shape,
                                                    const KvElement& element) {
  const Index token = kv_bytes_per_token(shape, kv_element<float>);
  const Index head = token / std::max<Index>(shape.num_kv_heads, 1);
  return page_size * (element.open_pages * token + element.rotated_pages * head);
}
[[nodiscard]] constexpr Index kv_bytes_per_sequence(const LatentShape& shape,
                                                    const KvElement& element) {
  detail::require_known("latent_dim", shape.latent_dim);
  return page_size * element.rotated_pages * kv_element<float>.row_bytes(shape.latent_dim);
}

/// `tokens` rounded up to whole pages.
[[nodiscard]] constexpr Index round_up_to_pages(Index tokens) {
  return page_count(tokens) * page_size;
}

/// Layers of a model that cache alike. A model with windows on some of its layers is a list of two.
struct KvLayers {
  Index num_layers = 1;
  Index bytes_per_token = 0;           ///< of one layer, from kv_bytes_per_token
  std::optional<Index> window_left{};  ///< as in CacheWindow; without one, all tokens stay
  Index bytes_per_sequence = 0;        ///< of one layer, from kv_bytes_per_sequence

  /// Tokens that each of the layers holds when the sequence is `context` tokens long.
  constexpr Index tokens_held(Index context) const {
    return window_left ? std::min(context, *window_left + 1) : context;
  }
  /// The same of a KvCache, which holds whole pages and, with a CacheWindow, one page behind the
  /// first token that the last one sees.
  constexpr Index tokens_in_pages(Index context) const {
    const Index unseen = context - tokens_held(context);
    return round_up_to_pages(context) - std::max<Index>(0, unseen / page_size - 1) * page_size;
  }
};

/// Bytes that the next token adds to a whole model while every window still has room.
[[nodiscard]] constexpr Index kv_bytes_per_token(std::span<const KvLayers> model) {
  Index bytes = 0;
  for (const KvLayers& layers : model) bytes += layers.num_layers * layers.bytes_per_token;
  return bytes;
}

/// Bytes that a sequence of `context` tokens takes in a whole model, without page rounding.
[[nodiscard]] constexpr Index kv_bytes(std::span<const KvLayers> model, Index context) {
  Index bytes = 0;
  for (const KvLayers& layers : model)
    bytes += layers.num_layers * layers.bytes_per_token * layers.tokens_held(context);
  return bytes;
}

/// The same in whole pages, and what is beside them, as a KvCache holds it after a token by itself,
/// with no sinks: with a CacheWindow if the layers have a window, and then from a PagePool, as
/// memory of its own is there for all of its capacity. Of widths that are padded, no multiples of
/// 16 or of 32, a KvCache holds more, as KvCache::bytes says.
[[nodiscard]] constexpr Index kv_bytes_in_pages(std::span<const KvLayers> model, Index context) {
  Index bytes = 0;
  for (const KvLayers& layers : model)
    bytes += layers.num_layers *
             (layers.bytes_per_token * layers.tokens_in_pages(context) + layers.bytes_per_sequence);
  return bytes;
}

/// How many sequences of `context` tokens fit in `memory` bytes, each of kv_bytes_in_pages.
/// \throws ShapeError if a sequence takes nothing, so that any number would fit.
[[nodiscard]] constexpr Index sequences_that_fit(std::span<const KvLayers> model, Index context,
                                                 Index memory) {
  const Index bytes = kv_bytes_in_pages(model, context);
  if (bytes <= 0)
    detail::require_number(false, "sequences_that_fit", "bytes of a sequence", bytes,
                           "more than none: a context of some tokens, and layers that cache");
  return memory / bytes;
}

}  // namespace heed
