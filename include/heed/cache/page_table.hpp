// SPDX-License-Identifier: MIT
/// \file
/// The pages of one sequence, in its order. Layer 4, detail.
#pragma once

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "heed/cache/cache_window.hpp"
#include "heed/cache/page_store.hpp"
#include "heed/cache/table_state.hpp"
#include "heed/policy/mask.hpp"

namespace heed::detail {

/// Which pages hold a sequence's tokens, and how many tokens those are. Knows nothing of what a
/// token is. Pages between the sinks and the window of a sliding sequence are no longer held:
///
///     pages of the sequence   0 1 | 2 3 4 5 | 6 7 8        2 of sinks, 4 let go
///     pages_                  0 1             2 3 4
class PageTable {
 public:
  PageTable(std::shared_ptr<PageStore> store, Placement placement, Index capacity,
            std::optional<CacheWindow> window)
      : store_(std::move(store)), placement_(placement), capacity_(capacity), window_(window),
        sink_pages_(window ? page_count(window->num_sink_tokens) : 0) {
    // No more than the store has, and a copy on write.
    pages_.reserve(
        static_cast<std::size_t>(std::min(page_count(capacity), store_->num_pages()) + 1));
  }
  PageTable(PageTable&& other) noexcept { swap(other); }
  PageTable& operator=(PageTable&& other) noexcept {
    PageTable moved(std::move(other));
    swap(moved);
    return *this;
  }
  ~PageTable() {
    if (store_ != nullptr) store_->give_back(pages_);
  }

  Index seqlen() const noexcept { return seqlen_; }
  Index capacity() const noexcept { return capacity_; }
  const std::optional<CacheWindow>& window() const noexcept { return window_; }
  const PageStore* store() const noexcept { return store_.get(); }
  Placement placement() const noexcept { return placement_; }
  /// Pages held, shared ones included.
  Index held_pages() const noexcept { return std::ssize(pages_); }
  /// Bytes of these or, of a store of its own, of all there are.
  Index page_bytes() const noexcept {
    const bool own = placement_ == Placement::own;
    return (own ? store_->num_pages() : held_pages()) * store_->page_bytes();
  }
  /// Tokens that were let go: no query may see them.
  KeyRange dropped() const noexcept { return dropped_; }
  TableState state() const noexcept { return {seqlen_, dropped_.size(), released_}; }
  /// Bytes of the table, and of the store's lists if it is this sequence's own.
  std::size_t bytes() const noexcept {
    if (store_ == nullptr) return 0;
    const Index counted = placement_ == Placement::own ? store_->num_pages() : 0;
    const auto lists = static_cast<std::size_t>(counted) * (sizeof(std::int32_t) + sizeof(PageId));
    return pages_.capacity() * sizeof(PageId) + lists;
  }

  /// Where page `page` of the sequence lies, which is held.
  PagePlace place(Index page) const noexcept {
    return store_->place(
        pages_[static_cast<std::size_t>(page < sink_pages_ ? page : page - released_)]);
  }
  /// Calls f(place) for each page held, in the sequence's order.
  template <class F>
  void for_each_page(const F& f) const {
    for (const PageId page : pages_) f(store_->place(page));
  }

  /// Pages that `count` more tokens would take from the store, less those that go back to it then.
  /// \throws CapacityError
  Index pages_needed(Index count) const {
    require_capacity(count);
    if (count <= 0) return 0;
    const auto from = static_cast<std::size_t>(std::min(sink_pages_, held_pages()));
    const auto behind = static_cast<std::size_t>(behind_window());
    return pages_to_add(count, copied_pages()) -
           store_->held_once(std::span(pages_).subspan(from, behind));
  }
  /// Throws CapacityError unless `count` more tokens fit.
  void require_capacity(Index count) const {
    // `count` may be any number, so that a sum with it may overflow.
    const bool is_length = count <= std::numeric_limits<Index>::max() - seqlen_;
    const Index pages = window_ && is_length ? held_pages() - behind_window() +
                                                   page_count(seqlen_ + count) - page_count(seqlen_)
                                             : 0;
    if (!is_length || (window_ ? pages > page_count(capacity_) : seqlen_ + count > capacity_)) {
      std::string text = std::to_string(seqlen_) + " tokens are cached and " +
                         std::to_string(count) + " more were given, but the capacity is " +
                         std::to_string(capacity_);
      if (window_ && is_length)
        text += "; with the window they are " + std::to_string(pages) +
                " pages: append fewer at a time, or make it window.capacity(" +
                std::to_string(count) + ")";
      throw CapacityError(message("KvCache", text));
    }
  }

