// SPDX-License-Identifier: MIT
/// \file
/// The KV cache: the tokens of one sequence, in pages. Layer 4, public.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <optional>
#include <string_view>
#include <utility>

#include "heed/base/views.hpp"
#include "heed/cache/kv_bytes.hpp"
#include "heed/cache/page_pool.hpp"
#include "heed/cache/page_table.hpp"
#include "heed/cache/staging.hpp"

namespace heed {
namespace detail {
template <class Cache>
class KvFile;
}  // namespace detail

/// Keys and values of one sequence, or latents; a PageSource, so `attend` and the layers read it.
///
/// \tparam Entry    what a token leaves behind: FullKv<...> or LatentKv<...>
/// \tparam Stored   what its elements are stored as: float, bf16, int8, int4 ... (base/element.hpp)
///
/// | made as                           | memory                                                  |
/// | --------------------------------- | ------------------------------------------------------- |
/// | KvCache(capacity)                 | its own, all taken at once                              |
/// | KvCache(pool, capacity)           | pages of a PagePool, taken as the sequence grows        |
/// | either, with a CacheWindow last   | the same; pages that it has passed are used again       |
///
/// After that, nothing allocates except `fork`, the only way to copy a cache, `save` and `load`.
/// Whatever throws leaves the cache as it was. Readers may share a cache; who changes it must be
/// alone with it, though not with its pool. A cache that was moved from has room for nothing.
template <class Entry, class Stored = float>
class KvCache {
  using T = ComputeType<Stored>;
  using Layout = detail::PageLayout<Entry, Stored>;
  static constexpr bool has_open_page = detail::Staging<Entry, Stored>::has_open_page;

 public:
  using Element = detail::LoadedElement<Stored>;  ///< what the kernel reads
  using Scalar = T;                               ///< appended and read: float, or double
  static constexpr KeyLayout key_layout = Entry::key_layout;
  static constexpr RowRotation row_rotation =
      is_rotated<Stored> ? RowRotation::walsh_hadamard : RowRotation::none;
  static constexpr Products products = is_native<Stored> ? Products::native : Products::exact;
  static constexpr KeyScales key_scales =
      has_open_page ? KeyScales::per_channel : KeyScales::per_token;

  /// An empty cache with room for `capacity` tokens; with a window, for so many at a time.
  /// \throws ShapeError if the entry's sizes are not all known and positive, or a number is out of
  /// its range; CapacityError for more bytes than an Index counts
  explicit KvCache(Index capacity, Entry entry = {}, std::optional<CacheWindow> window = {})
      : KvCache(Layout(checked(entry, capacity, window)), capacity, window) {}
  /// An empty cache of at most `capacity` tokens, any number, in pages of the pool.
  /// \throws ShapeError if a number is out of its range
  explicit KvCache(const PagePool<Entry, Stored>& pool, Index capacity,
                   std::optional<CacheWindow> window = {})
      : KvCache(Layout(checked(pool.entry(), capacity, window)),
                detail::PageTable(pool.store(), detail::Placement::pooled, capacity, window)) {}
  template <class E, class S>
  explicit KvCache(const PagePool<E, S>&, Index capacity, std::optional<CacheWindow> = {})
      : KvCache(capacity) {
    static_assert(std::same_as<PagePool<E, S>, PagePool<Entry, Stored>>,
                  "heed: a KvCache<Entry, Stored> takes its pages from a PagePool<Entry, Stored>.");
  }

  /// Adds tokens. Keys come here with RoPE applied.
  /// \param key    [num_kv_heads, count, head_dim]
  /// \param value  [num_kv_heads, count, head_dim_v]
  /// \throws ShapeError, CapacityError, PoolExhaustedError; where elements have scales,
  /// ElementError for what is not finite or would be given back as inf (base/error.hpp)
  void append(HeadsView<const T> key, HeadsView<const T> value)
    requires(!is_latent<Entry>)
  {
    detail::require_heads("KvCache::append", "key [num_kv_heads, count, head_dim]", key,
                          num_kv_heads(), key.rows, head_dim());
    detail::require_heads("KvCache::append", "value [num_kv_heads, count, head_dim_v]", value,
                          num_kv_heads(), key.rows, head_dim_v());
    append_rows(key, "key", value, "value");
  }
  /// The same for latents that are normed and keys with RoPE applied. \throws as above
  /// \param c_kv  [count, latent_dim]; \param k_rope  [count, rope_dim]
  void append(RowsView<const T> c_kv, RowsView<const T> k_rope)
    requires is_latent<Entry>
  {
    detail::require_rows("KvCache::append", "c_kv [count, latent_dim]", c_kv, c_kv.rows,
                         entry().latent_dim);
    detail::require_rows("KvCache::append", "k_rope [count, rope_dim]", k_rope, c_kv.rows,
                         entry().rope_dim);
    append_rows(HeadsView<const T>(c_kv), "c_kv", HeadsView<const T>(k_rope), "k_rope");
  }

