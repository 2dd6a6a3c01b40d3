// SPDX-License-Identifier: MIT
/// \file
/// Where keys and values come from: pages of 64 tokens. Layer 4, extension. The one thing that
/// caches and the attention kernel both know.
#pragma once

#include <concepts>

#include "heed/base/element.hpp"
#include "heed/base/index.hpp"
#include "heed/base/page_size.hpp"
#include "heed/base/views.hpp"
#include "heed/policy/mask.hpp"  // KeyRange
#include "heed/simd/factors.hpp"
#include "heed/simd/split_code.hpp"

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
/// simd::row_padding; what row-major keys hold there is 0, of int4 any code. Tokens beyond the
/// sequence's end may hold any value, but scales of all 64 tokens are finite, and those of values
/// not negative.
///
/// Elements that are int8 or int4 are codes, of which a key has at most 2^17. What they stand for
/// is told by scales, of which keys have either those of tokens or those of channels, in all pages
/// of a source the same:
///
///     key [token, c]    = code * key_scales[token], or
///                         code * channel_scales[c] + channel_offsets[c]
///     value [token, c]  = code * value_scales[token]
///
/// Row-major keys of codes are the latents alone, head_dim_v wide; the rest of a key is in
/// rope_keys.
///
/// int4 comes unpacked to int8, unless products take it as it lies (simd::takes_nibbles): an
/// element is then that of two rows, 2 r and 2 r + 1, and `keys` and `values` have half as many
/// rows (rounded up), which value_strip counts; scales are as ever.
template <class Element>
struct PageView {
  const Element* keys;    ///< [head_dim, key_stride = page_size], or [page_size, key_stride]
  Index key_stride;       ///< elements from one row of `keys` to the next
  const Element* values;  ///< [page_size, head_dim_v]
  Index value_stride;     ///< elements from one token's values to the next
  Index value_strip =
      strip_width;  ///< from one strip of columns of values to the next (StripsView)
  const float* key_scales = nullptr;      ///< [page_size]
  const bf16* channel_scales = nullptr;   ///< [head_dim]
  const bf16* channel_offsets = nullptr;  ///< [head_dim]
  const float* value_scales = nullptr;    ///< [page_size]
  const bf16* rope_keys = nullptr;        ///< [page_size, rope_stride], zeros behind the rope_dim
  Index rope_stride = 0;

  /// The values' columns [0, cols) of tokens [0, tokens).
  StripsView<const Element> value_rows(Index tokens, Index cols) const noexcept {
    return {values, ceil_div(tokens, rows_per_element<Element>), cols, value_stride, value_strip};
  }
};

// What a source may have beside the members of PageSource. One that is declared otherwise does not
// compile; without it:
//
//   dropped()                  it holds all of its keys
//   page_address(page)         its pages are nobody else's
//   open_page_index(), open_page(kv_head)
//                              all of its pages are of its elements
//   packed_page(kv_head, page) pages lie in memory as `page` gives them
//   page_in_rows(kv_head, page, scratch)
//                              `page` is asked for, whatever the number of query rows
//   row_rotation               RowRotation::none
//   products                   Products::exact

/// The keys that the source no longer holds. They are hidden from every query, and no page that
/// lies within them is asked for.
template <class S>
concept HasDroppedKeys = requires(const S& source) {
  { source.dropped() } noexcept -> std::same_as<KeyRange>;
};

/// An address that stands for a page, of all heads. Two sources that return the same one for a page
/// of the same index must hold the same keys and values there; attend_batch then reads it once for
/// both, from the one that holds more tokens.
template <class S>
concept HasPageAddresses = requires(const S& source, Index page) {
  { source.page_address(page) } noexcept -> std::same_as<const void*>;
};

/// The page that is still being filled, kept in the compute type. `page` and `packed_page` are not
/// asked for it.
template <class S>
concept HasOpenPage = requires(const S& source, Index kv_head) {
  { source.open_page_index() } noexcept -> std::same_as<Index>;
  {
    source.open_page(kv_head)
  } noexcept -> std::same_as<PageView<ComputeType<typename S::Element>>>;
};

/// Where what a page is unpacked from begins, which is then fetched ahead of time.
template <class S>
concept HasPackedPages = requires(const S& source, Index kv_head, Index page) {
  { source.packed_page(kv_head, page) } noexcept -> std::same_as<const typename S::Element*>;
};

/// The page with its keys in rows, [tokens, head_dim], as many as the source has there: of float or
/// double, which `page` transposes. Nothing behind a row's head_dim elements is read. It is asked
/// for in place of `page`, with the same scratch, by tiles of few query rows for whose head_dim
/// there is a simd::row_product, which takes less time than to transpose.
template <class S>
concept HasPagesInRows =
    S::key_layout == KeyLayout::transposed && std::floating_point<typename S::Element> &&
    requires(const S& source, Index kv_head, Index page, typename S::Element* scratch) {
      {
        source.page_in_rows(kv_head, page, scratch)
      } -> std::same_as<PageView<typename S::Element>>;
    };

/// `static constexpr RowRotation row_rotation`: what keys and values were multiplied by.
enum class RowRotation {
  none,
  walsh_hadamard,  ///< keys of a transposed page and values each as a row, of a latent the latent
};

