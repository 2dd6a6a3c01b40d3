// SPDX-License-Identifier: MIT
/// \file
/// What the forward passes of all layers share. Layer 6, public.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "heed/base/executor.hpp"
#include "heed/base/workspace.hpp"
#include "heed/cache/page.hpp"
#include "heed/rope/rope.hpp"

namespace heed {

/// What a forward pass may be given beyond its operands. Every field may be left out.
struct ForwardOptions {
  /// [seqlen_q]: the position RoPE turns each row of x by. Left out, rows follow on the cache's
  /// tokens, or start at 0 without a cache.
  std::span<const Index> positions = {};
  /// [seqlen_kv]: the same for the memory of a cross-attention. Left out, it starts at 0.
  std::span<const Index> memory_positions = {};
  AnyExecutor executor = {};
};

/// Where the rows of an input stand: each at a position of its own, or one after another.
struct RowPositions {
  std::span<const Index> each = {};
  Index first = 0;

  void check(std::string_view where, Index rows) const {
    if (!each.empty())
      detail::require_shape(where, "positions [rows of the input]", {std::ssize(each)}, {rows});
  }
  RowPositions middle(Index begin, Index count) const {
    if (each.empty()) return {{}, first + begin};
    return {each.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count)), 0};
  }
  template <class T>
  void rotate(const std::optional<Rope>& rope, HeadsView<T> heads) const {
    if (!rope) return;
    if (each.empty())
      rope->rotate(heads, first);
    else
      rope->rotate(heads, each);
  }
};

/// One sequence of a ragged batch: its share of the input's rows, its own cache, its own mask.
template <class Cache, class Mask>
struct BatchSequence {
  Index seqlen;  ///< rows of x that are this sequence's, one after another
  Cache* cache;  ///< no two sequences of a batch may share one
  Mask mask = {};
};

namespace detail {

template <class T>
void require_rows(std::string_view where, std::string_view argument, RowsView<const T> found,
                  Index rows, Index cols) {
  require_shape(where, argument, {found.rows, found.cols}, {rows, cols});
}

/// Throws unless every sequence of a batch has a cache of its own: two that append to one cache
/// would each see the other's tokens, and room that was checked for both would suffice for one.
template <class Cache, class Mask>
void require_own_caches(std::string_view where,
                        std::span<const BatchSequence<Cache, Mask>> sequences) {
  for (std::size_t i = 0; i < sequences.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      require(sequences[i].cache != sequences[j].cache, where, [&] {
        return "sequences " + std::to_string(j) + " and " + std::to_string(i) +
               " share a cache; each needs its own";
      });
}

/// The value a shape field must have: the fixed one, or what came at run time.
constexpr Index fixed_or(Index fixed, Index given) { return fixed == dynamic ? given : fixed; }

/// The positions of a batch: those of each sequence follow on its cache, or are given. Sequences
/// are rotated one by one, since RoPE scalings may go by a sequence's length.
template <class Cache, class Mask>
struct BatchPositions {
  std::span<const BatchSequence<Cache, Mask>> sequences;
  std::span<const Index> each;  ///< [rows of all sequences], or empty

  void check(std::string_view where, Index rows) const { RowPositions{each}.check(where, rows); }
  template <class T>
  void rotate(const std::optional<Rope>& rope, HeadsView<T> heads) const {
    Index begin = 0;
    for (const auto& sequence : sequences) {
      const RowPositions own = each.empty() ? RowPositions{{}, sequence.cache->seqlen()}
                                            : RowPositions{each}.middle(begin, sequence.seqlen);
      own.rotate(rope, heads.middle_rows(begin, sequence.seqlen));
      begin += sequence.seqlen;
    }
  }
};

/// Matrices laid out in one borrowed block.
template <class T>
class Matrices {
 public:
  Matrices(Workspace& workspace, Index elements)
      : block_(workspace.borrow(static_cast<std::size_t>(elements) * sizeof(T))),
        next_(reinterpret_cast<T*>(block_.data())) {}
  RowsView<T> take(Index rows, Index cols) {
    const RowsView<T> matrix(next_, rows, cols);
    next_ += rows * cols;
    return matrix;
  }

 private:
  Workspace::Borrowed block_;
  T* next_;
};

/// Takes back what a pass appended to a cache, unless it came to its end.
template <class Cache>
class AppendGuard {
 public:
  explicit AppendGuard(Cache& cache) : cache_(&cache), seqlen_(cache.seqlen()) {}
  AppendGuard(AppendGuard&& other) noexcept
      : cache_(std::exchange(other.cache_, nullptr)), seqlen_(other.seqlen_) {}
  AppendGuard& operator=(AppendGuard&&) = delete;
  ~AppendGuard() {
    if (cache_ != nullptr && cache_->seqlen() > seqlen_) cache_->truncate(seqlen_);
  }
  void keep() noexcept { cache_ = nullptr; }

 private:
  Cache* cache_;
  Index seqlen_;
};

}  // namespace detail
}  // namespace heed