  /// Room for `count` more tokens behind the others, in pages that are this sequence's alone. All
  /// or nothing. \pre  the capacity suffices
  /// \throws PoolExhaustedError
  void extend(Index count) {
    if (count == 0) return;
    const Index copies = copied_pages();  // asked once: the other holder may let go at any time
    const Index added = pages_to_add(count, copies);
    // Pages behind the window go to the end of the table, where those that come take their places.
    const Index behind = behind_window(), kept = held_pages() - behind;
    const auto first = pages_.begin() + std::min(sink_pages_, held_pages());
    std::rotate(first, first + behind, pages_.end());
    const auto resize = [&](Index pages) { pages_.resize(static_cast<std::size_t>(pages)); };
    resize(std::max(kept + behind, kept + added));
    const auto end = std::span(pages_).subspan(static_cast<std::size_t>(kept));
    try {
      store_->exchange(end.first(static_cast<std::size_t>(behind)),
                       end.first(static_cast<std::size_t>(added)));
    } catch (...) {
      resize(kept + behind);
      std::rotate(first, pages_.end() - behind, pages_.end());
      throw;
    }
    resize(kept + added);
    released_ += behind;
    if (copies > 0) {
      PageId& last = pages_[static_cast<std::size_t>(kept - 1)];
      const PageId shared = std::exchange(last, pages_.back());
      pages_.pop_back();
      copy_page(*store_, shared, *store_, last);
      store_->give_back({&shared, 1});
    }
    drop_before(seqlen_);
    seqlen_ += count;
  }

  /// Keeps the first `seqlen` tokens.
  /// \throws ShapeError if there are not so many, or if their window was let go.
  void truncate(Index seqlen) {
    require(0 <= seqlen && seqlen <= seqlen_, "KvCache::truncate", [&] {
      return "cannot keep " + std::to_string(seqlen) + " of " + std::to_string(seqlen_) + " tokens";
    });
    if (seqlen == seqlen_) return;
    if (seqlen == 0) return clear();
    require_window("KvCache::truncate", seqlen);
    keep_pages(page_count(seqlen) - released_);
    drop_before(seqlen - 1);
    seqlen_ = seqlen;
  }
  void clear() noexcept {
    keep_pages(0);
    seqlen_ = released_ = 0;
    dropped_ = {};
  }

  /// A table of the same tokens. Pooled pages are shared until one of both writes to them; own ones
  /// are copied.
  PageTable fork() const {
    PageTable copy(store_, placement_, capacity_, window_);
    copy.seqlen_ = seqlen_, copy.released_ = released_, copy.dropped_ = dropped_;
    if (placement_ == Placement::pooled) {
      store_->share(pages_);
      copy.pages_.assign(pages_.begin(), pages_.end());
      return copy;
    }
    copy.store_ =
        std::make_shared<PageStore>(store_->num_pages(), store_->num_heads(), store_->head_bytes());
    copy.pages_.resize(pages_.size());
    copy.store_->exchange({}, copy.pages_);
    for (std::size_t i = 0; i < pages_.size(); ++i)
      copy_page(*store_, pages_[i], *copy.store_, copy.pages_[i]);
    return copy;
  }

  /// Holds the first `seqlen` tokens of another table of the same pool in place of its own.
  void assign_prefix(const PageTable& source, Index seqlen) {
    constexpr auto where = "KvCache::assign_prefix";
    if (store_ == nullptr || store_ != source.store_ || placement_ != Placement::pooled)
      throw StateError(message(where, "both caches must take their pages from the same PagePool"));
    require(0 <= seqlen && seqlen <= source.seqlen_, where, [&] {
      return "cannot share " + std::to_string(seqlen) + " of " + std::to_string(source.seqlen_) +
             " tokens";
    });
    TableState state{.seqlen = seqlen};
    const bool slid = !source.dropped_.empty() && seqlen > source.dropped_.begin;
    if (slid) {
      require(window_ == source.window_, where, [&] {
        return "tokens from " + std::to_string(source.dropped_.begin) +
               " on were let go by the source's window, and this cache has another or none";
      });
      source.require_window(where, seqlen);
      state.released_pages = source.released_;
    }
    require_fits(where, state);
    const auto count = static_cast<std::size_t>(state.held_pages());
    const std::span<const PageId> prefix(source.pages_.begin(), count);
    store_->share(prefix);
    clear();
    pages_.assign(prefix.begin(), prefix.end());
    seqlen_ = seqlen, released_ = state.released_pages;
    if (slid) drop_before(seqlen - 1);
  }

