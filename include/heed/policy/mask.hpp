// SPDX-License-Identifier: MIT
/// \file
/// Masks: which keys a query may attend. Layer 2, extension. `true` always means *may attend*.
///
/// | mask              | a query at position p sees the keys k with                             |
/// | ----------------- | ---------------------------------------------------------------------- |
/// | NoMask            | all                                                                    |
/// | CausalMask        | k <= p; the last query sees the last key (bottom-right)                |
/// | TopLeftCausalMask | k <= q_row; the first query sees the first key only                    |
/// | SlidingWindowMask | p - window_left <= k <= p + window_right                               |
/// | SinkWindowMask    | k <= p, and k < num_sink_tokens or p - window_left <= k                |
/// | PrefixMask        | k < prefix_len, or k <= p                                              |
/// | PaddingMask       | begin <= k < end                                                       |
/// | DocumentMask      | document of k = document of the query        (mask_element.hpp)        |
/// | DenseMask         | allowed(head, q_row, k)                      (mask_element.hpp)        |
/// | CustomMask        | your lambda (p, k) is true                   (mask_element.hpp)        |
/// | both(a, b, ...)   | every one of them                            (mask_element.hpp)        |
///
/// p is the query's position among the keys: seqlen_kv - seqlen_q + q_row. Through a cache that is
/// the token's index in the sequence, in prefill as in decode.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <limits>
#include <string_view>

#include "heed/base/error.hpp"
#include "heed/base/index.hpp"
#include "heed/base/page_size.hpp"

namespace heed {

/// The keys begin <= kv_row < end.
struct KeyRange {
  Index begin = 0;
  Index end = 0;

  constexpr bool empty() const noexcept { return end <= begin; }
  constexpr Index size() const noexcept { return empty() ? 0 : end - begin; }
  constexpr bool contains(Index kv_row) const noexcept { return begin <= kv_row && kv_row < end; }
  constexpr bool contains(KeyRange other) const noexcept {
    return begin <= other.begin && other.end <= end;
  }

  friend constexpr KeyRange intersection(KeyRange a, KeyRange b) noexcept {
    return {std::max(a.begin, b.begin), std::min(a.end, b.end)};
  }
  /// The least range that both are part of; an empty one adds nothing.
  friend constexpr KeyRange hull(KeyRange a, KeyRange b) noexcept {
    if (b.empty()) return a.empty() ? KeyRange{} : a;
    return a.empty() ? b : KeyRange{std::min(a.begin, b.begin), std::max(a.end, b.end)};
  }
};

/// The lengths a mask is laid over.
struct MaskExtent {
  Index seqlen_q = 0;
  Index seqlen_kv = 0;

