// SPDX-License-Identifier: MIT
/// \file
/// Where latents lie in a page, and how they get there. Layer 4, detail.
#pragma once

#include <algorithm>
#include <type_traits>

#include "heed/cache/codec.hpp"
#include "heed/cache/page.hpp"
#include "heed/cache/page_parts.hpp"
#include "heed/cache/page_place.hpp"
#include "heed/simd/narrow.hpp"
#include "heed/simd/packet.hpp"

namespace heed::detail {

/// Rows of tokens, which are key and value at once. Elements with scales leave the rope part in
/// 16 bits, beside the latents:
///
///     rows    [page_size, latent_dim + rope_dim padded]      without scales
///
///     rows    [page_size, latent_dim padded]                 with scales; of int4,
///                                                            rows are in pairs
///     scales  [page_size] float
///     rope    [page_size, rope_dim padded] bf16
///
/// \tparam Stored  without rotation
template <class Entry, class Stored>
class LatentPage {
 public:
  using Element = KernelElement<Stored>;
  using T = ComputeType<Stored>;
  /// Whether `view` has to unpack what it shows.
  template <class Loaded>
  static constexpr bool is_packed = !std::is_same_v<PageElement<Stored>, Loaded>;

  explicit LatentPage(const Entry& entry) : entry_(entry) {
    PageParts parts;
    rows_ = parts.take<Kept>(page_size / rows_per_element<Stored> * row_width());
    if constexpr (has_scales<Stored>) {
      scales_ = parts.take<float>(page_size);
      rope_ = parts.take<bf16>(page_size * rope_width());
    }
    head_bytes_ = parts.bytes();
  }

  const Entry& entry() const noexcept { return entry_; }
  Index head_bytes() const noexcept { return head_bytes_; }
  /// Elements that `view` unpacks to.
  template <class Loaded>
  Index page_scratch() const noexcept {
    return is_packed<Loaded> ? page_size * row_width() : 0;
  }

  /// \tparam Loaded  what the kernel loads: Element, or what lies in the page
  template <class Loaded>
  PageView<Loaded> view(PagePlace place, Index, Loaded* scratch) const noexcept {
    std::byte* const page = place.head(0);
    const Loaded* rows = scratch;
    if constexpr (is_packed<Loaded>)
      simd::unpack_codes(rows_.in(page), page_size / rows_per_element<Stored>, row_width(),
                         scratch);
    else
      rows = rows_.in(page);
    PageView<Loaded> view{
        .keys = rows, .key_stride = row_width(), .values = rows, .value_stride = row_width()};
    if constexpr (has_scales<Stored>) {
      view.rope_keys = rope_.in(page);
      view.rope_stride = rope_width();
      view.key_scales = view.value_scales = scales_.in(page);
    }
    return view;
  }

  /// Writes tokens from `slot` on: c_kv [count, latent_dim], k_rope [count, rope_dim].
  void write(PagePlace place, Index, Index slot, RowsView<const T> c_kv,
             RowsView<const T> k_rope) const {
    std::byte* const page = place.head(0);
    for (Index r = 0; r < c_kv.rows; ++r) {
      Kept* const row = row_at(page, slot + r);
      if constexpr (has_scales<Stored>) {
        const float scale = code_scale<Stored>(simd::largest_magnitude(c_kv.row(r), c_kv.cols));
        scales_.in(page)[slot + r] = scale;
        simd::encode_row(c_kv.row(r), c_kv.cols, scale, 0.0F, slot + r, row);
        simd::narrow(k_rope.row(r), k_rope.cols, rope_.in(page) + (slot + r) * rope_width());
      } else {
        simd::narrow(c_kv.row(r), c_kv.cols, row);
        simd::narrow(k_rope.row(r), k_rope.cols, row + entry_.latent_dim);
      }
    }
  }

  /// Makes all bits from `slot` on 0, as those of a page are at first.
  void clear_from(PagePlace place, Index, Index slot) const noexcept {
    std::byte* const page = place.head(0);
    for (Index token = slot; token < page_size; ++token) {
      Kept* const row = row_at(page, token);
      for (Index c = 0; c < row_width(); ++c) {
        if constexpr (has_scales<Stored>)
          simd::clear_code(row[c], token);
        else
          row[c] = static_cast<Kept>(0);
      }
      if constexpr (has_scales<Stored>) {
        scales_.in(page)[token] = 0;
        std::fill_n(rope_.in(page) + token * rope_width(), rope_width(), static_cast<bf16>(0));
      }
    }
  }

  /// Column c of c_kv.
  T latent(PagePlace place, Index slot, Index c) const noexcept {
    std::byte* const page = place.head(0);
    const Kept element = row_at(page, slot)[c];
    if constexpr (has_scales<Stored>)
      return static_cast<float>(simd::code_of(element, slot)) * scales_.in(page)[slot];
    else
      return static_cast<T>(element);
  }
  /// Column c of k_rope.
  T rope(PagePlace place, Index slot, Index c) const noexcept {
    if constexpr (has_scales<Stored>)
      return static_cast<T>(rope_.in(place.head(0))[slot * rope_width() + c]);
    else
      return latent(place, slot, entry_.latent_dim + c);
  }

 private:
  using Kept = PageElement<Stored>;

  Index row_width() const noexcept {
    return simd::padded(has_scales<Stored> ? entry_.latent_dim
                                           : entry_.latent_dim + entry_.rope_dim);
  }
  Index rope_width() const noexcept { return simd::padded(entry_.rope_dim); }
  Kept* row_at(std::byte* page, Index slot) const noexcept {
    return rows_.in(page) + slot / rows_per_element<Stored> * row_width();
  }

  Entry entry_;
  PagePart<Kept> rows_;
  PagePart<float> scales_;
  PagePart<bf16> rope_;
  Index head_bytes_;
};

}  // namespace heed::detail