  /// Throws CapacityError or PoolExhaustedError if a table of this capacity and store can never
  /// hold what a reachable state does.
  void require_fits(std::string_view where, const TableState& state) const {
    const Index pages = state.held_pages();
    if (window_ ? pages > page_count(capacity_) : state.seqlen > capacity_)
      throw CapacityError(
          message(where, std::to_string(window_ ? pages * page_size : state.seqlen) +
                             " tokens are to be held" + (window_ ? " in whole pages" : "") +
                             ", but the capacity is " + std::to_string(capacity_)));
    if (pages > store_->num_pages())
      throw PoolExhaustedError(message(where, std::to_string(pages) +
                                                  " pages are needed, but the pool has " +
                                                  std::to_string(store_->num_pages())));
  }
  /// Holds pages with this content in place of its own. All or nothing.
  /// \param state    reachable, and such that it fits
  /// \param content  of the held pages, in the sequence's order
  /// \throws PoolExhaustedError
  void restore(const TableState& state, const std::byte* content) {
    std::vector<PageId> pages(static_cast<std::size_t>(state.held_pages()));
    store_->exchange(pages_, pages);
    pages_.assign(pages.begin(), pages.end());  // there is room
    seqlen_ = state.seqlen, released_ = state.released_pages, dropped_ = {};
    if (window_ && state.dropped_tokens > 0)
      dropped_ = {window_->num_sink_tokens, window_->num_sink_tokens + state.dropped_tokens};
    for_each_page([&](const PagePlace& page) {
      for (Index head = 0; head < store_->num_heads(); ++head, content += store_->head_bytes())
        std::copy_n(content, store_->head_bytes(), page.head(head));
    });
  }

 private:
  /// 1 if the page that is appended to is another's too, so that it is copied.
  Index copied_pages() const {
    return seqlen_ % page_size != 0 && store_->is_shared(pages_.back()) ? 1 : 0;
  }
  Index pages_to_add(Index count, Index copies) const {
    return page_count(seqlen_ + count) - page_count(seqlen_) + copies;
  }
  /// Held pages that no query from the next token on will see, but for one that is kept.
  Index behind_window() const noexcept {
    if (!window_) return 0;
    const Index first_seen = (seqlen_ - window_->window_left) / page_size - 1;
    return std::max<Index>(0, first_seen - sink_pages_ - released_);
  }
  /// Throws ShapeError if pages that the window of the last of `seqlen` tokens begins in are gone.
  void require_window(std::string_view where, Index seqlen) const {
    // NOLINTNEXTLINE(bugprone-unchecked-optional-access): only a window lets pages go
    require(released_ == 0 || seqlen - 1 - window_->window_left >= first_behind_gap(), where, [&] {
      return "cannot keep " + std::to_string(seqlen) + " of " + std::to_string(seqlen_) +
             " tokens: the last one's window begins before token " +
             std::to_string(first_behind_gap()) + ", and what is there was let go";
    });
  }
  /// The first token behind what was let go in whole pages.
  Index first_behind_gap() const noexcept { return (sink_pages_ + released_) * page_size; }
  /// Hides what the query at `position` does not see.
  void drop_before(Index position) noexcept {
    if (!window_) return;
    const Index sinks = window_->num_sink_tokens;
    dropped_ = {sinks, std::max(sinks, position - window_->window_left)};
  }
  void keep_pages(Index count) noexcept {
    const auto kept = static_cast<std::size_t>(count);
    if (store_ == nullptr || kept >= pages_.size()) return;
    store_->give_back(std::span<const PageId>(pages_).subspan(kept));
    pages_.resize(kept);
  }
  void swap(PageTable& other) noexcept {
    std::swap(store_, other.store_), std::swap(placement_, other.placement_);
    std::swap(capacity_, other.capacity_), std::swap(window_, other.window_);
    std::swap(sink_pages_, other.sink_pages_), std::swap(pages_, other.pages_);
    std::swap(released_, other.released_), std::swap(dropped_, other.dropped_);
    std::swap(seqlen_, other.seqlen_);
  }

  std::shared_ptr<PageStore> store_;
  Placement placement_ = Placement::own;
  Index capacity_ = 0;  // tokens; of a sliding sequence, those held at a time
  std::optional<CacheWindow> window_;
  Index sink_pages_ = 0;
  std::vector<PageId> pages_;  // held, in the sequence's order
  Index released_ = 0;         // pages between sinks and window that are no longer held
  KeyRange dropped_;           // tokens
  Index seqlen_ = 0;           // tokens, those let go included
};

}  // namespace heed::detail
