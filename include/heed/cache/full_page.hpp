// SPDX-License-Identifier: MIT
/// \file
/// Where keys and values lie in a page, and how they get there. Layer 4, detail.
#pragma once

#include <algorithm>
#include <type_traits>

#include "heed/cache/codec.hpp"
#include "heed/cache/page.hpp"
#include "heed/cache/page_parts.hpp"
#include "heed/cache/page_place.hpp"
#include "heed/simd/narrow.hpp"
#include "heed/simd/packet.hpp"
#include "heed/simd/transpose.hpp"

namespace heed::detail {

/// Of each head, in the order in which attention reads it, so that pages in a row are read from
/// memory without a jump:
///
///     channel scales  [head_dim] bf16, and as many offsets  (if keys' scales are per channel)
///     keys            [head_dim, page_size]
///     key scales      [page_size] float                     (if they are per token)
///     value scales    [page_size] float                     (if elements have scales)
///     values          [page_size, head_dim_v padded], in strips one after another if these are all
///                     whole: register tiles read strip by strip
///
/// Of int4, rows of keys and of values are in pairs.
///
/// \tparam Stored  without rotation
template <class Entry, class Stored>
class FullPage {
 public:
  using Element = KernelElement<Stored>;
  using T = ComputeType<Stored>;
  /// Whether `view` has to unpack what it shows.
  template <class Loaded>
  static constexpr bool is_packed = !std::is_same_v<PageElement<Stored>, Loaded>;

  explicit FullPage(const Entry& entry) : entry_(entry) {
    PageParts parts;
    if constexpr (keys_per_channel<Stored>) {
      channel_scales_ = parts.take<bf16>(entry.head_dim);
      channel_offsets_ = parts.take<bf16>(entry.head_dim);
    }
    keys_ = parts.take<Kept>(kept_rows(entry.head_dim) * page_size);
    if constexpr (has_scales<Stored> && !keys_per_channel<Stored>)
      key_scales_ = parts.take<float>(page_size);
    if constexpr (has_scales<Stored>) value_scales_ = parts.take<float>(page_size);
    values_ = parts.take<Kept>(kept_rows(page_size) * width_v());
    head_bytes_ = parts.bytes();
  }

  const Entry& entry() const noexcept { return entry_; }
  /// Bytes of a head's part of a page.
  Index head_bytes() const noexcept { return head_bytes_; }
  /// Elements that `view` unpacks to.
  template <class Loaded>
  Index page_scratch() const noexcept {
    return is_packed<Loaded> ? page_size * width_v() + 2 * kept_rows(entry_.head_dim) * page_size
                             : 0;
  }

  /// \tparam Loaded  what the kernel loads: Element, or what lies in the page
  template <class Loaded>
  PageView<Loaded> view(PagePlace page, Index kv_head, Loaded* scratch) const noexcept {
    std::byte* const head = page.head(kv_head);
    const Index rows = page_size / rows_per_element<Loaded>;
    PageView<Loaded> view{.keys = scratch,
                          .key_stride = page_size,
                          .values = scratch,
                          .value_stride = value_stride(),
                          .value_strip = value_strip(rows)};
    if constexpr (is_packed<Loaded>) {
      const Index key_pairs = kept_rows(entry_.head_dim), value_pairs = kept_rows(page_size);
      Loaded* const values = scratch + 2 * key_pairs * page_size;
      simd::unpack_codes(keys_.in(head), key_pairs, page_size, scratch);
      simd::unpack_codes(values_.in(head), value_pairs * width_v() / value_stride(), value_stride(),
                         values);
      view.values = values;
    } else {
      view.keys = keys_.in(head), view.values = values_.in(head);
    }
    if constexpr (has_scales<Stored>) view.value_scales = value_scales_.in(head);
    if constexpr (keys_per_channel<Stored>) {
      view.channel_scales = channel_scales_.in(head);
      view.channel_offsets = channel_offsets_.in(head);
    } else if constexpr (has_scales<Stored>) {
      view.key_scales = key_scales_.in(head);
    }
    return view;
  }

