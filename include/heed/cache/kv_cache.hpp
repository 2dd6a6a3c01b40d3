// SPDX-License-Identifier: MIT
/// \file
/// The KV cache: the tokens of one sequence, in pages. Layer 4, public.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "heed/base/aligned_array.hpp"
#include "heed/base/views.hpp"
#include "heed/cache/kv_entry.hpp"

namespace heed {

/// Keys and values of one sequence, or latents; a PageSource, so `attend` and the layers read it.
///
/// \tparam Entry    what a token leaves behind: FullKv<...> or LatentKv<...>
/// \tparam Element  what it is stored as: float, double, f16, bf16 or int8 (base/element.hpp)
///
/// All memory is taken when it is made. Whatever throws leaves the cache as it was. Readers may
/// share a cache; who changes it must be alone. Copies are explicit: `fork`.
template <class Entry, class Element_ = float>
class KvCache {
 public:
  using Element = Element_;
  static_assert(StoredElement<Element>,
                "heed: the cache's elements must be float, double, heed::f16, heed::bf16 or "
                "heed::int8.");
  /// What is appended and read back: double for double, float for all others.
  using T = ComputeType<Element>;
  static constexpr KeyLayout key_layout = Entry::key_layout;

  /// An empty cache with room for `capacity` tokens.
  /// \throws ShapeError if the entry's sizes are not all known and positive.
  explicit KvCache(Index capacity, Entry entry = {}) : entry_(entry), capacity_(capacity) {
    entry.check("KvCache");
    detail::require(capacity >= 0, "KvCache", "capacity must not be negative");
    pages_ = detail::make_aligned<std::byte>(num_pages(capacity) * page_stride());
  }
  KvCache(KvCache&& other) noexcept
      : entry_(other.entry_), pages_(std::move(other.pages_)),
        capacity_(std::exchange(other.capacity_, 0)), seqlen_(std::exchange(other.seqlen_, 0)),
        ready_pages_(std::exchange(other.ready_pages_, 0)) {}
  KvCache& operator=(KvCache&& other) noexcept {
    entry_ = other.entry_;
    pages_ = std::move(other.pages_);
    capacity_ = std::exchange(other.capacity_, 0);
    seqlen_ = std::exchange(other.seqlen_, 0);
    ready_pages_ = std::exchange(other.ready_pages_, 0);
    return *this;
  }

  /// Adds tokens. Keys are rotated before they come here.
  /// \param key    [num_kv_heads, count, head_dim]
  /// \param value  [num_kv_heads, count, head_dim_v]
  /// \throws ShapeError, CapacityError; ElementError for a NaN or inf among int8
  void append(HeadsView<const T> key, HeadsView<const T> value)
    requires(!detail::is_latent<Entry>)
  {
    detail::require_shape("KvCache::append", "key [num_kv_heads, count, head_dim]",
                          {key.num_heads, key.rows, key.cols},
                          {num_kv_heads(), key.rows, head_dim()});
    detail::require_shape("KvCache::append", "value [num_kv_heads, count, head_dim_v]",
                          {value.num_heads, value.rows, value.cols},
                          {num_kv_heads(), key.rows, head_dim_v()});
    append_rows(key, "key", value, "value");
  }
  /// Adds tokens. \param c_kv  [count, latent_dim], normed; \param k_rope  [count, rope_dim],
  /// rotated
  /// \throws ShapeError, CapacityError; ElementError for a NaN or inf among int8
  void append(RowsView<const T> c_kv, RowsView<const T> k_rope)
    requires detail::is_latent<Entry>
  {
    detail::require_shape("KvCache::append", "c_kv [count, latent_dim]", {c_kv.rows, c_kv.cols},
                          {c_kv.rows, entry_.latent_dim});
    detail::require_shape("KvCache::append", "k_rope [count, rope_dim]", {k_rope.rows, k_rope.cols},
                          {c_kv.rows, entry_.rope_dim});
    append_rows(HeadsView<const T>(c_kv), "c_kv", HeadsView<const T>(k_rope), "k_rope");
  }

