// SPDX-License-Identifier: MIT
/// \file
/// A cache in one of the placements, and what it must have allocated.
#pragma once

#include <optional>

#include "heed/cache/kv_cache.hpp"
#include "heed/cache/page_pool.hpp"
#include "kv_memory/decode_case.hpp"

namespace heed::bench {

/// Bytes of what a cache, or a pool, allocates beside pages and lists of them at most: one object
/// that its copies and caches share.
inline constexpr Index most_object_bytes = 256;

/// A cache, and the pool that it takes its pages from if that is its placement.
template <class Entry, class Element>
class PlacedCache {
 public:
  using Cache = KvCache<Entry, Element>;

  /// \param longest_append  tokens of the longest call that will append to it
  PlacedCache(const Entry& entry, const MeasuredCase& one, Placement placement,
              Index longest_append)
      : PlacedCache(entry, window_of(one), placement,
                    one.window ? window_of(one)->capacity(longest_append) : one.tokens) {}

  Cache& cache() { return cache_; }
  const Cache& cache() const { return cache_; }

  /// What the sequence takes: pages, those being filled in float, and its table.
  Index held_bytes() const { return static_cast<Index>(cache_.bytes() + cache_.table_bytes()); }
  /// The same with the pages of the pool that it does not hold, and the pool's lists.
  Index reported_bytes() const {
    if (!pool_) return held_bytes();
    constexpr Index list_bytes =
        2 * 4;  // of a page: how many hold it, and a place in the free list
    return held_bytes() + pool_->free_pages() * static_cast<Index>(pool_->page_bytes()) +
           pool_->num_pages() * list_bytes;
  }

 private:
  static std::optional<CacheWindow> window_of(const MeasuredCase& one) {
    if (!one.window) return std::nullopt;
    return CacheWindow{.window_left = *one.window - 1};
  }
  PlacedCache(const Entry& entry, const std::optional<CacheWindow>& window, Placement placement,
              Index capacity)
      : pool_(placement == Placement::pool
                  ? std::optional(PagePool<Entry, Element>(page_count(capacity), entry))
                  : std::nullopt),
        cache_(pool_ ? Cache(*pool_, capacity, window) : Cache(capacity, entry, window)) {}

  std::optional<PagePool<Entry, Element>> pool_;
  Cache cache_;
};

}  // namespace heed::bench
