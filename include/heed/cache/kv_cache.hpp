// SPDX-License-Identifier: MIT
/// \file
/// The KV cache: the tokens of one sequence, in pages. Layer 4, public.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "heed/base/views.hpp"
#include "heed/cache/page_pool.hpp"
#include "heed/cache/page_table.hpp"

namespace heed {
namespace detail {
template <class Cache>
class KvFile;
}  // namespace detail

/// Keys and values of one sequence, or latents; a PageSource, so `attend` and the layers read it.
///
/// \tparam Entry    what a token leaves behind: FullKv<...> or LatentKv<...>
/// \tparam Element  what it is stored as: float, double, f16, bf16 or int8 (base/element.hpp)
///
/// | made as                           | memory                                                  |
/// | --------------------------------- | ------------------------------------------------------- |
/// | KvCache(capacity)                 | its own, all taken at once                              |
/// | KvCache(pool, capacity)           | pages of a PagePool, taken as the sequence grows        |
/// | either, and a CacheWindow as last | likewise; what its window has passed goes back          |
///
/// After that, nothing allocates but `fork`. Whatever throws leaves the cache as it was. Readers
/// may share a cache; who changes it must be alone with it, though not with its pool. Copies are
/// explicit: `fork`. A cache that was moved from has room for nothing.
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

  /// An empty cache with room for `capacity` tokens; with a window, for so many at a time.
  /// \throws ShapeError if the entry's sizes are not all known and positive.
  explicit KvCache(Index capacity, Entry entry = {}, std::optional<CacheWindow> window = {})
      : layout_(entry),
        table_(own_store(layout_, capacity, window), Placement::own, capacity, window) {}
  /// An empty cache of at most `capacity` tokens, in pages of the pool.
  explicit KvCache(const PagePool<Entry, Element>& pool, Index capacity,
                   std::optional<CacheWindow> window = {})
      : layout_(pool.entry()),
        table_(checked(pool.store(), capacity, window), Placement::pooled, capacity, window) {}

  /// Adds tokens. Keys are rotated before they come here.
  /// \param key    [num_kv_heads, count, head_dim]
  /// \param value  [num_kv_heads, count, head_dim_v]
  /// \throws ShapeError, CapacityError, PoolExhaustedError; ElementError for a NaN or inf among int8
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
  /// \throws ShapeError, CapacityError, PoolExhaustedError; ElementError for a NaN or inf among int8
  void append(RowsView<const T> c_kv, RowsView<const T> k_rope)
    requires detail::is_latent<Entry>
  {
    detail::require_shape("KvCache::append", "c_kv [count, latent_dim]", {c_kv.rows, c_kv.cols},
                          {c_kv.rows, entry().latent_dim});
    detail::require_shape("KvCache::append", "k_rope [count, rope_dim]", {k_rope.rows, k_rope.cols},
                          {c_kv.rows, entry().rope_dim});
    append_rows(HeadsView<const T>(c_kv), "c_kv", HeadsView<const T>(k_rope), "k_rope");
  }

  /// Throws CapacityError unless `count` more tokens fit.
  void require_room(Index count) const { table_.require_room(count); }

  Index seqlen() const noexcept { return table_.seqlen(); }  ///< tokens appended and not forgotten
  Index capacity() const noexcept { return table_.capacity(); }  ///< tokens that fit in all
  const Entry& entry() const noexcept { return layout_.entry(); }
  /// Tokens that the window has let go, so that no query sees them.
  KeyRange dropped() const noexcept { return table_.dropped(); }

  /// Forgets all tokens but the first `seqlen`: a rejected speculation.
  /// \throws ShapeError if there are not so many, or if a window has let go what these would see.
  void truncate(Index seqlen) { table_.truncate(seqlen); }
  /// Forgets all tokens. Own memory is kept, a pool's pages go back.
  void clear() noexcept { table_.clear(); }

  /// A cache of the same tokens that goes its own way from here: beam search, or conversations with
  /// a common beginning. A pool's pages are shared until one of both appends to the last of them;
  /// a cache with memory of its own is copied.
  /// \throws StateError for a cache that was moved from
  KvCache fork() const {
    if (table_.store() == nullptr)
      throw StateError("heed::KvCache::fork: the cache was moved from");
    return KvCache(layout_, table_.fork());
  }
  /// Forgets what it holds and shares the first `seqlen` tokens of another cache of its pool.
  /// \throws StateError if the two have no pool in common, ShapeError if the source has not so many
  /// tokens or has let some of them go, CapacityError
  void assign_prefix(const KvCache& source, Index seqlen) {
    table_.assign_prefix(source.table_, seqlen);
  }

  /// Bytes of pages: of a cache with memory of its own, whole pages for the capacity; of one in a
  /// pool, the pages it holds, shared ones included. Rows are padded to 16 elements.
  std::size_t bytes() const noexcept {
    if (table_.store() == nullptr) return 0;
    const Index pages =
        table_.placement() == Placement::own ? table_.store()->num_pages() : table_.held_pages();
    return static_cast<std::size_t>(pages * layout_.page_bytes());
  }
  /// Bytes of what says which pages these are: 4 a page of the capacity, and 8 more for memory of
  /// its own.
  std::size_t table_bytes() const noexcept { return table_.bytes(); }
  /// Bytes a token takes by the formula: 2 num_kv_heads head_dim, or latent_dim + rope_dim,
  /// elements, and the scales of its rows.
  std::size_t bytes_per_token() const noexcept {
    return static_cast<std::size_t>(entry().elements_per_token()) * sizeof(Element) +
           (has_scales<Element> ? static_cast<std::size_t>(entry().rows_per_token()) : 0) *
               sizeof(float);
  }

