// SPDX-License-Identifier: MIT
/// \file
/// What the forward passes of all layers share. Layer 6, public.
#pragma once

#include <cassert>
#include <concepts>
#include <limits>
#include <optional>
#include <ranges>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "heed/base/executor.hpp"
#include "heed/base/workspace.hpp"
#include "heed/cache/page.hpp"
#include "heed/policy/score_chain.hpp"
#include "heed/rope/rope.hpp"

namespace heed {

/// What a forward pass may be given beyond its operands. Every field may be left out.
struct ForwardOptions {
  /// [seqlen_q]: the position RoPE turns each row of x by. Left out, rows follow on the tokens of
  /// the cache that they are appended to, or start at 0 if there is none: in `forward_cross` over a
  /// cached memory too, where a decoder with RoPE gives them at each step.
  std::span<const Index> positions = {};
  /// [seqlen_kv]: the same for the memory of a cross-attention, which alone looks at it. Left out,
  /// it starts at 0, in `append_memory` behind what the memory holds.
  std::span<const Index> memory_positions = {};
  AnyExecutor executor = {};       ///< who runs the tasks
  Workspace* workspace = nullptr;  ///< scratch to reuse, as of all layers of a model; without one
                                   ///< the layer keeps its own
};

/// Where the rows of an input stand: each at a position of its own, or one after another.
struct RowPositions {
  std::span<const Index> each = {};  ///< [rows], or empty
  Index first = 0;                   ///< of the first row, if `each` is empty

  /// Throws ShapeError unless there are so many positions, or none and so many follow on `first`.
  void check(std::string_view where, Index rows) const {
    if (!each.empty())
      detail::require_shape(where, "positions [rows of the input]", {std::ssize(each)}, {rows});
    else
      detail::require_number(first <= std::numeric_limits<Index>::max() - rows, where,
                             "the first position", first, "one that rows can follow on");
  }
  /// Those of rows begin .. begin + count.
  RowPositions middle(Index begin, Index count) const {
    if (each.empty()) return {{}, first + begin};
    return {each.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count)), 0};
  }
  /// Rotates rows that stand there, if there is a Rope. \param heads  [any, rows, head_dim]
  /// \throws ShapeError as Rope::rotate
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

/// Throws unless an input and an output of a layer are of its widths and of as many rows.
/// \param out_width  of the layer's last projection
template <class T>
void check_in_and_out(std::string_view where, RowsView<const T> x, Index model_dim,
                      RowsView<const T> out, Index out_width) {
  require_rows(where, "x [seqlen_q, model_dim]", x, x.rows, model_dim);
  require_rows(where, "out [seqlen_q, out of weights.out]", out, x.rows, out_width);
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

/// Refuses scores in which a layer's scale, which they replace, would be forgotten.
template <class Score>
consteval void require_scaled() {
  static_assert(!is_unscaled<Score>,
                "heed: a score policy takes the place of the softmax scale; name that too: "
                "chain(heed::Scale{layer.softmax_scale()}, heed::Softcap{50}).");
}

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
        next_(reinterpret_cast<T*>(block_.data())), end_(next_ + elements) {}
  RowsView<T> take(Index rows, Index cols) {
    const RowsView<T> matrix(next_, rows, cols);
    next_ += rows * cols;
    assert(next_ <= end_);
    return matrix;
  }

 private:
  Workspace::Borrowed block_;
  T *next_, *end_;
};