/// `static constexpr Products products`: how exactly the kernel multiplies the elements.
enum class Products {
  exact,   ///< as exactly as if they were widened to float, or to double
  native,  ///< queries and probabilities are rounded to bf16, or to codes of 16 bits: element.hpp
};

/// `static constexpr KeyScales key_scales`: what the codes of keys are multiplied by. A source
/// whose elements have scales must say it. Latents have theirs per token.
enum class KeyScales { per_token, per_channel };
template <class S>
concept HasKeyScales = requires {
  requires S::key_scales == KeyScales::per_token || S::key_scales == KeyScales::per_channel;
};

/// Whether the target multiplies what is stored as E as it is. Without such products elements are
/// widened, and Native<E> takes no less time than E.
template <class E>
inline constexpr bool has_native_products =
    has_scales<E>
        ? !std::same_as<simd::CodeFactor<simd::native_codes, int8>, float>
        : std::same_as<detail::Unwrapped<E>, bf16> && !std::same_as<simd::RoundedFactor, float>;

/// A source of pages: a cache, or matrices that are packed on the way. `page` is called from
/// several threads at once, and what it throws, `attend` throws. `scratch` has room for
/// page_scratch() elements and belongs to the calling task; the view may point into it. Where
/// page_scratch() is 0, pages that no row sees may be asked for as well, to fetch them ahead.
/// Element is what the kernel loads; what it computes in is ComputeType<Element>.
template <class S>
concept PageSource =
    (!has_scales<typename S::Element> || HasKeyScales<S>) &&
    requires(const S& source, Index kv_head, Index page, typename S::Element* scratch) {
      { S::key_layout } -> std::convertible_to<KeyLayout>;
      { source.num_kv_heads() } -> std::same_as<Index>;
      { source.head_dim() } -> std::same_as<Index>;
      { source.head_dim_v() } -> std::same_as<Index>;
      { source.seqlen() } -> std::same_as<Index>;
      { source.page_scratch() } -> std::same_as<Index>;
      { source.page(kv_head, page, scratch) } -> std::same_as<PageView<typename S::Element>>;
    };

namespace detail {

template <class S>
concept IsRotated = requires { requires S::row_rotation == RowRotation::walsh_hadamard; };

template <class S>
concept IsNative = requires { requires S::products == Products::native; };

template <class S>
concept HasChannelScales =
    has_scales<typename S::Element> && S::key_scales == KeyScales::per_channel;

// Whether a source has a member of that name which could be meant: the only one, or one that can be
// called as heed would.
template <class S>
concept NamesDropped = requires { &S::dropped; } || requires(const S& source) { source.dropped(); };
template <class S>
concept NamesPageAddress =
    requires { &S::page_address; } || requires(const S& source) { source.page_address(Index{}); };
template <class S>
concept NamesOpenPage = requires { &S::open_page_index; } || requires { &S::open_page; } ||
                        requires(const S& source) { source.open_page_index(); } ||
                        requires(const S& source) { source.open_page(Index{}); };
template <class S>
concept NamesPackedPage = requires { &S::packed_page; } ||
                          requires(const S& source) { source.packed_page(Index{}, Index{}); };

template <class S>
concept NamesPageInRows =
    requires { &S::page_in_rows; } || requires(const S& source, typename S::Element* scratch) {
      source.page_in_rows(Index{}, Index{}, scratch);
    };

/// Refuses a source with a public member that is named like one of the above and is none, as a
/// `dropped` that may throw: it would be taken for one that has no such member.
template <class S>
constexpr void check_optional_members() {
  static_assert(HasDroppedKeys<S> || !NamesDropped<S>,
                "heed: a source's dropped must be `KeyRange dropped() const noexcept`.");
  static_assert(HasPageAddresses<S> || !NamesPageAddress<S>,
                "heed: a source's page_address must be `const void* page_address(Index page) const "
                "noexcept`.");
  static_assert(HasOpenPage<S> || !NamesOpenPage<S>,
                "heed: a source's open page must be `Index open_page_index() const noexcept` and "
                "`PageView<ComputeType<Element>> open_page(Index kv_head) const noexcept`.");
  static_assert(HasPackedPages<S> || !NamesPackedPage<S>,
                "heed: a source's packed_page must be `const Element* packed_page(Index kv_head, "
                "Index page) const noexcept`.");
  static_assert(HasPagesInRows<S> || !NamesPageInRows<S>,
                "heed: a source's page_in_rows must be `PageView<Element> page_in_rows(Index "
                "kv_head, Index page, Element* scratch) const`, of float or double, beside pages "
                "of transposed keys.");
  if constexpr (requires { S::row_rotation; })
    static_assert(std::same_as<decltype(S::row_rotation), const RowRotation>,
                  "heed: a source's row_rotation must be a `static constexpr RowRotation`.");
  if constexpr (requires { S::products; })
    static_assert(std::same_as<decltype(S::products), const Products>,
                  "heed: a source's products must be a `static constexpr Products`.");
  static_assert(S::key_layout == KeyLayout::transposed || !HasChannelScales<S>,
                "heed: keys that have scales per channel must be transposed.");
}

/// Whether keys come in two pieces, the latent and the rope part.
template <class S>
inline constexpr bool has_rope_apart =
    S::key_layout == KeyLayout::row_major && has_scales<typename S::Element>;

}  // namespace detail
}  // namespace heed