  /// Copies the keys of a head back, zeros for tokens that were dropped.
  /// \param out  [seqlen, head_dim], overwritten
  void read_key(Index kv_head, RowsView<T> out) const
    requires(!detail::is_latent<Entry>)
  {
    read("KvCache::read_key", "out [seqlen, head_dim]", kv_head, head_dim(), out,
         [](const PageView<Element>& page, Index slot, Index c) { return key_at(page, slot, c); });
  }
  /// Likewise the values. \param out  [seqlen, head_dim_v], overwritten
  void read_value(Index kv_head, RowsView<T> out) const
    requires(!detail::is_latent<Entry>)
  {
    read("KvCache::read_value", "out [seqlen, head_dim_v]", kv_head, head_dim_v(), out, value_at);
  }
  /// Likewise the latents. \param c_kv  [seqlen, latent_dim]; \param k_rope  [seqlen, rope_dim]
  void read_latent(RowsView<T> c_kv, RowsView<T> k_rope) const
    requires detail::is_latent<Entry>
  {
    detail::require_shape("KvCache::read_latent", "k_rope [seqlen, rope_dim]",
                          {k_rope.rows, k_rope.cols}, {seqlen(), entry().rope_dim});
    read("KvCache::read_latent", "c_kv [seqlen, latent_dim]", 0, entry().latent_dim, c_kv,
         value_at);
    read("KvCache::read_latent", "k_rope [seqlen, rope_dim]", 0, entry().rope_dim, k_rope,
         [this](const PageView<Element>& page, Index slot, Index c) {
           return value_at(page, slot, entry().latent_dim + c);
         });
  }

  // A source of pages (cache/page.hpp).
  Index num_kv_heads() const noexcept { return entry().num_kv_heads; }
  /// Width of a key: of a latent cache, latent_dim + rope_dim.
  Index head_dim() const noexcept {
    if constexpr (detail::is_latent<Entry>)
      return entry().latent_dim + entry().rope_dim;
    else
      return entry().head_dim;
  }
  /// Width of a value: of a latent cache, latent_dim.
  Index head_dim_v() const noexcept {
    if constexpr (detail::is_latent<Entry>)
      return entry().latent_dim;
    else
      return entry().head_dim_v;
  }
  Index page_scratch() const noexcept { return 0; }
  PageView<Element> page(Index kv_head, Index page, Element*) const noexcept {
    return layout_.view(table_.data(page), kv_head);
  }

 private:
  friend class detail::KvFile<KvCache>;  // cache/kv_file.hpp
  using Placement = detail::Placement;
  using Layout = detail::PageLayout<Entry, Element>;

  KvCache(const Layout& layout, detail::PageTable table)
      : layout_(layout), table_(std::move(table)) {}

  static std::shared_ptr<detail::PageStore> checked(std::shared_ptr<detail::PageStore> store,
                                                    Index capacity,
                                                    const std::optional<CacheWindow>& window) {
    detail::require(capacity >= 0, "KvCache", "capacity must not be negative");
    if (window) window->check("KvCache");
    return store;
  }
  static std::shared_ptr<detail::PageStore> own_store(const Layout& layout, Index capacity,
                                                      const std::optional<CacheWindow>& window) {
    layout.entry().check("KvCache");
    checked(nullptr, capacity, window);
    return std::make_shared<detail::PageStore>(detail::PageTable::page_count(capacity),
                                               layout.page_bytes());
  }

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
    const Index begin = seqlen();
    table_.extend(first.rows);
    for (Index done = 0; done < first.rows;) {
      const Index slot = (begin + done) % page_size;
      const Index count = std::min(page_size - slot, first.rows - done);
      std::byte* const page = table_.data((begin + done) / page_size);
      // Whole pages are read, so one that is begun starts as zeros; who writes it also touches it
      // first.
      if (slot == 0) std::fill_n(page, layout_.page_bytes(), std::byte{0});
      for (Index head = 0; head < num_kv_heads(); ++head)
        entry().write(layout_.elements(page, head), layout_.scales(page, head), slot,
                      first.head(head).middle_rows(done, count),
                      second.head(head).middle_rows(done, count));
      done += count;
    }
  }

  template <class At>
  void read(std::string_view where, std::string_view name, Index kv_head, Index width,
            RowsView<T> out, const At& at) const {
    detail::require_shape(where, name, {out.rows, out.cols}, {seqlen(), width});
    detail::require(0 <= kv_head && kv_head < num_kv_heads(), where, "kv_head is out of range");
    const auto [dropped_begin, dropped_end] = dropped();
    for (Index token = 0; token < seqlen(); ++token) {
      if (dropped_begin <= token && token < dropped_end) {
        std::fill_n(out.row(token), width, T{0});
        continue;
      }
      const PageView<Element> view = page(kv_head, token / page_size, nullptr);
      for (Index c = 0; c < width; ++c) out(token, c) = at(view, token % page_size, c);
    }
  }

  Layout layout_;
  detail::PageTable table_;
};

}  // namespace heed