/// Refuses a cache that a layer of T cannot use: before anything else of it is compiled, so that
/// the reason is the first error.
template <class T, KeyLayout layout, class Cache>
consteval void require_cache() {
  constexpr bool is_source = PageSource<Cache>;
  static_assert(is_source, "heed: a layer needs a KvCache, or a PageSource that can append.");
  if constexpr (is_source) {
    static_assert(layout == KeyLayout::row_major || Cache::key_layout == KeyLayout::transposed,
                  "heed: this layer caches keys and values: give it a KvCache<FullKv<num_kv_heads, "
                  "head_dim>>.");
    static_assert(
        layout == KeyLayout::transposed || Cache::key_layout == KeyLayout::row_major,
        "heed: this layer caches latents: give it a KvCache<LatentKv<latent_dim, rope_dim>>.");
    static_assert(std::same_as<ComputeType<typename Cache::Element>, T>,
                  "heed: a layer in double needs a cache of double, one in float any other.");
  }
}
/// The same, and scores as require_scaled.
template <class T, KeyLayout layout, class Cache, class Score>
consteval void require_cache_and_score() {
  require_cache<T, layout, Cache>();
  require_scaled<Score>();
}
/// Refuses a const cache, which a pass cannot append to.
template <class Cache>
consteval void require_writable() {
  static_assert(!std::is_const_v<Cache>,
                "heed: forward appends to the cache, so it must not be const.");
}
/// Refuses a cache that overload resolution takes for the mask of a pass without a cache.
template <class Mask>
consteval void require_no_cache() {
  static_assert(
      !PageSource<std::remove_pointer_t<Mask>>,
      "heed: a cache stands where the mask belongs. Give a mask behind it, "
      "forward(x, cache, heed::CausalMask{}, out), and a cache that is not const: forward "
      "appends to it.");
}

/// Throws what `attend` would for a mask or a score once the input's rows are appended: before they
/// are, so that a cache whose window has moved on need not go back.
template <class Cache, class Mask, class Score>
void check_policies(std::string_view where, Index rows, const Cache& cache, const Mask& mask,
                    const Score& score, Index num_heads) {
  const MaskExtent extent{rows, cache.seqlen() + rows};
  check_mask(where, mask, num_heads, extent);
  as_score_policy(score).check(where, num_heads, extent);
}

/// Throws, before anything is changed, if a batch does not fit a layer or its caches.
/// \param check_cache  (cache): throws unless the layer can use it
/// \returns the rows of all sequences
template <class Cache, class Mask, class Score, class CheckCache>
Index check_batch(std::string_view where, std::span<const BatchSequence<Cache, Mask>> sequences,
                  const Score& score, Index num_heads, const CheckCache& check_cache) {
  Index rows = 0;
  for (std::size_t i = 0; i < sequences.size(); ++i)
    for_sequence(where, i, [&] {
      const auto& [seqlen, cache, mask] = sequences[i];
      require(cache != nullptr, where, "there is no cache");
      require_number(seqlen >= 0, where, "seqlen", seqlen, "0 or more");
      check_cache(*cache);
      cache->require_capacity(seqlen);
      check_policies(where, seqlen, *cache, mask, score, num_heads);
      // A sum that is too large for an Index is too large for x.
      rows = seqlen > std::numeric_limits<Index>::max() - rows ? std::numeric_limits<Index>::max()
                                                               : rows + seqlen;
    });
  require_own_caches(where, sequences);
  return rows;
}

/// Takes back what a pass has appended to a cache, unless the pass came to its end.
template <class Cache>
class AppendGuard {
 public:
  /// \param rows  that were appended
  AppendGuard(Cache& cache, Index rows) noexcept : cache_(&cache), rows_(rows) {}
  AppendGuard(AppendGuard&& other) noexcept
      : cache_(std::exchange(other.cache_, nullptr)), rows_(other.rows_) {}
  AppendGuard& operator=(AppendGuard&&) = delete;
  ~AppendGuard() {
    if (cache_ != nullptr) cache_->truncate(cache_->seqlen() - rows_);
  }
  void keep() noexcept { cache_ = nullptr; }

 private:
  Cache* cache_;
  Index rows_;
};

/// The sequences of a batch, of whatever is contiguous: a span, a vector, an array.
template <std::ranges::contiguous_range Sequences>
auto batch_of(const Sequences& sequences) {
  return std::span<const std::ranges::range_value_t<Sequences>>(sequences);
}

}  // namespace detail
}  // namespace heed
