// SPDX-License-Identifier: MIT
/// \file
/// Scratch memory that is kept between calls, so that a decode step allocates nothing. Layer 0,
/// public.
#pragma once

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstddef>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <span>
#include <utility>
#include <vector>

#include "heed/base/aligned_array.hpp"
#include "heed/base/index.hpp"

namespace heed {

/// A store of scratch blocks. A call borrows blocks and gives them back when it ends; the next call
/// finds them again. Threads may share one, and so may calls that run one after another, as a
/// model's layers do; what they keep then is what the largest of them needs. A layer that is given
/// none keeps one of its own.
class Workspace {
  struct Block {
    detail::AlignedArray<std::byte> memory;
    std::size_t bytes = 0;
  };

 public:
  /// A borrowed block; goes back when it is destroyed.
  class Borrowed {
   public:
    Borrowed(Workspace* owner, Block block) : owner_(owner), block_(std::move(block)) {}
    Borrowed(Borrowed&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)), block_(std::move(other.block_)) {}
    Borrowed& operator=(Borrowed&&) = delete;
    ~Borrowed() {
      if (owner_ != nullptr) owner_->give_back(std::move(block_));
    }
    std::byte* data() const noexcept { return block_.memory.get(); }

   private:
    Workspace* owner_;
    Block block_;
  };

  /// Whether `reserve` makes blocks ahead.
  enum class Use {
    many_calls,  ///< it does, so that no later call need allocate
    one_call,    ///< it does nothing: there is no later call
  };
  Workspace() = default;
  explicit Workspace(Use use) : use_(use) {}
  /// A layer that is moved takes its scratch along, of which nothing may be borrowed then; one that
  /// is copied starts with none.
  Workspace(Workspace&& other) noexcept
      : use_(other.use_), free_(std::move(other.free_)), blocks_(std::exchange(other.blocks_, 0)),
        held_(std::exchange(other.held_, 0)) {}
  Workspace(const Workspace& other) noexcept : use_(other.use_) {}
  /// Each keeps its own scratch.
  Workspace& operator=(const Workspace&) noexcept { return *this; }

  /// A block of at least `bytes`, aligned to a cache line, with unspecified content.
  /// \throws std::bad_alloc
  [[nodiscard]] Borrowed borrow(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    // The smallest that is large enough, so that a large block stays for who needs it.
    auto best = free_.end();
    for (auto block = free_.begin(); block != free_.end(); ++block)
      if (block->bytes >= bytes && (best == free_.end() || block->bytes < best->bytes))
        best = block;
    if (best == free_.end()) return {this, make_block(bytes)};
    Block block = std::move(*best);
    free_.erase(best);
    return {this, std::move(block)};
  }

  /// Makes `count` blocks of at least `bytes` ready, so that as many tasks can borrow one each at
  /// the same time and none of them allocates.
  void reserve(Index count, std::size_t bytes) {
    if (use_ == Use::one_call) return;
    const std::lock_guard lock(mutex_);
    auto ready =
        std::count_if(free_.begin(), free_.end(), [&](const Block& b) { return b.bytes >= bytes; });
    for (; ready < count; ++ready) {
      Block block = make_block(bytes);
      free_.push_back(std::move(block));
    }
  }

  /// Frees all blocks but borrowed ones: after a long prompt, say.
  void clear() noexcept {
    const std::lock_guard lock(mutex_);
    for (const Block& block : free_) held_ -= block.bytes;
    blocks_ -= free_.size();
    free_.clear();
  }

  /// Bytes of all blocks, borrowed ones included.
  std::size_t bytes() const {
    const std::lock_guard lock(mutex_);
    return held_;
  }

 private:
  /// Sizes are rounded up to powers of two, so that a need that grows token by token, as a decode
  /// step's does, meets an allocation only at each doubling.
  Block make_block(std::size_t bytes) {
    if (bytes > std::numeric_limits<std::size_t>::max() / 4) throw std::bad_alloc();
    bytes = std::bit_ceil(std::max(bytes, detail::memory_alignment));
    drop_half_as_large(bytes);
    Block block{detail::make_aligned<std::byte>(static_cast<Index>(bytes)), bytes};
    free_.reserve(++blocks_);  // so that giving back never allocates
    held_ += bytes;
    return block;
  }

  /// A free block of half the size is outgrown by the one about to be made.
  void drop_half_as_large(std::size_t bytes) {
    const auto outgrown = std::find_if(free_.begin(), free_.end(),
                                       [&](const Block& b) { return 2 * b.bytes == bytes; });
    if (outgrown == free_.end()) return;
    held_ -= outgrown->bytes;
    --blocks_;
    free_.erase(outgrown);
  }

  void give_back(Block block) noexcept {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(block));
  }

  Use use_ = Use::many_calls;
  mutable std::mutex mutex_;
  std::vector<Block> free_;
  std::size_t blocks_ = 0;  // free and borrowed
  std::size_t held_ = 0;    // bytes, free and borrowed
};

namespace detail {

/// The workspace that a call was given, or else its caller's own.
inline Workspace& workspace_or(Workspace* given, Workspace& own) {
  return given != nullptr ? *given : own;
}

/// Objects one after another in a borrowed block.
template <class X>
class BorrowedList {
  static_assert(alignof(X) <= memory_alignment);

 public:
  /// \param capacity  how many are added at most
  BorrowedList(Workspace& workspace, std::size_t capacity)
      : block_(workspace.borrow(capacity * sizeof(X))), capacity_(capacity) {}
  BorrowedList(const BorrowedList&) = delete;
  ~BorrowedList() { std::destroy_n(first(), size_); }

  void add(X object) {
    assert(size_ < capacity_);
    std::construct_at(first() + size_, std::move(object));
    ++size_;
  }
  std::span<const X> all() const noexcept { return {first(), size_}; }
  std::span<X> writable() noexcept { return {first(), size_}; }

 private:
  X* first() const noexcept { return reinterpret_cast<X*>(block_.data()); }

  Workspace::Borrowed block_;
  std::size_t size_ = 0, capacity_;
};

}  // namespace detail
}  // namespace heed
