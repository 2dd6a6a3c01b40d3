// SPDX-License-Identifier: MIT
/// \file
/// Pages that the caches of many sequences share. Layer 4, public.
#pragma once

#include <memory>

#include "heed/cache/page_layout.hpp"
#include "heed/cache/page_store.hpp"

namespace heed {

/// A fixed number of pages, each for 64 tokens of one sequence, that caches take as they grow and
/// give back as they shrink or end:
///
///     PagePool<FullKv<8, 128>, bf16> pool(4096);        // 262,144 tokens in all
///     KvCache<FullKv<8, 128>, bf16> cache(pool, 8192);  // at most 8192 of them in this sequence
///
/// Sequences that begin alike share the pages of what they have in common (KvCache::fork,
/// KvCache::assign_prefix); who appends to a page that others hold too gets a copy of it first.
///
/// A pool and its copies are one; its memory lives as long as the last of them or of their caches.
/// Threads may use a pool at the same time.
/// Source: Kwon et al. 2023 (PagedAttention), arXiv:2309.06180.
/// \tparam Entry, Stored  as of the caches that take their pages here
template <class Entry, class Stored = float>
class PagePool {
 public:
  /// All memory is taken here, none later.
  /// \throws ShapeError if a size is unknown or out of its range, CapacityError for more pages than
  /// can be
  explicit PagePool(Index num_pages, Entry entry = {})
      : layout_(detail::checked_entry("PagePool", entry)) {
    detail::require_number(num_pages >= 0, "PagePool", "num_pages", num_pages, "0 or more");
    store_ = detail::make_store("PagePool", layout_, num_pages);
  }
  // No move operations: a move copies the handle, so the pool moved from stays usable.
  PagePool(const PagePool&) = default;
  PagePool& operator=(const PagePool&) = default;

  /// Pages in all, and those that no cache holds.
  Index num_pages() const noexcept { return store_->num_pages(); }
  Index free_pages() const { return store_->free_pages(); }
  /// Bytes of all pages, of which each has page_bytes().
  std::size_t bytes() const noexcept {
    return static_cast<std::size_t>(num_pages()) * page_bytes();
  }
  std::size_t page_bytes() const noexcept { return static_cast<std::size_t>(store_->page_bytes()); }
  const Entry& entry() const noexcept { return layout_.entry(); }

  /// For caches.
  const std::shared_ptr<detail::PageStore>& store() const noexcept { return store_; }

 private:
  detail::PageLayout<Entry, Stored> layout_;
  std::shared_ptr<detail::PageStore> store_;
};

}  // namespace heed
