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
    auto* const keys = keys_.in(head) + slot;
    if constexpr (std::is_same_v<Element, T>) simd::transpose(key, keys, page_size);
    for (Index r = 0; r < key.rows; ++r) {
      if constexpr (has_scales<Stored>) {
        const float scale = row_scale<Stored>([&](Index c) { return key(r, c); }, key.cols);
        for (Index c = 0; c < key.cols; ++c)
          keys[c * page_size + r] = static_cast<int8>(nearest_code<Stored>(key(r, c), scale));
        key_scales_.in(head)[slot + r] = scale;
        write_value(head, slot + r, [&](Index c) { return value(r, c); });
      } else {
        if constexpr (!std::is_same_v<Element, T>)
          for (Index c = 0; c < key.cols; ++c)
            keys[c * page_size + r] = static_cast<Element>(key(r, c));
        for_columns(head, slot + r, value.cols, [&](Index c, Element& element) {
          element = static_cast<Element>(value(r, c));
        });
      }
    }
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
      Kept* const to = key_at(head, 0, c);
      const auto step = static_cast<float>(scale), middle = static_cast<float>(offset);
      for (Index token = 0; token < page_size; ++token)
        simd::set_code(to[token], c, nearest_code<Unchannelled>(channel[token] - middle, step));
    }
    const auto rows = whole.value_rows(page_size, entry_.head_dim_v);
    for (Index token = 0; token < page_size; ++token)
      write_value(head, token, [&](Index c) { return *rows.at(token, c); });
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
        for_columns(head, token, width_v(),
                    [](Index, Kept& element) { element = static_cast<Kept>(0); });
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
  template <class NumberOf>
  void write_value(std::byte* head, Index slot, const NumberOf& number_of) const {
    const float scale = row_scale<Unchannelled>(number_of, entry_.head_dim_v);
    value_scales_.in(head)[slot] = scale;
    for_columns(head, slot, width_v(), [&](Index c, Kept& element) {
      const float number = c < entry_.head_dim_v ? number_of(c) : 0;
      simd::set_code(element, slot, nearest_code<Unchannelled>(number, scale));
    });
  }
  /// Calls f(c, element) for columns [0, cols) of a token's values.
  template <class F>
  void for_columns(std::byte* head, Index slot, Index cols, const F& f) const {
    for (Index begin = 0; begin < cols; begin += strip_width) {
      Kept* const strip = value_at(head, slot, begin);
      const Index end = std::min(begin + strip_width, cols);
      for (Index c = begin; c < end; ++c) f(c, strip[c - begin]);
    }
  }

  Entry entry_;
  PagePart<Kept> keys_, values_;
  PagePart<float> key_scales_, value_scales_;
  PagePart<bf16> channel_scales_, channel_offsets_;
  Index head_bytes_;
};

}  // namespace heed::detail
