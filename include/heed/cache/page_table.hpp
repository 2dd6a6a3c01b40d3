// SPDX-License-Identifier: MIT
/// \file
/// The pages of one sequence, in its order. Layer 4, detail.
#pragma once

#include <algorithm>
#include <cassert>
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

  Index seqlen() const noexcept { return state_.seqlen; }
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
  KeyRange dropped() const noexcept { return state_.dropped(window_); }
  const TableState& state() const noexcept { return state_; }
  /// Bytes of the table, and of the store's lists if it is this sequence's own.
  std::size_t bytes() const noexcept {
    if (store_ == nullptr) return 0;
    const Index counted = placement_ == Placement::own ? store_->num_pages() : 0;
    const auto lists = static_cast<std::size_t>(counted) * (sizeof(std::int32_t) + sizeof(PageId));
    return pages_.capacity() * sizeof(PageId) + lists;
  }

  /// Where page `page` of the sequence lies, which is held.
  PagePlace place(Index page) const noexcept {
    const Index held = page < sink_pages_ ? page : page - state_.released_pages;
    assert(held < held_pages());
    return store_->place(pages_[static_cast<std::size_t>(held)]);
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
    const bool is_length = count <= std::numeric_limits<Index>::max() - seqlen();
    const Index pages = is_length ? held_pages() - behind_window() + pages_to_add(count, 0) : 0;
    if (!is_length || !fits(seqlen() + count, pages)) {
      std::string text = std::to_string(seqlen()) + " tokens are cached and " +
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
    state_.released_pages += behind;
    if (copies > 0) {
      PageId& last = pages_[static_cast<std::size_t>(kept - 1)];
      const PageId shared = std::exchange(last, pages_.back());
      pages_.pop_back();
      copy_page(*store_, shared, *store_, last);
      store_->give_back({&shared, 1});
    }
    drop_before(seqlen());
    state_.seqlen += count;
  }

  /// Keeps the first `seqlen`. \throws ShapeError if there are fewer, or their window was let go.
  void truncate(Index seqlen) {
    require(0 <= seqlen && seqlen <= state_.seqlen, "KvCache::truncate", [&] {
      return "cannot keep " + std::to_string(seqlen) + " of " + std::to_string(state_.seqlen) +
             " tokens";
    });
    if (seqlen == state_.seqlen) return;
    if (seqlen <= dropped().begin) return keep_front(seqlen);
    require_window("KvCache::truncate", seqlen);
    keep_pages(page_count(seqlen) - state_.released_pages);
    drop_before(seqlen - 1);
    state_.seqlen = seqlen;
  }
  void clear() noexcept { keep_front(0); }

  /// A table of the same tokens: of the same pages, if pooled, until one of both writes to them.
  PageTable fork() const {
    PageTable copy(store_, placement_, capacity_, window_);
    copy.state_ = state_;
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
    require(0 <= seqlen && seqlen <= source.seqlen(), where, [&] {
      return "cannot share " + std::to_string(seqlen) + " of " + std::to_string(source.seqlen()) +
             " tokens";
    });
    TableState state{.seqlen = seqlen};
    const KeyRange dropped = source.dropped();
    const bool slid = !dropped.empty() && seqlen > dropped.begin;
    if (slid) {
      require(window_ == source.window_, where, [&] {
        return "tokens from " + std::to_string(dropped.begin) +
               " on were let go by the source's window, and this cache has another or none";
      });
      source.require_window(where, seqlen);
      state.released_pages = source.state_.released_pages;
    }
    require_fits(where, state);
    const auto count = static_cast<std::size_t>(state.held_pages());
    const std::span<const PageId> prefix(source.pages_.begin(), count);
    store_->share(prefix);
    clear();
    pages_.assign(prefix.begin(), prefix.end());
    state_ = state;
    if (slid) drop_before(seqlen - 1);
  }

  /// Throws CapacityError or PoolExhaustedError if a table of this capacity and store can never
  /// hold what a reachable state does.
  void require_fits(std::string_view where, const TableState& state) const {
    const Index pages = state.held_pages();
    if (!fits(state.seqlen, pages))
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
    state_ = state;
    for_each_page([&](const PagePlace& page) {
      for (Index head = 0; head < store_->num_heads(); ++head, content += store_->head_bytes())
        std::copy_n(content, store_->head_bytes(), page.head(head));
    });
  }

 private:
  /// 1 if the page that is appended to is another's too, so that it is copied.
  Index copied_pages() const {
    return seqlen() % page_size != 0 && store_->is_shared(pages_.back()) ? 1 : 0;
  }
  Index pages_to_add(Index count, Index copies) const {
    return page_count(seqlen() + count) - page_count(seqlen()) + copies;
  }
  /// Whether the capacity suffices for so many tokens in so many held pages.
  bool fits(Index seqlen, Index pages) const noexcept {
    return window_ ? pages <= page_count(capacity_) : seqlen <= capacity_;
  }
  /// Held pages that no query from the next token on will see, but for one that is kept.
  Index behind_window() const noexcept {
    if (!window_) return 0;
    const Index first_seen = (seqlen() - window_->window_left) / page_size - 1;
    return std::max<Index>(0, first_seen - sink_pages_ - state_.released_pages);
  }
  /// Throws ShapeError if pages that the window of the last of `seqlen` tokens begins in are gone.
  void require_window(std::string_view where, Index seqlen) const {
    if (state_.released_pages == 0) return;
    const Index gap_end = (sink_pages_ + state_.released_pages) * page_size;
    // NOLINTNEXTLINE(bugprone-unchecked-optional-access): only a window lets pages go
    require(seqlen - 1 - window_->window_left >= gap_end, where, [&] {
      return "cannot keep " + std::to_string(seqlen) + " of " + std::to_string(state_.seqlen) +
             " tokens: the last one's window begins before token " + std::to_string(gap_end) +
             ", and what is there was let go";
    });
  }
  /// Hides what the query at `position` does not see.
  void drop_before(Index position) noexcept {
    if (!window_) return;
    state_.dropped_tokens =
        std::max<Index>(0, position - window_->window_left - window_->num_sink_tokens);
  }
  /// Keeps tokens before all that were let go.
  void keep_front(Index seqlen) noexcept {
    keep_pages(page_count(seqlen));
    state_ = {.seqlen = seqlen};
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
    std::swap(state_, other.state_);
  }

  std::shared_ptr<PageStore> store_;
  Placement placement_ = Placement::own;
  Index capacity_ = 0;  // tokens; of a sliding sequence, those held at a time
  std::optional<CacheWindow> window_;
  Index sink_pages_ = 0;
  std::vector<PageId> pages_;  // held, in the sequence's order
  TableState state_;
};

}  // namespace heed::detail
