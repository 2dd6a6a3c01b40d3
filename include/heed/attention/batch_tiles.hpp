// SPDX-License-Identifier: MIT
/// \file
/// How a batch is cut into tiles: sequences that begin with the same pages stand together. Layer 5,
/// detail.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <memory>
#include <span>
#include <tuple>

#include "heed/attention/joined_rows.hpp"
#include "heed/attention/schedule.hpp"

namespace heed::detail {

/// Sequences share a tile if at least one in so many of the shorter one's keys is common. Below it,
/// little reading is saved, and the tiles are better tasks of their own.
inline constexpr Index keys_per_common = 8;

/// A sequence in the order of a batch.
template <class T, class Source, class Mask>
struct OrderedSequence {
  const Problem<T, Source, Mask>* problem;
  Index common = 0;  ///< keys, from the first on, whose pages are also those of the one before it

  /// That of page `index`; 0 if there is none that could be another's too.
  std::uintptr_t page_address(Index index) const {
    const Source& source = *problem->source;
    if (index * page_size >= source.seqlen()) return 0;
    if constexpr (HasOpenPage<Source>)
      if (index >= source.open_page_index()) return 0;
    return reinterpret_cast<std::uintptr_t>(source.page_address(index));
  }
};

/// Brings sequences whose pages before `page` are the same ones into an order in which each stands
/// beside those with which it shares most, and finds how much that is.
template <class T, class Source, class Mask>
void order_by_pages(std::span<OrderedSequence<T, Source, Mask>> sequences, Index page) {
  if (sequences.size() < 2) return;
  const KeyRange dropped = dropped_keys(*sequences.front().problem->source);  // of all of them
  const auto same = [&](const auto& a, const auto& b) {
    return a.page_address(page) != 0 && a.page_address(page) == b.page_address(page);
  };
  for (;; ++page) {
    page = first_held_page(page, dropped);
    const auto& first = sequences.front();
    if (!std::all_of(sequences.begin() + 1, sequences.end(),
                     [&](const auto& other) { return same(first, other); }))
      break;
  }
  std::sort(sequences.begin(), sequences.end(), [&](const auto& a, const auto& b) {
    return std::tuple(a.page_address(page), a.problem) <
           std::tuple(b.page_address(page), b.problem);
  });
  for (std::size_t begin = 0; begin < sequences.size();) {
    std::size_t end = begin + 1;
    while (end < sequences.size() && same(sequences[begin], sequences[end])) ++end;
    order_by_pages(sequences.subspan(begin, end - begin), page + 1);
    sequences[begin].common = page * page_size;
    begin = end;
  }
}

/// The same for any sequences.
template <class T, class Source, class Mask>
void order_sequences(std::span<OrderedSequence<T, Source, Mask>> sequences) {
  if constexpr (HasPageAddresses<Source>) {
    // Only those of which the same keys are held can read pages together.
    const auto kind = [](const auto& one) {
      const KeyRange dropped = dropped_keys(*one.problem->source);
      return std::tuple(dropped.empty() ? 0 : dropped.begin, dropped.empty() ? 0 : dropped.end,
                        one.problem->source->num_kv_heads());
    };
    std::sort(sequences.begin(), sequences.end(), [&](const auto& a, const auto& b) {
      return std::tuple(kind(a), a.problem) < std::tuple(kind(b), b.problem);
    });
    for (std::size_t begin = 0; begin < sequences.size();) {
      std::size_t end = begin + 1;
      while (end < sequences.size() && kind(sequences[end]) == kind(sequences[begin])) ++end;
      order_by_pages(sequences.subspan(begin, end - begin), 0);
      sequences[begin].common = 0;
      begin = end;
    }
  }
}

/// A tile of a batch.
template <class T, class Source, class Mask>
struct BatchTile {
  std::span<const Segment<T, Source, Mask>> segments;
  Index kv_head;
  Index rows = 0;
  Splits splits = {};
  Index cost = 0;
  Index first_task = 0;  ///< where each of its splits is a task: the first one's number
};

/// The rows of sequences cut into tiles. The largest come first, so that no thread is left with a
/// long one at the end; those that are large even beside all work are to be split along the keys.
template <class T, class Source, class Mask>
class BatchTiles {
  using Sequence = OrderedSequence<T, Source, Mask>;
  using Part = Segment<T, Source, Mask>;
  using OneTile = BatchTile<T, Source, Mask>;

 public:
  Index rows_per_tile = 1;  ///< of the largest
  Index work = 0;           ///< multiplications, if all rows saw what some row may see

  BatchTiles(std::span<const Problem<T, Source, Mask>> list, Workspace& workspace)
      : problems_(list), block_(workspace.borrow(carve(nullptr))) {
    carve(block_.data());
    order_sequences(sequences_);
    Index most_rows = most_tile_rows();
    cut(most_rows);
    if (work >= min_parallel_work)
      while (tiles_.size() > 0 && is_halved(num_tasks(), most_rows))
        cut(most_rows = (most_rows + 1) / 2);
    sort();
  }

  std::span<const OneTile> tiles() const { return tiles_; }
  std::span<const OneTile> split_tiles() const { return tiles_.first(num_split_tiles_); }
  std::span<const OneTile> whole_tiles() const { return tiles_.subspan(num_split_tiles_); }

 private:
  /// The most that halving tiles, which is for calls of few tasks, adds to either list.
  static constexpr Index more_parts = min_tasks * max_rows_per_tile / simd::max_tile_rows;