  /// Where query row `q_row` stands among the keys. Negative for rows before the first key.
  constexpr Index query_position(Index q_row) const noexcept {
    return seqlen_kv - seqlen_q + q_row;
  }
  /// A distance from a query, cut to what lies between any two tokens: sums with it do not
  /// overflow.
  constexpr Index within(Index distance) const noexcept {
    return std::min(distance, seqlen_q + seqlen_kv);
  }
};

/// The simple form of a mask: the keys a row sees are contiguous, and the same for all heads. The
/// result may reach beyond the keys there are; it is cut to them. It may have a `check` as PageMask
/// has, one function that is no template. Masks of either form are asked by several threads at
/// once; what they throw, `attend` throws.
template <class M>
concept RangeMask = requires(const M& mask, Index q_row, const MaskExtent& extent) {
  { mask.visible(q_row, extent) } -> std::same_as<KeyRange>;
};

/// The general form of a mask, a page at a time:
///
///     range(q_row, extent)    outside of it the row sees nothing, so that pages are skipped
///     bits(head, q_row, page_begin, extent)
///                             bit i: the row sees key page_begin + i; bits of keys outside the
///                             range, or beyond the last key, are ignored
///     varies_by_head()        false if one row of bits serves all heads
///     check(where, num_heads, extent)
///                             throws ShapeError if the mask's data do not fit
template <class M>
concept PageMask = requires(const M& mask, Index head, Index row, const MaskExtent& extent) {
  { mask.range(row, extent) } -> std::same_as<KeyRange>;
  { mask.bits(head, row, Index{}, extent) } -> std::same_as<std::uint64_t>;
  { mask.varies_by_head() } -> std::same_as<bool>;
  mask.check("where", head, extent);
};

namespace detail {

/// Whether a mask has a part of a PageMask.
template <class M>
concept NamesPageMask = requires { &M::bits; } || requires { &M::range; };

}  // namespace detail

/// What `attend` and the layers take as a mask. With parts of both forms, as a PageMask derived
/// from CausalMask has, it is none: some would not be asked.
template <class M>
concept MaskPolicy = (RangeMask<M> && !detail::NamesPageMask<M>) || (PageMask<M> && !RangeMask<M>);

namespace detail {

/// The keys of a page.
constexpr KeyRange page_keys(Index page) noexcept {
  return {page * page_size, (page + 1) * page_size};
}

/// Bits of the keys of the page at `page_begin` that lie in `range`.
constexpr std::uint64_t range_bits(KeyRange range, Index page_begin) noexcept {
  const Index begin = std::clamp<Index>(range.begin - page_begin, 0, page_size);
  const Index end = std::clamp<Index>(range.end - page_begin, 0, page_size);
  if (end <= begin) return 0;
  const std::uint64_t from_begin = ~std::uint64_t{0} << begin;
  return end == page_size ? from_begin : from_begin & ~(~std::uint64_t{0} << end);
}

}  // namespace detail

/// Every query sees every key: encoders and cross-attention.
struct NoMask {
  KeyRange visible(Index, const MaskExtent& extent) const noexcept { return {0, extent.seqlen_kv}; }
};

/// The last query sees the last key. With seqlen_q = 2 and seqlen_kv = 4 (1 = visible):
///     1 1 1 0
///     1 1 1 1
struct CausalMask {
  KeyRange visible(Index q_row, const MaskExtent& extent) const noexcept {
    return {0, extent.query_position(q_row) + 1};
  }
};

/// The first query sees the first key only. With seqlen_q = 2 and seqlen_kv = 4:
///     1 0 0 0
///     1 1 0 0
/// The same as CausalMask where both lengths are equal. It is not what a decode step means: there
/// the only query would see only the first key.
struct TopLeftCausalMask {
  KeyRange visible(Index q_row, const MaskExtent&) const noexcept { return {0, q_row + 1}; }
};

/// A query sees `window_left` keys before its own, its own, and `window_right` after it: causal
/// unless `window_right` is given. With window_left = 1 and seqlen_q = seqlen_kv = 4:
///     1 0 0 0
///     1 1 0 0
///     0 1 1 0
///     0 0 1 1
/// Source: Mistral 7B 2023, arXiv:2310.06825, whose config's `sliding_window` counts the query's
/// own key: window_left = sliding_window - 1.
struct SlidingWindowMask {
  Index window_left = -1;  ///< required: keys before the query's own that stay visible
  Index window_right = 0;  ///< keys after the query's own that are visible too

  KeyRange visible(Index q_row, const MaskExtent& extent) const noexcept {
    const Index position = extent.query_position(q_row);
    return {position - extent.within(window_left), position + extent.within(window_right) + 1};
  }
  void check(std::string_view where, Index, const MaskExtent&) const {
    detail::require_number(window_left >= 0, where, "SlidingWindowMask::window_left", window_left,
                           "0 or more; a layer without a window takes CausalMask");
    detail::require_number(window_right >= 0, where, "SlidingWindowMask::window_right",
                           window_right, "0 or more");
  }
};

/// A window and the first tokens, without which a model that was trained to see them all breaks
/// down. With num_sink_tokens = 1, window_left = 1 and seqlen_q = seqlen_kv = 4:
///     1 0 0 0
///     1 1 0 0
///     1 1 1 0
///     1 0 1 1
/// Source: Xiao et al. 2023 (StreamingLLM), arXiv:2309.17453, section 3.
struct SinkWindowMask {
  Index num_sink_tokens = -1;  ///< required: first keys, which stay visible
  Index window_left = -1;      ///< required: keys before the query's own that stay visible