  /// Throws CapacityError unless `count` more tokens fit.
  void require_room(Index count) const {
    if (seqlen_ + count <= capacity_) return;
    throw CapacityError("heed::KvCache: " + std::to_string(seqlen_) + " tokens are cached and " +
                        std::to_string(count) + " more were given, but the capacity is " +
                        std::to_string(capacity_));
  }

  Index seqlen() const noexcept { return seqlen_; }      ///< tokens held
  Index capacity() const noexcept { return capacity_; }  ///< tokens that fit in all
  const Entry& entry() const noexcept { return entry_; }

  /// Forgets all tokens but the first `seqlen`: a rejected speculation.
  /// \throws ShapeError if there are not so many.
  void truncate(Index seqlen) {
    detail::require(0 <= seqlen && seqlen <= seqlen_, "KvCache::truncate", [&] {
      return "cannot keep " + std::to_string(seqlen) + " of " + std::to_string(seqlen_) + " tokens";
    });
    seqlen_ = seqlen;
  }
  /// Forgets all tokens; keeps the memory.
  void clear() noexcept { seqlen_ = 0; }

  /// A copy that goes its own way from here.
  KvCache fork() const {
    KvCache copy(capacity_, entry_);
    copy.seqlen_ = seqlen_;
    copy.ready_pages_ = num_pages(seqlen_);
    std::copy_n(pages_.get(), copy.ready_pages_ * page_stride(), copy.pages_.get());
    return copy;
  }

  /// Bytes allocated: whole pages for the capacity, rows padded to 16 elements.
  std::size_t bytes() const noexcept {
    return static_cast<std::size_t>(num_pages(capacity_) * page_stride());
  }
  /// Bytes a token takes by the formula: 2 num_kv_heads head_dim, or latent_dim + rope_dim,
  /// elements, and the scales of its rows.
  std::size_t bytes_per_token() const noexcept {
    return static_cast<std::size_t>(entry_.elements_per_token()) * sizeof(Element) +
           (has_scales<Element> ? static_cast<std::size_t>(entry_.rows_per_token()) : 0) *
               sizeof(float);
  }

  /// Copies the keys of a head back. \param out  [seqlen, head_dim], overwritten
  void read_key(Index kv_head, RowsView<T> out) const
    requires(!detail::is_latent<Entry>)
  {
    read("KvCache::read_key", "out [seqlen, head_dim]", kv_head, head_dim(), out,
         [](const PageView<Element>& page, Index slot, Index c) { return key_at(page, slot, c); });
  }
  /// Copies the values of a head back. \param out  [seqlen, head_dim_v], overwritten
  void read_value(Index kv_head, RowsView<T> out) const
    requires(!detail::is_latent<Entry>)
  {
    read("KvCache::read_value", "out [seqlen, head_dim_v]", kv_head, head_dim_v(), out, value_at);
  }
  /// Copies the latents back. \param c_kv  [seqlen, latent_dim]; \param k_rope  [seqlen, rope_dim]
  void read_latent(RowsView<T> c_kv, RowsView<T> k_rope) const
    requires detail::is_latent<Entry>
  {
    detail::require_shape("KvCache::read_latent", "k_rope [seqlen, rope_dim]",
                          {k_rope.rows, k_rope.cols}, {seqlen_, entry_.rope_dim});
    read("KvCache::read_latent", "c_kv [seqlen, latent_dim]", 0, entry_.latent_dim, c_kv, value_at);
    read("KvCache::read_latent", "k_rope [seqlen, rope_dim]", 0, entry_.rope_dim, k_rope,
         [this](const PageView<Element>& page, Index slot, Index c) {
           return value_at(page, slot, entry_.latent_dim + c);
         });
  }

