// SPDX-License-Identifier: MIT
/// \file
/// Masks that decide key by key, and the conjunction of masks. Layer 2, public.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <span>
#include <string_view>
#include <tuple>
#include <utility>

#include "heed/base/views.hpp"
#include "heed/policy/mask.hpp"

namespace heed {
namespace detail {

/// One bit per key of a page, from a predicate on the key's index.
template <class Visible>
std::uint64_t gather_bits(Index page_begin, Index seqlen_kv, const Visible& visible) {
  std::uint64_t bits = 0;
  const Index count = std::min(page_size, seqlen_kv - page_begin);
  for (Index i = 0; i < count; ++i) bits |= std::uint64_t{visible(page_begin + i)} << i;
  return bits;
}

}  // namespace detail

/// Packed sequences: a query sees the keys of its own document, wherever they stand. The ids must
/// outlive it. With documents 7 7 8 of queries and of keys:
///     1 1 0
///     1 1 0
///     0 0 1
struct DocumentMask {
  std::span<const int> query_documents;  ///< [seqlen_q]: ids, compared for equality
  std::span<const int> key_documents;    ///< [seqlen_kv]

  KeyRange range(Index, const MaskExtent& extent) const noexcept { return {0, extent.seqlen_kv}; }
  std::uint64_t bits(Index, Index q_row, Index page_begin,
                     const MaskExtent& extent) const noexcept {
    const int document = query_documents[static_cast<std::size_t>(q_row)];
    return detail::gather_bits(page_begin, extent.seqlen_kv, [&](Index k) {
      return key_documents[static_cast<std::size_t>(k)] == document;
    });
  }
  bool varies_by_head() const noexcept { return false; }
  void check(std::string_view where, Index, const MaskExtent& extent) const {
    detail::require_shape(where, "DocumentMask::query_documents [seqlen_q]",
                          {std::ssize(query_documents)}, {extent.seqlen_q});
    detail::require_shape(where, "DocumentMask::key_documents [seqlen_kv]",
                          {std::ssize(key_documents)}, {extent.seqlen_kv});
  }
};

/// A boolean for every pair: allowed [1 or num_heads, seqlen_q, seqlen_kv], true = may attend; they
/// must outlive it.
struct DenseMask {
  HeadsView<const bool> allowed;

  KeyRange range(Index, const MaskExtent& extent) const noexcept { return {0, extent.seqlen_kv}; }
  std::uint64_t bits(Index head, Index q_row, Index page_begin,
                     const MaskExtent& extent) const noexcept {
    const bool* row = allowed.row(varies_by_head() ? head : 0, q_row);
    return detail::gather_bits(page_begin, extent.seqlen_kv, [&](Index k) { return row[k]; });
  }
  bool varies_by_head() const noexcept { return allowed.num_heads > 1; }
  void check(std::string_view where, Index num_heads, const MaskExtent& extent) const {
    detail::require_shape(where, "DenseMask::allowed [1 or num_heads, seqlen_q, seqlen_kv]",
                          {allowed.num_heads, allowed.rows, allowed.cols},
                          {varies_by_head() ? num_heads : 1, extent.seqlen_q, extent.seqlen_kv});
  }
};

/// Your own rule: visible(query_position, key_position) -> bool, called for every pair of a page
/// that is not skipped by another mask beside it, by several threads at once. What it throws,
/// `attend` throws, and a part of `out` may be written by then.
///
///     CustomMask{[](Index query, Index key) { return key <= query && key % 2 == 0; }}
template <class Visible>
  requires std::predicate<const Visible&, Index, Index>
struct CustomMask {
  Visible visible_pair;

  explicit CustomMask(Visible visible) : visible_pair(std::move(visible)) {}

  KeyRange range(Index, const MaskExtent& extent) const noexcept { return {0, extent.seqlen_kv}; }
  std::uint64_t bits(Index, Index q_row, Index page_begin, const MaskExtent& extent) const {
    const Index position = extent.query_position(q_row);
    return detail::gather_bits(page_begin, extent.seqlen_kv,
                               [&](Index k) { return bool(visible_pair(position, k)); });
  }
  bool varies_by_head() const noexcept { return false; }
  void check(std::string_view, Index, const MaskExtent&) const {}
};

/// What every one of several masks allows. Made by `both`.
template <class... Masks>
struct Conjunction {
  std::tuple<Masks...> masks;

  KeyRange range(Index q_row, const MaskExtent& extent) const {
    KeyRange common{0, extent.seqlen_kv};
    each([&](const auto& mask) {
      common = intersection(common, detail::mask_range(mask, q_row, extent));
    });
    return common;
  }
  std::uint64_t bits(Index head, Index q_row, Index page_begin, const MaskExtent& extent) const {
    std::uint64_t common = ~std::uint64_t{0};
    each([&](const auto& mask) {
      if (common != 0) common &= detail::mask_bits(mask, head, q_row, page_begin, extent);
    });
    return common;
  }
  bool varies_by_head() const {
    return std::apply([](const auto&... mask) { return (detail::varies_by_head(mask) || ...); },
                      masks);
  }
  void check(std::string_view where, Index num_heads, const MaskExtent& extent) const {
    each([&](const auto& mask) { detail::check_mask(where, mask, num_heads, extent); });
  }

 private:
  template <class F>
  void each(const F& f) const {
    std::apply([&](const auto&... mask) { (f(mask), ...); }, masks);
  }
};

/// The conjunction of masks: a key is visible if all of them allow it.
///
///     both(CausalMask{}, PaddingMask{.begin = 3, .end = 20})
template <class... Masks>
[[nodiscard]] auto both(const Masks&... masks) {
  static_assert((MaskPolicy<Masks> && ...),
                "heed: what is joined by `both` needs `KeyRange visible(Index q_row, const "
                "MaskExtent& extent) const`, or the members of PageMask, not both "
                "(policy/mask.hpp). Wrap a lambda in CustomMask.");
  return Conjunction<Masks...>{{masks...}};
}

}  // namespace heed