  KeyRange range(Index q_row, const MaskExtent& extent) const noexcept {
    return {0, extent.query_position(q_row) + 1};
  }
  std::uint64_t bits(Index, Index q_row, Index page_begin,
                     const MaskExtent& extent) const noexcept {
    const Index position = extent.query_position(q_row);
    return detail::range_bits({0, num_sink_tokens}, page_begin) |
           detail::range_bits({position - extent.within(window_left), position + 1}, page_begin);
  }
  bool varies_by_head() const noexcept { return false; }
  void check(std::string_view where, Index, const MaskExtent&) const {
    detail::require_number(num_sink_tokens >= 0, where, "SinkWindowMask::num_sink_tokens",
                           num_sink_tokens, "0 or more");
    detail::require_number(window_left >= 0, where, "SinkWindowMask::window_left", window_left,
                           "0 or more");
  }
};

/// A prefix that all see, causal after it. With prefix_len = 2 and seqlen_q = seqlen_kv = 4:
///     1 1 0 0
///     1 1 0 0
///     1 1 1 0
///     1 1 1 1
/// Source: Raffel et al. 2020 (T5), arXiv:1910.10683, section 3.2.1.
struct PrefixMask {
  Index prefix_len = -1;  ///< required: keys that all queries see

  KeyRange visible(Index q_row, const MaskExtent& extent) const noexcept {
    return {0, std::max(prefix_len, extent.query_position(q_row) + 1)};
  }
  void check(std::string_view where, Index, const MaskExtent&) const {
    detail::require_number(prefix_len >= 0, where, "PrefixMask::prefix_len", prefix_len,
                           "0 or more");
  }
};

/// One sequence of a padded batch: real keys are begin <= k < end. Left padding has begin > 0,
/// right padding end < seqlen_kv. Not causal: both(CausalMask{}, PaddingMask{...}) is.
struct PaddingMask {
  Index begin = 0;                                ///< the first real key
  Index end = std::numeric_limits<Index>::max();  ///< behind the last one

  KeyRange visible(Index, const MaskExtent&) const noexcept { return {begin, end}; }
};

namespace detail {

/// The row's range, both ends cut to the keys there are.
template <class Mask>
KeyRange mask_range(const Mask& mask, Index q_row, const MaskExtent& extent) {
  const auto cut = [&](KeyRange range) {
    return KeyRange{std::clamp<Index>(range.begin, 0, extent.seqlen_kv),
                    std::clamp<Index>(range.end, 0, extent.seqlen_kv)};
  };
  if constexpr (RangeMask<Mask>)
    return cut(mask.visible(q_row, extent));
  else
    return cut(mask.range(q_row, extent));
}

/// Exactly the keys of a page that the row sees.
template <class Mask>
std::uint64_t mask_bits(const Mask& mask, Index head, Index q_row, Index page_begin,
                        const MaskExtent& extent) {
  const std::uint64_t in_range = range_bits(mask_range(mask, q_row, extent), page_begin);
  if constexpr (RangeMask<Mask>)
    return in_range;
  else
    return in_range == 0 ? 0 : in_range & mask.bits(head, q_row, page_begin, extent);
}

/// Throws ShapeError if the mask cannot be laid over such queries and keys.
template <class Mask>
void check_mask(std::string_view where, const Mask& mask, Index num_heads,
                const MaskExtent& extent) {
  constexpr bool has_check = requires { mask.check(where, num_heads, extent); };
  static_assert(
      has_check || !requires { &Mask::check; },
      "heed: a mask's check must be `void check(std::string_view where, Index num_heads, "
      "const MaskExtent& extent) const`.");
  if constexpr (has_check) mask.check(where, num_heads, extent);
}

template <class Mask>
bool varies_by_head(const Mask& mask) {
  if constexpr (RangeMask<Mask>)
    return false;
  else
    return mask.varies_by_head();
}

}  // namespace detail
}  // namespace heed