  // A source of pages (cache/page.hpp).
  Index num_kv_heads() const noexcept { return entry_.num_kv_heads; }
  /// Width of a key: of a latent cache, latent_dim + rope_dim.
  Index head_dim() const noexcept {
    if constexpr (detail::is_latent<Entry>)
      return entry_.latent_dim + entry_.rope_dim;
    else
      return entry_.head_dim;
  }
  /// Width of a value: of a latent cache, latent_dim.
  Index head_dim_v() const noexcept {
    if constexpr (detail::is_latent<Entry>)
      return entry_.latent_dim;
    else
      return entry_.head_dim_v;
  }
  Index page_scratch() const noexcept { return 0; }
  PageView<Element> page(Index kv_head, Index page, Element*) const noexcept {
    return entry_.view(elements(page, kv_head), scales(page, kv_head));
  }

 private:
  static Index num_pages(Index tokens) noexcept { return (tokens + page_size - 1) / page_size; }
  /// Bytes of a page of one head: elements, then scales, on cache lines.
  Index head_stride() const noexcept {
    const Index bytes =
        scales_offset() + (has_scales<Element> ? Entry::page_scales : 0) * Index{sizeof(float)};
    return (bytes + memory_alignment - 1) / memory_alignment * memory_alignment;
  }
  Index scales_offset() const noexcept { return entry_.page_elements() * Index{sizeof(Element)}; }
  /// Bytes of a page, all heads.
  Index page_stride() const noexcept { return entry_.num_kv_heads * head_stride(); }
  std::byte* page_data(Index page, Index kv_head) const noexcept {
    return pages_.get() + page * page_stride() + kv_head * head_stride();
  }
  Element* elements(Index page, Index kv_head) const noexcept {
    return reinterpret_cast<Element*>(page_data(page, kv_head));
  }
  float* scales(Index page, Index kv_head) const noexcept {
    if constexpr (!has_scales<Element>) return nullptr;
    return reinterpret_cast<float*>(page_data(page, kv_head) + scales_offset());
  }
  static constexpr Index memory_alignment = static_cast<Index>(detail::memory_alignment);

  static T key_at(const PageView<Element>& page, Index slot, Index c) {
    return detail::decode<T>(page.keys[c * page.key_stride + slot], page.key_scales, slot);
  }
  static T value_at(const PageView<Element>& page, Index slot, Index c) {
    return detail::decode<T>(page.values[slot * page.value_stride + c], page.value_scales, slot);
  }

  void append_rows(HeadsView<const T> first, std::string_view first_name, HeadsView<const T> second,
                   std::string_view second_name) {
    require_room(first.rows);
    if constexpr (has_scales<Element>) {
      detail::require_finite("KvCache::append", first_name, first);
      detail::require_finite("KvCache::append", second_name, second);
    }
    for (Index done = 0; done < first.rows;) {
      const Index page = seqlen_ / page_size;
      const Index slot = seqlen_ % page_size;
      const Index count = std::min(page_size - slot, first.rows - done);
      // Whole pages are read, so a new one starts as zeros; who writes it also touches it first.
      if (page >= ready_pages_) {
        std::fill_n(page_data(page, 0), page_stride(), std::byte{0});
        ready_pages_ = page + 1;
      }
      for (Index head = 0; head < num_kv_heads(); ++head)
        entry_.write(elements(page, head), scales(page, head), slot,
                     first.head(head).middle_rows(done, count),
                     second.head(head).middle_rows(done, count));
      done += count;
      seqlen_ += count;
    }
  }

  template <class At>
  void read(std::string_view where, std::string_view name, Index kv_head, Index width,
            RowsView<T> out, const At& at) const {
    detail::require_shape(where, name, {out.rows, out.cols}, {seqlen_, width});
    detail::require(0 <= kv_head && kv_head < num_kv_heads(), where, "kv_head is out of range");
    for (Index token = 0; token < seqlen_; ++token) {
      const PageView<Element> view = page(kv_head, token / page_size, nullptr);
      for (Index c = 0; c < width; ++c) out(token, c) = at(view, token % page_size, c);
    }
  }

  Entry entry_;
  detail::AlignedArray<std::byte> pages_;
  Index capacity_ = 0;     // tokens
  Index seqlen_ = 0;       // tokens
  Index ready_pages_ = 0;  // pages that have been initialised
};

}  // namespace heed