  /// Writes tokens of a head from `slot` on: key [count, head_dim], value [count, head_dim_v].
  void write(PagePlace page, Index kv_head, Index slot, RowsView<const T> key,
             RowsView<const T> value) const
    requires(!keys_per_channel<Stored>)
  {
    std::byte* const head = page.head(kv_head);
    if constexpr (std::is_same_v<Element, T>)
      simd::transpose(key, keys_.in(head) + slot, page_size);
    else
      write_narrow_keys(head, slot, key);
    for (Index r = 0; r < value.rows; ++r)
      write_value(head, slot + r, [&](Index c) { return value.row(r) + c; });
  }

  /// Writes a head of a whole page, which was collected in float.
  void write_page(PagePlace page, Index kv_head, const PageView<T>& whole) const
    requires keys_per_channel<Stored>
  {
    std::byte* const head = page.head(kv_head);
    for (Index c = 0; c < entry_.head_dim; ++c) {
      const T* const channel = whole.keys + c * whole.key_stride;
      const auto [scale, offset] = ChannelScale::of<Unchannelled>(channel);
      channel_scales_.in(head)[c] = scale;
      channel_offsets_.in(head)[c] = offset;
      simd::encode_row(channel, page_size, static_cast<float>(scale), static_cast<float>(offset), c,
                       key_at(head, 0, c));
    }
    const auto rows = whole.value_rows(page_size, entry_.head_dim_v);
    for (Index token = 0; token < page_size; ++token)
      write_value(head, token, [&](Index c) { return rows.at(token, c); });
  }

  /// Clears what lies from `slot` on. Of keys with scales per channel, a page that has room yet
  /// holds nothing: its tokens are elsewhere, in float.
  void clear_from(PagePlace page, Index kv_head, Index slot) const noexcept {
    std::byte* const head = page.head(kv_head);
    if constexpr (keys_per_channel<Stored>) {
      std::fill_n(head, head_bytes_, std::byte{0});
    } else {
      const Index rest = page_size - slot;
      for (Index c = 0; c < entry_.head_dim; ++c)
        std::fill_n(key_at(head, slot, c), rest, static_cast<Kept>(0));
      if constexpr (has_scales<Stored>) {
        std::fill_n(key_scales_.in(head) + slot, rest, 0.0F);
        std::fill_n(value_scales_.in(head) + slot, rest, 0.0F);
      }
      for (Index token = slot; token < page_size; ++token)
        for_strips(width_v(), [&](Index c, Index count) {
          std::fill_n(value_at(head, token, c), count, static_cast<Kept>(0));
        });
    }
  }

  T key(PagePlace page, Index kv_head, Index slot, Index c) const noexcept {
    std::byte* const head = page.head(kv_head);
    const Kept element = *key_at(head, slot, c);
    if constexpr (keys_per_channel<Stored>)
      return static_cast<float>(simd::code_of(element, c)) *
                 static_cast<float>(channel_scales_.in(head)[c]) +
             static_cast<float>(channel_offsets_.in(head)[c]);
    else if constexpr (has_scales<Stored>)
      return static_cast<float>(simd::code_of(element, c)) * key_scales_.in(head)[slot];
    else
      return static_cast<T>(element);
  }
  T value(PagePlace page, Index kv_head, Index slot, Index c) const noexcept {
    std::byte* const head = page.head(kv_head);
    const Kept element = *value_at(head, slot, c);
    if constexpr (has_scales<Stored>)
      return static_cast<float>(simd::code_of(element, slot)) * value_scales_.in(head)[slot];
    else
      return static_cast<T>(element);
  }
  /// Where an element lies that is stored as it is.
  auto* key_place(PagePlace page, Index kv_head, Index slot, Index c) const noexcept
    requires(!has_scales<Stored>)
  {
    return key_at(page.head(kv_head), slot, c);
  }
  auto* value_place(PagePlace page, Index kv_head, Index slot, Index c) const noexcept
    requires(!has_scales<Stored>)
  {
    return value_at(page.head(kv_head), slot, c);
  }