  Index most_tile_rows() const {
    const Source& first = *problems_.front().source;
    Index all_rows = 1;
    for (const auto& problem : problems_) all_rows += problem.rows();
    return std::min(tile_rows(first.head_dim(), first.head_dim_v()), all_rows);
  }

  /// Lays out the lists in a block of memory, and returns what they take.
  std::size_t carve(std::byte* memory) {
    const Index most_rows = most_tile_rows();
    Index num_sequences = 0, num_parts = more_parts, num_tiles = more_parts;
    for (const auto& problem : problems_) {
      const Index pieces = ceil_div(problem.rows(), most_rows);
      num_sequences += pieces > 0 ? 1 : 0;
      num_parts += pieces;
      num_tiles += pieces * problem.source->num_kv_heads();
    }
    std::size_t used = 0;
    const auto list = [&]<class X>(Index count, std::span<X>& to) {
      static_assert(std::is_trivially_destructible_v<X> && alignof(X) <= memory_alignment);
      if (memory != nullptr) {
        to = {reinterpret_cast<X*>(memory + used), static_cast<std::size_t>(count)};
        std::uninitialized_value_construct(to.begin(), to.end());
      }
      used += aligned_bytes(static_cast<std::size_t>(count) * sizeof(X));
    };
    list(num_sequences, sequences_);
    list(num_parts, all_parts_);
    list(num_tiles, all_tiles_);
    if (memory == nullptr) return used;
    auto next = sequences_.begin();
    for (const auto& problem : problems_)
      if (problem.rows() > 0) *next++ = {&problem};
    return used;
  }

  /// Whether neighbours are to be in one tile.
  static bool share_tiles(const Sequence& a, const Sequence& b) {
    const Index shorter = std::min(a.problem->source->seqlen(), b.problem->source->seqlen());
    return b.common > 0 && b.common >= ceil_div(shorter, keys_per_common);
  }

  /// Into tiles of at most so many rows.
  void cut(Index most_rows) {
    work = num_splits_ = 0;
    tiles_ = all_tiles_.first(0);
    std::size_t begin = 0, end = 0;  // the tile being filled, in all_parts_
    Index rows = 0;
    const auto close = [&] {
      if (rows > 0) add_tiles(all_parts_.subspan(begin, end - begin), rows);
      begin = end, rows = 0;
    };
    for (std::size_t i = 0; i < sequences_.size(); ++i) {
      const auto& [problem, common] = sequences_[i];
      if (i > 0 && !share_tiles(sequences_[i - 1], sequences_[i])) close();
      for (Index row = 0; row < problem->rows(); row += most_rows) {
        const Index count = std::min(most_rows, problem->rows() - row);
        if (rows + count > most_rows) close();
        all_parts_[end++] = {problem, row, count, rows, common};
        rows += count;
      }
    }
    close();
  }

  /// One for each key/value head.
  void add_tiles(std::span<const Part> parts, Index rows) {
    OneTile tile{.segments = parts, .kv_head = 0, .rows = rows};
    const Source& source = *parts.front().problem->source;
    KeyRange keys;
    for (const Part& part : parts) {
      const Index seqlen = part.problem->source->seqlen();
      const KeyRange own = tile_keys(*part.problem, part.tile(0), {0, seqlen}).some;
      work += part.count * own.size() * (source.head_dim() + source.head_dim_v()) *
              source.num_kv_heads();
      keys = hull(keys, own);
      // To read keys takes about as long as to compute a register tile's rows.
      tile.cost += (part.count + simd::max_tile_rows) * own.size();
    }
    tile.splits = Splits(keys, dropped_keys(source));
    num_splits_ = std::max(num_splits_, tile.splits.count);
    for (; tile.kv_head < source.num_kv_heads(); ++tile.kv_head) {
      tiles_ = all_tiles_.first(tiles_.size() + 1);
      tiles_.back() = tile;
    }
  }

  Index num_tasks() const { return std::ssize(tiles_) * std::max<Index>(1, num_splits_); }

  void sort() {
    Index total = 0;
    for (const OneTile& tile : tiles_) {
      rows_per_tile = std::max(rows_per_tile, tile.rows);
      total += tile.cost;
    }
    const auto is_large = [total](const OneTile& tile) {
      return tile.splits.count > 1 && tile.cost > total / max_partials;
    };
    // Tiles of about the same cost stay in the order of their keys, which are then in the caches;
    // the last of a causal prefill first, since they see the most.
    const auto rank = [&](const OneTile& tile) {
      const auto magnitude =
          static_cast<Index>(std::bit_width(static_cast<std::uint64_t>(tile.cost)));
      return std::tuple(!is_large(tile), -magnitude, tile.segments.front().problem, tile.kv_head,
                        -tile.segments.front().begin, tile.segments.data());
    };
    std::sort(tiles_.begin(), tiles_.end(),
              [&](const OneTile& a, const OneTile& b) { return rank(a) < rank(b); });
    Index task = 0;
    for (OneTile& tile : tiles_) {
      if (!is_large(tile)) break;
      tile.first_task = task;
      task += tile.splits.count;
      ++num_split_tiles_;
    }
  }

  std::span<const Problem<T, Source, Mask>> problems_;
  Workspace::Borrowed block_;
  std::span<Sequence> sequences_;
  std::span<Part> all_parts_;
  std::span<OneTile> all_tiles_, tiles_;
  Index num_splits_ = 0;  // of the tile with the most
  std::size_t num_split_tiles_ = 0;
};

}  // namespace heed::detail