  /// Throws CapacityError unless `count` more tokens fit.
  void require_capacity(Index count) const { table_.require_capacity(count); }
  /// The same, and PoolExhaustedError if the pool has too few pages now.
  void require_room(Index count) const {
    if (const Index needed = pages_needed(count); needed > 0) table_.store()->require_free(needed);
  }
  /// Pages that `count` more tokens take of the pool, the copy of a shared one included, less those
  /// that the window gives back, so it may be negative. \throws CapacityError unless they fit
  [[nodiscard]] Index pages_needed(Index count) const { return table_.pages_needed(count); }
  Index seqlen() const noexcept { return table_.seqlen(); }  ///< tokens appended and not forgotten
  Index capacity() const noexcept { return table_.capacity(); }  ///< tokens that fit at a time
  const Entry& entry() const noexcept { return layout_.entry(); }
  /// Tokens that the window has let go, so that no query sees them.
  KeyRange dropped() const noexcept { return table_.dropped(); }

  /// Forgets all tokens but the first `seqlen`: a rejected speculation. With scales per channel a
  /// page that was whole goes on as it was stored, and is rounded again each time, but for the last
  /// that was filled by an append which began in it: that one is kept in float.
  /// \throws ShapeError if there are not so many, or if a window has let go what these would see.
  void truncate(Index seqlen) {
    const Index before = this->seqlen();
    table_.truncate(seqlen);
    if (seqlen / page_size < before / page_size) reopen();
  }
  /// Forgets all tokens. Own memory is kept, a pool's pages go back.
  void clear() noexcept {
    table_.clear();
    staging_.forget_from(0);
  }

  /// A cache of the same tokens that goes its own way from here: beam search, or conversations with
  /// a common beginning. A pool's pages are shared until one of both appends to the last of them;
  /// a cache with memory of its own is copied.
  /// \throws StateError for a cache that was moved from
  [[nodiscard]] KvCache fork() const {
    if (table_.store() == nullptr)
      throw StateError(detail::message("KvCache::fork", "the cache was moved from"));
    KvCache copy(layout_, table_.fork());
    copy.staging_.assign(staging_);
    return copy;
  }
  /// Forgets what it holds and shares the first `seqlen` tokens of another cache of its pool.
  /// \throws StateError if the two have no pool in common, ShapeError if the source has not so many
  /// tokens or, but for one of the same window, let some of them go, CapacityError; also as
  /// `truncate`
  void assign_prefix(const KvCache& source, Index seqlen) {
    if (this == &source) return truncate(seqlen);
    table_.assign_prefix(source.table_, seqlen);
    staging_.assign(source.staging_);
    if (seqlen / page_size < source.seqlen() / page_size) reopen();
  }

  /// Bytes of pages: of a cache with memory of its own, whole pages for the capacity; of one in a
  /// pool, the pages it holds, shared ones included. Rows of values, of latents and of the rope
  /// part beside scales are padded to 16 elements, channels that have scales to 32. Keys that have
  /// scales per channel add two pages of float, rotated elements a page of a head.
  std::size_t bytes() const noexcept {
    return static_cast<std::size_t>(table_.store() ? table_.page_bytes() + staging_.bytes() : 0);
  }
  /// Bytes of the page table: 4 for each page of the capacity, or of the pool if it has fewer, and
  /// one more; with memory of its own 8 a page for the counts of holders and the list of free ones.
  std::size_t table_bytes() const noexcept { return table_.bytes(); }
  /// Bytes a token takes by the formula, kv_bytes_per_token, scales included.
  std::size_t bytes_per_token() const noexcept {
    return static_cast<std::size_t>(kv_bytes_per_token(entry().shape(), kv_element<Stored>));
  }

  /// Copies the keys of a head back, zeros for tokens that were dropped.
  /// \param out  [seqlen, head_dim], overwritten
  /// \throws ShapeError for another shape, or a head that is not there.
  void read_key(Index kv_head, RowsView<T> out) const
    requires(!is_latent<Entry>)
  {
    read("KvCache::read_key", "out [seqlen, head_dim]", kv_head, out, head_dim(), row_rotation,
         [&](const auto& layout, auto page, Index slot, Index c) {
           return layout.key(page, kv_head, slot, c);
         });
  }
  /// Likewise the values. \param out  [seqlen, head_dim_v], overwritten
  void read_value(Index kv_head, RowsView<T> out) const
    requires(!is_latent<Entry>)
  {
    read("KvCache::read_value", "out [seqlen, head_dim_v]", kv_head, out, head_dim_v(),
         row_rotation, [&](const auto& layout, auto page, Index slot, Index c) {
           return layout.value(page, kv_head, slot, c);
         });
  }
  /// Likewise the latents. \param c_kv  [seqlen, latent_dim]; \param k_rope  [seqlen, rope_dim]
  void read_latent(RowsView<T> c_kv, RowsView<T> k_rope) const
    requires is_latent<Entry>
  {
    detail::require_rows("KvCache::read_latent", "k_rope [seqlen, rope_dim]", k_rope, seqlen(),
                         entry().rope_dim);
    read("KvCache::read_latent", "c_kv [seqlen, latent_dim]", 0, c_kv, entry().latent_dim,
         row_rotation, [](const auto& layout, auto page, Index slot, Index c) {
           return layout.latent(page, slot, c);
         });
    read("KvCache::read_latent", "k_rope [seqlen, rope_dim]", 0, k_rope, entry().rope_dim,
         RowRotation::none, [](const auto& layout, auto page, Index slot, Index c) {
           return layout.rope(page, slot, c);
         });
  }