 private:
  /// The element whose codes these are: PerChannel<int8> stores those of int8.
  using Unchannelled = std::conditional_t<std::is_same_v<Stored, PerChannel<int8>>, int8, Stored>;
  using Kept = PageElement<Stored>;

  Index width_v() const noexcept { return simd::padded(entry_.head_dim_v); }
  bool in_strips() const noexcept { return width_v() % strip_width == 0; }
  Index value_stride() const noexcept { return in_strips() ? strip_width : width_v(); }
  Index value_strip(Index rows) const noexcept {
    return in_strips() ? rows * strip_width : strip_width;
  }
  /// Elements that a column of so many rows takes.
  static constexpr Index kept_rows(Index rows) noexcept {
    return ceil_div(rows, rows_per_element<Stored>);
  }
  Kept* key_at(std::byte* head, Index slot, Index c) const noexcept {
    return keys_.in(head) + c / rows_per_element<Stored> * page_size + slot;
  }
  Kept* value_at(std::byte* head, Index slot, Index c) const noexcept {
    const Index rows = kept_rows(page_size);
    return StripsView(values_.in(head), rows, width_v(), value_stride(), value_strip(rows))
        .at(slot / rows_per_element<Stored>, c);
  }
  /// Writes keys that take fewer bits than numbers, some tokens at a time: side by side first, then
  /// to their columns.
  void write_narrow_keys(std::byte* head, Index slot, RowsView<const T> key) const {
    constexpr Index most_rows = 16, most_cols = 128;
    Kept side_by_side[most_rows * most_cols];
    for (Index first = 0; first < key.rows; first += most_rows, slot += most_rows) {
      const RowsView<const T> rows = key.middle_rows(first, std::min(most_rows, key.rows - first));
      if constexpr (has_scales<Stored>)
        for (Index r = 0; r < rows.rows; ++r)
          key_scales_.in(head)[slot + r] =
              code_scale<Stored>(simd::largest_magnitude(rows.row(r), key.cols));
      for (Index begin = 0; begin < key.cols; begin += most_cols) {
        const Index cols = std::min(most_cols, key.cols - begin);
        for (Index r = 0; r < rows.rows; ++r) {
          const T* const from = rows.row(r) + begin;
          Kept* const to = side_by_side + r * most_cols;
          if constexpr (has_scales<Stored>)
            simd::encode_row(from, cols, key_scales_.in(head)[slot + r], 0.0F, r, to);
          else
            simd::narrow(from, cols, to);
        }
        Kept* const to = key_at(head, slot, begin);
        for (Index r = 0; r < rows.rows; ++r)
          for (Index c = 0; c < cols; ++c) to[c * page_size + r] = side_by_side[r * most_cols + c];
      }
    }
  }
  /// \param numbers  (column) -> the token's values from there to the end of a strip
  template <class Numbers>
  void write_value(std::byte* head, Index slot, const Numbers& numbers) const {
    if constexpr (has_scales<Stored>) {
      float largest = 0;
      for_strips(entry_.head_dim_v, [&](Index c, Index count) {
        largest = std::max(largest, simd::largest_magnitude(numbers(c), count));
      });
      const float scale = code_scale<Unchannelled>(largest);
      value_scales_.in(head)[slot] = scale;
      for_strips(entry_.head_dim_v, [&](Index c, Index count) {
        simd::encode_row(numbers(c), count, scale, 0.0F, slot, value_at(head, slot, c));
      });
    } else {
      for_strips(entry_.head_dim_v, [&](Index c, Index count) {
        simd::narrow(numbers(c), count, value_at(head, slot, c));
      });
    }
  }
  /// Calls f(first column, columns) for the strips of columns [0, cols).
  template <class F>
  static void for_strips(Index cols, const F& f) {
    for (Index c = 0; c < cols; c += strip_width) f(c, std::min(strip_width, cols - c));
  }

  Entry entry_;
  PagePart<Kept> keys_, values_;
  PagePart<float> key_scales_, value_scales_;
  PagePart<bf16> channel_scales_, channel_offsets_;
  Index head_bytes_;
};

}  // namespace heed::detail
