// SPDX-License-Identifier: MIT
/// \file
/// Where tokens wait before they can be stored. Layer 4, detail.
#pragma once

#include <algorithm>
#include <span>
#include <type_traits>

#include "heed/base/aligned_array.hpp"
#include "heed/cache/codec.hpp"
#include "heed/cache/page_layout.hpp"
#include "heed/cache/page_table.hpp"
#include "heed/simd/walsh_hadamard.hpp"

namespace heed::detail {

/// Rows on their way to a page, through the Walsh-Hadamard transform. Holds a page of one head.
template <class Entry>
class RotatedRows {
 public:
  explicit RotatedRows(const Entry& entry) {
    if constexpr (is_latent<Entry>)
      first_width_ = entry.latent_dim, second_width_ = 0;  // k_rope stays as it is
    else
      first_width_ = entry.head_dim, second_width_ = entry.head_dim_v;
    memory_ = make_aligned<float>(page_size * (first_width_ + second_width_));
  }
  Index bytes() const noexcept {
    return page_size * (first_width_ + second_width_) * Index{sizeof(float)};
  }
  /// Columns that are mixed, of either.
  Index widest_block() const noexcept {
    return std::max(simd::hadamard_block(first_width_), simd::hadamard_block(second_width_));
  }
  /// Keys, or latents. \param rows  [at most page_size, head_dim or latent_dim]
  RowsView<const float> first(RowsView<const float> rows) const {
    return rotated(rows, memory_.get());
  }
  /// Values. \param rows  [at most page_size, head_dim_v]
  RowsView<const float> second(RowsView<const float> rows) const {
    return second_width_ == 0 ? rows : rotated(rows, memory_.get() + page_size * first_width_);
  }

 private:
  static RowsView<const float> rotated(RowsView<const float> rows, float* to) {
    for (Index r = 0; r < rows.rows; ++r) {
      std::copy_n(rows.row(r), rows.cols, to + r * rows.cols);
      simd::rotate_hadamard(to + r * rows.cols, rows.cols);
    }
    return {to, rows.rows, rows.cols};
  }

  Index first_width_, second_width_;
  AlignedArray<float> memory_;
};

/// The page of a sequence that is being filled, in float: scales per channel can be known only when
/// it is whole. The page that was filled last is kept too, so that a few tokens can be taken back
/// without a trace.
template <class Entry>
class OpenPage {
 public:
  explicit OpenPage(const Entry& entry) : layout_(entry) {
    memory_ = make_aligned<std::byte>(bytes());
    std::fill_n(memory_.get(), bytes(), std::byte{0});
  }
  Index bytes() const noexcept { return 2 * page_bytes(); }
  void assign(const OpenPage& other) noexcept {
    std::copy_n(other.memory_.get(), bytes(), memory_.get());
    half_ = other.half_, kept_ = other.kept_;
  }
  PageView<float> view(Index kv_head) const noexcept {
    return layout_.template view<float>(place(), kv_head, nullptr);
  }
  const FullPage<Entry, float>& layout() const noexcept { return layout_; }
  PagePlace place() const noexcept {
    return {memory_.get() + half_ * page_bytes(), layout_.head_bytes()};
  }

  void write(Index kv_head, Index slot, RowsView<const float> key, RowsView<const float> value) {
    layout_.write(place(), kv_head, slot, key, value);
  }
  void clear() noexcept { std::ranges::fill(open_bytes(), std::byte{0}); }
  /// The page is whole and was stored as page `index`.
  void keep(Index index) noexcept { half_ = 1 - half_, kept_ = index; }
  /// The page that is being filled, as it lies there.
  std::span<std::byte> open_bytes() const noexcept {
    return {place().first, static_cast<std::size_t>(page_bytes())};
  }
  /// Forgets the kept page if it is page `index` or a later one: it is no longer part of the
  /// sequence.
  void forget_from(Index index) noexcept {
    if (kept_ >= index) kept_ = -1;
  }
  /// Goes on filling page `index`, which holds `tokens`. \param stored  the page as it was stored
  /// \param most  what no number may exceed, since it will be stored again, which may add a step
  template <class Layout>
  void reopen(Index index, Index tokens, const Layout& layout, PagePlace stored, float most) {
    if (index == kept_) {
      half_ = 1 - half_;
    } else {
      const Entry& entry = layout_.entry();
      for (Index head = 0; head < entry.num_kv_heads; ++head)
        for (Index token = 0; token < tokens; ++token) {
          for (Index c = 0; c < entry.head_dim; ++c)
            *layout_.key_place(place(), head, token, c) =
                std::clamp(layout.key(stored, head, token, c), -most, most);
          for (Index c = 0; c < entry.head_dim_v; ++c)
            *layout_.value_place(place(), head, token, c) =
                std::clamp(layout.value(stored, head, token, c), -most, most);
        }
    }
    forget_from(index);
  }