  // A source of pages (cache/page.hpp).
  Index num_kv_heads() const noexcept { return entry().num_kv_heads; }
  Index head_dim() const noexcept { return entry().key_width(); }  ///< of latents and rope parts
  Index head_dim_v() const noexcept { return entry().value_width(); }  ///< of latents alone
  Index page_scratch() const noexcept { return layout_.template page_scratch<Element>(); }
  PageView<Element> page(Index kv_head, Index page, Element* scratch) const noexcept {
    return layout_.view(table_.place(page), kv_head, scratch);
  }
  const Element* packed_page(Index kv_head, Index page) const noexcept
    requires(Layout::template is_packed<Element>)
  {
    return reinterpret_cast<const Element*>(table_.place(page).head(kv_head));
  }
  const void* page_address(Index page) const noexcept { return table_.place(page).first; }
  /// Of keys that have scales per channel: the page that is being filled, or the next one.
  Index open_page_index() const noexcept
    requires has_open_page
  {
    return seqlen() / page_size;
  }
  PageView<float> open_page(Index kv_head) const noexcept
    requires has_open_page
  {
    return staging_.open_page().view(kv_head);
  }

 private:
  friend class detail::KvFile<KvCache>;  // cache/kv_file.hpp

  KvCache(const Layout& layout, detail::PageTable table)
      : layout_(layout), table_(std::move(table)), staging_(layout.entry()) {}
  KvCache(const Layout& layout, Index capacity, const std::optional<CacheWindow>& window)
      : KvCache(layout,
                detail::PageTable(detail::make_store("KvCache", layout, page_count(capacity)),
                                  detail::Placement::own, capacity, window)) {}

  static Entry checked(const Entry& entry, Index capacity, std::optional<CacheWindow> window) {
    detail::checked_entry("KvCache", entry);
    detail::require_number(capacity >= 0, "KvCache", "capacity", capacity, "0 or more");
    if (window) window->check("KvCache");
    return entry;
  }

  void append_rows(HeadsView<const T> first, std::string_view first_name, HeadsView<const T> second,
                   std::string_view second_name) {
    require_room(first.rows);
    staging_.require_storable(first_name, first);
    staging_.require_storable(second_name, second);
    const Index begin = seqlen();
    table_.extend(first.rows);
    staging_.append(layout_, table_, begin, first, second);
  }
  /// The sequence ends elsewhere than it did: its last page may be one that was stored.
  void reopen() {
    const Index index = seqlen() / page_size, tokens = seqlen() % page_size;
    if (tokens > 0)
      staging_.reopen(layout_, table_.place(index), index, tokens);
    else
      staging_.forget_from(index);
  }

  /// \param rotation  of the rows as they are stored
  /// \param at        (layout, place of a page, slot, column) -> what is stored
  template <class At>
  void read(std::string_view where, std::string_view name, Index kv_head, RowsView<T> out,
            Index width, RowRotation rotation, const At& at) const {
    detail::require_rows(where, name, out, seqlen(), width);
    detail::require_head(where, kv_head, num_kv_heads());
    for (Index token = 0; token < seqlen(); ++token) {
      if (dropped().contains(token)) {
        std::fill_n(out.row(token), width, T{0});
        continue;
      }
      with_page(token / page_size, [&](const auto& layout, detail::PagePlace page) {
        for (Index c = 0; c < width; ++c) out(token, c) = at(layout, page, token % page_size, c);
      });
      if constexpr (is_rotated<Stored>)
        if (rotation == RowRotation::walsh_hadamard) simd::rotate_hadamard(out.row(token), width);
    }
  }
  /// Calls f(layout, place) with those of a page, of which one may be still in float.
  template <class F>
  void with_page(Index page, const F& f) const {
    if constexpr (has_open_page)
      if (page == open_page_index())
        return f(staging_.open_page().layout(), staging_.open_page().place());
    f(layout_, table_.place(page));
  }

  Layout layout_;
  detail::PageTable table_;
  [[no_unique_address]] detail::Staging<Entry, Stored> staging_;
};

}  // namespace heed
