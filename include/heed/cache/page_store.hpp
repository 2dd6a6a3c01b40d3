// SPDX-License-Identifier: MIT
/// \file
/// Memory in pages that are counted: who holds which, and which are free. Layer 4, detail.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "heed/base/aligned_array.hpp"
#include "heed/base/error.hpp"
#include "heed/cache/page_place.hpp"

namespace heed::detail {

/// A page of a store, by its place in it.
using PageId = std::int32_t;

/// Pages of one size in one block of memory. A page may have several holders; it is free again when
/// the last has given it back. Threads may share a store; the content of a page is its holders'.
///
/// A head's parts of all pages lie side by side, since attention reads a head at a time: in one
/// piece as long as pages were taken in order, which is as fast as memory gives
/// (docs/decisions.md).
class PageStore {
 public:
  /// Throws CapacityError for more pages than a PageId tells apart, or bytes than an Index counts.
  static void require_possible(std::string_view where, Index num_pages, Index page_bytes) {
    if (num_pages > std::numeric_limits<PageId>::max() ||
        num_pages > std::numeric_limits<Index>::max() / page_bytes)
      throw CapacityError(message(where, std::to_string(num_pages) + " pages of " +
                                             std::to_string(page_bytes) +
                                             " bytes are more than there can be"));
  }

  /// \pre  possible
  PageStore(Index num_pages, Index num_heads, Index head_bytes)
      : memory_(make_aligned<std::byte>(num_pages * num_heads * head_bytes)), num_heads_(num_heads),
        head_bytes_(head_bytes), holders_(static_cast<std::size_t>(num_pages), 0) {
    free_.reserve(holders_.size());
  }
  PageStore(const PageStore&) = delete;
  PageStore& operator=(const PageStore&) = delete;

  PagePlace place(PageId page) const noexcept {
    return {memory_.get() + Index{page} * head_bytes_, num_pages() * head_bytes_};
  }
  Index num_heads() const noexcept { return num_heads_; }
  Index head_bytes() const noexcept { return head_bytes_; }
  Index page_bytes() const noexcept { return num_heads_ * head_bytes_; }
  Index num_pages() const noexcept { return std::ssize(holders_); }
  Index free_pages() const {
    const std::lock_guard lock(mutex_);
    return available();
  }

  /// Throws PoolExhaustedError unless so many pages are free.
  void require_free(Index needed) const {
    if (const Index free = free_pages(); free < needed) throw_exhausted(needed, free);
  }
  /// Gives pages back and takes others, both or neither; `take` may overlap `give`. Taken
  /// pages hold whatever they held.
  /// \throws PoolExhaustedError if there are too few even with those given back.
  void exchange(std::span<const PageId> give, std::span<PageId> take) {
    const std::lock_guard lock(mutex_);
    const Index freed = count_held_once(give);
    if (available() + freed < std::ssize(take))
      throw_exhausted(std::ssize(take), available() + freed);
    drop_holder(give);
    for (PageId& page : take) {
      if (free_.empty()) {
        page = first_unused_++;  // in order, so that a sequence alone lies in one piece
      } else {
        page = free_.back();
        free_.pop_back();
      }
      holders_of(page) = 1;
    }
  }
  void give_back(std::span<const PageId> pages) noexcept {
    const std::lock_guard lock(mutex_);
    drop_holder(pages);
  }
  /// One holder more.
  void share(std::span<const PageId> pages) {
    const std::lock_guard lock(mutex_);
    for (const PageId page : pages) ++holders_of(page);
  }
  /// How many of these nobody else holds.
  Index held_once(std::span<const PageId> pages) const {
    const std::lock_guard lock(mutex_);
    return count_held_once(pages);
  }
  bool is_shared(PageId page) const {
    const std::lock_guard lock(mutex_);
    return holders_[static_cast<std::size_t>(page)] > 1;
  }

 private:
  std::int32_t& holders_of(PageId page) { return holders_[static_cast<std::size_t>(page)]; }
  void drop_holder(std::span<const PageId> pages) noexcept {
    for (const PageId page : pages)
      if (--holders_of(page) == 0) free_.push_back(page);  // there is room for all
  }
  Index count_held_once(std::span<const PageId> pages) const noexcept {
    return std::count_if(pages.begin(), pages.end(), [this](PageId page) {
      return holders_[static_cast<std::size_t>(page)] == 1;
    });
  }
  [[noreturn]] void throw_exhausted(Index needed, Index free) const {
    throw PoolExhaustedError(message("PagePool", std::to_string(needed) +
                                                     " more pages are needed, but of " +
                                                     std::to_string(num_pages()) + " only " +
                                                     std::to_string(free) + " are free"));
  }
  Index available() const noexcept { return std::ssize(free_) + num_pages() - first_unused_; }

  AlignedArray<std::byte> memory_;
  Index num_heads_, head_bytes_;
  mutable std::mutex mutex_;
  std::vector<std::int32_t> holders_;  // of each page
  std::vector<PageId> free_;           // used before and given back
  PageId first_unused_ = 0;            // pages from here on were never used
};

/// Copies what a page holds to another of the same size.
inline void copy_page(const PageStore& from, PageId page, const PageStore& to, PageId copy) {
  for (Index head = 0; head < from.num_heads(); ++head)
    std::copy_n(from.place(page).head(head), from.head_bytes(), to.place(copy).head(head));
}

}  // namespace heed::detail