 private:
  Index page_bytes() const noexcept { return layout_.entry().num_kv_heads * layout_.head_bytes(); }

  FullPage<Entry, float> layout_;
  AlignedArray<std::byte> memory_;  // of two pages
  Index half_ = 0;                  // which of them is open
  Index kept_ = -1;                 // which page the other one is, if any
};

/// In place of what an element does not need.
struct NotNeeded {
  template <class Entry>
  explicit constexpr NotNeeded(const Entry&) noexcept {}
};

/// The way of a cache's tokens to its pages, and back to one that was full.
template <class Entry, class Stored>
class Staging {
 public:
  using T = ComputeType<Stored>;
  using Layout = PageLayout<Entry, Stored>;
  static constexpr bool has_open_page = keys_per_channel<Stored> && !is_latent<Entry>;

  explicit Staging(const Entry& entry) : rotated_(entry), open_(entry) {}

  Index bytes() const noexcept {
    Index bytes = 0;
    if constexpr (has_open_page) bytes += open_.bytes();
    if constexpr (is_rotated<Stored>) bytes += rotated_.bytes();
    return bytes;
  }
  void assign(const Staging& other) noexcept {
    if constexpr (has_open_page) open_.assign(other.open_);
  }
  const OpenPage<Entry>& open_page() const noexcept
    requires has_open_page
  {
    return open_;
  }

  /// Throws ElementError for what elements with scales cannot stand for.
  void require_storable(std::string_view argument, HeadsView<const T> heads) const {
    if constexpr (has_scales<Stored>) require_finite("KvCache::append", argument, heads, summed());
  }
  /// Writes tokens, keys and values or c_kv and k_rope, from token `begin` on to the pages of a
  /// table that was extended by them.
  void append(const Layout& layout, const PageTable& table, Index begin, HeadsView<const T> first,
              HeadsView<const T> second) {
    for (Index done = 0; done < first.rows;) {
      const Index index = (begin + done) / page_size, slot = (begin + done) % page_size;
      const Index count = std::min(page_size - slot, first.rows - done);
      const PagePlace page = table.place(index);
      // Whole pages are read, so one starts as zeros; who writes it also touches it first.
      for (Index head = 0; head < first.num_heads; ++head) {
        if (slot == 0) std::fill_n(page.head(head), layout.head_bytes(), std::byte{0});
        write(layout, page, head, slot, first.head(head).middle_rows(done, count),
              second.head(head).middle_rows(done, count));
      }
      if (slot + count == page_size) filled(index, begin / page_size);
      done += count;
    }
  }
  /// As that of an OpenPage.
  void forget_from([[maybe_unused]] Index index) noexcept {
    if constexpr (has_open_page) open_.forget_from(index);
  }
  /// Goes on filling page `index`, which holds `tokens`.
  void reopen(const Layout& layout, PagePlace page, Index index, Index tokens) {
    if constexpr (has_open_page)
      open_.reopen(index, tokens, layout, page, largest_number / static_cast<float>(summed()));
  }
  /// The page that is being filled, if it is kept here.
  std::span<std::byte> open_bytes() const noexcept {
    if constexpr (has_open_page) return open_.open_bytes();
    return {};
  }

 private:
  /// Numbers that a rotation adds up, else 1.
  Index summed() const noexcept {
    if constexpr (is_rotated<Stored>) return rotated_.widest_block();
    return 1;
  }
  /// Tokens of a head from `slot` on.
  void write(const Layout& layout, PagePlace page, Index kv_head, Index slot,
             RowsView<const T> first, RowsView<const T> second) {
    if constexpr (is_rotated<Stored>)
      first = rotated_.first(first), second = rotated_.second(second);
    if constexpr (has_open_page) {
      if (slot == 0 && kv_head == 0) open_.clear();
      open_.write(kv_head, slot, first, second);
      if (slot + first.rows == page_size) layout.write_page(page, kv_head, open_.view(kv_head));
    } else {
      layout.write(page, kv_head, slot, first, second);
    }
  }
  /// Page `index` is full and stored. It stays in float if it is the one that its append began in
  /// (`first`): taking that append back returns to this page at the earliest.
  void filled(Index index, Index first) noexcept {
    if constexpr (has_open_page)
      if (index == first) open_.keep(index);
  }

  [[no_unique_address]] std::conditional_t<is_rotated<Stored>, RotatedRows<Entry>, NotNeeded>
      rotated_;
  [[no_unique_address]] std::conditional_t<has_open_page, OpenPage<Entry>, NotNeeded> open_;
};

}  // namespace heed::detail
