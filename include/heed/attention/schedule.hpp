// SPDX-License-Identifier: MIT
/// \file
/// How a call is cut into tasks, by its sizes alone. Layer 5, detail.
///
///     few tiles (decode)     tiles x key splits run side by side, wave after wave; after each wave
///                            every tile merges its partial results in the order of the keys
///     many tiles (prefill)   a task takes one tile through all its key splits, in the same order
///
/// Keys are split at fixed positions of the sequence and merged in their order either way, so the
/// bits of a row depend neither on the way nor on the threads, the batch, or the chunk the row came
/// in.
#pragma once

#include <algorithm>
#include <span>

#include "heed/attention/sweep.hpp"
#include "heed/base/executor.hpp"

namespace heed::detail {

/// Keys per split: 16 pages. One row's split of a 128-wide head takes some 10 microseconds, enough
/// to hide the cost of a task and of a merge; 8192 keys still give 8 tasks to a single head.
inline constexpr Index split_size = 16 * page_size;

/// Fewer tiles than this are also split along the keys, so that many cores find work. Bounds the
/// partial results that are held at a time, whatever the lengths.
inline constexpr Index max_partials = 64;

/// Multiplications below which waking other threads costs more than they save: some 10
/// microseconds.
inline constexpr Index min_parallel_work = Index{1} << 18;

/// The executor that was given, or the calling thread where the work is too little to wake others.
inline AnyExecutor executor_for(Index work, const AnyExecutor& given) {
  return work < min_parallel_work ? AnyExecutor(SerialExecutor{}) : given;
}

/// A call of fewer tasks than this has its tiles halved, so that more threads find work. A row's
/// bits do not depend on the rows beside it.
inline constexpr Index min_tasks = 4;

/// The smallest tile that is halved: below it, reading the same keys in both halves costs more than
/// the balance gains. The tile of a call that would be one task is halved in any case, down to the
/// rows of a register tile.
inline constexpr Index min_rows_to_halve = 8 * simd::max_tile_rows;

/// Whether a call of so many tasks has its tiles, of so many rows, halved.
constexpr bool is_halved(Index tasks, Index rows_per_tile) {
  const Index smallest = tasks == 1 ? 2 * simd::max_tile_rows : min_rows_to_halve;
  return tasks < min_tasks && rows_per_tile >= smallest;
}

/// Query rows of a tile, at most: enough that a page read from the L2 cache serves many FMAs, few
/// enough that queries, scores and sums stay in that cache.
constexpr Index tile_rows(Index head_dim, Index head_dim_v) {
  return head_dim + head_dim_v > 512 ? max_rows_per_tile / 2 : max_rows_per_tile;
}

/// The splits of a sequence that hold keys which some rows may see, in their order. Those that a
/// window has let go are a gap among them.
struct Splits {
  Index first = 0;
  Index count = 0;
  Index before_gap = 0;  ///< how many of them
  Index gap = 0;         ///< splits in it

  Splits() = default;
  /// \param seen  no row sees any other key
  Splits(KeyRange seen, KeyRange dropped) : first(seen.begin / split_size) {
    const Index end = std::max(first, ceil_div(seen.end, split_size));
    const Index gap_begin = std::clamp(ceil_div(dropped.begin, split_size), first, end);
    const Index gap_end = std::clamp(dropped.end / split_size, gap_begin, end);
    before_gap = gap_begin - first;
    gap = gap_end - gap_begin;
    count = end - first - gap;
  }
  /// The keys of the i-th of them.
  KeyRange operator[](Index i) const {
    const Index split = first + i + (i < before_gap ? 0 : gap);
    return {split * split_size, (split + 1) * split_size};
  }
};

/// The tiles of a problem, numbered.
template <class T, class Source, class Mask>
struct Schedule {
  const Problem<T, Source, Mask>& problem;
  Index rows_per_tile;
  Splits splits;
  Index work = 0;  ///< multiplications, if all rows saw what some row may see

  explicit Schedule(const Problem<T, Source, Mask>& one) : problem(one) {
    const Source& source = *one.source;
    const Index width = source.head_dim() + source.head_dim_v();
    if (one.rows() > 0) {
      const KeyRange keys = tile_keys(one, Tile{0, 0, one.rows()}, {0, source.seqlen()}).some;
      work = one.query.num_heads * one.query.rows * keys.size() * width;
      splits = Splits(keys, dropped_keys(source));
    }
    rows_per_tile =
        std::min(tile_rows(source.head_dim(), source.head_dim_v()), std::max<Index>(one.rows(), 1));
    if (work < min_parallel_work) return;
    const Index whole = rows_per_tile;
    while (is_halved(num_tiles() * splits.count, rows_per_tile))
      rows_per_tile = (rows_per_tile + 1) / 2;
    if (rows_per_tile < whole)  // tiles as alike as they can be
      rows_per_tile = ceil_div(one.rows(), tiles_per_head());
  }

  Index tiles_per_head() const { return ceil_div(problem.rows(), rows_per_tile); }
  Index num_tiles() const { return tiles_per_head() * problem.source->num_kv_heads(); }
  Tile tile(Index index) const {
    const Index per_head = tiles_per_head();
    // The last tiles of a causal prefill see the most keys; they go first, so that no thread is
    // left with a long one at the end.
    const Index begin = (per_head - 1 - index % per_head) * rows_per_tile;
    return {index / per_head, begin, std::min(rows_per_tile, problem.rows() - begin)};
  }
};

/// The working memory of a call: a block for each task that may run at one time.
template <class T, class Source, class Mask>
struct TaskMemory {
  Workspace& workspace;
  Index rows, head_dim, head_dim_v, page_scratch;
  std::size_t bytes;

  /// \param tile_rows  of the largest tile
  TaskMemory(Workspace& space, std::span<const Problem<T, Source, Mask>> problems, Index tile_rows)
      : workspace(space), rows(tile_rows), head_dim(problems.front().source->head_dim()),
        head_dim_v(problems.front().source->head_dim_v()), page_scratch(0) {
    for (const auto& problem : problems)
      page_scratch = std::max(page_scratch, problem.source->page_scratch());
    bytes = Scratch::bytes(rows, head_dim, head_dim_v, page_scratch);
  }
  /// A block for every task that the executor may ever run at once, so that no task allocates, in
  /// this call or in a later one of more tasks. (A workspace of one call makes none; of more
  /// tasks at once than processors have threads, those beyond make theirs when they run.) To be
  /// called when all else of the call is borrowed, which would take these blocks.
  void reserve(const AnyExecutor& executor) const {
    constexpr Index most = 1024;
    workspace.reserve(std::min(executor.concurrency(), most), bytes);
  }

  using Scratch = TileScratch<T, Source>;
  /// Calls f(scratch) with a block of its own.
  template <class F>
  void with_scratch(const F& f) {
    const Workspace::Borrowed block = workspace.borrow(bytes);
    f(Scratch(block.data(), rows, head_dim, head_dim_v, page_scratch));
  }
};

/// Some splits of a tile's keys one after another, or one of which it sees nothing: fills
/// scratch.total.
/// \param sweep_split  (keys, scratch): fills scratch.partial
template <class T, class Source, class SweepSplit>
void sweep_in_order(const Splits& splits, Index rows, const TileScratch<T, Source>& scratch,
                    const SweepSplit& sweep_split) {
  auto onto_total = scratch;  // the first needs no merge
  onto_total.partial = scratch.total;
  sweep_split(splits[0], onto_total);
  for (Index i = 1; i < splits.count; ++i) {
    sweep_split(splits[i], scratch);
    scratch.total.merge(scratch.partial, rows);
  }
}

/// A task per tile.
template <class T, class Source, class Mask, class Score>
void run_tiles(const Schedule<T, Source, Mask>& schedule, const Score& score,
               const AnyExecutor& executor, TaskMemory<T, Source, Mask>& memory) {
  const Problem<T, Source, Mask>& problem = schedule.problem;
  memory.reserve(executor);
  executor.parallel_for(schedule.num_tiles(), [&](Index task) {
    const Tile tile = schedule.tile(task);
    memory.with_scratch([&](const auto& scratch) {
      load_queries(problem, tile, scratch);
      const KeyRange keys = tile_keys(problem, tile, {0, problem.source->seqlen()}).some;
      sweep_in_order(
          Splits(keys, dropped_keys(*problem.source)), tile.count, scratch,
          [&](KeyRange split, const auto& to) { sweep(problem, score, tile, split, to); });
      finish(problem, tile, scratch.total);
    });
  });
}

/// A task per tile and key split, in waves of at most max_partials.
template <class T, class Source, class Mask, class Score>
void run_splits(const Schedule<T, Source, Mask>& schedule, const Score& score,
                const AnyExecutor& executor, TaskMemory<T, Source, Mask>& memory) {
  const Problem<T, Source, Mask>& problem = schedule.problem;
  const Index num_tiles = schedule.num_tiles();
  const Index splits_per_wave = std::min(max_partials / num_tiles, schedule.splits.count);
  const Partials<T> partials(memory.workspace, num_tiles * (splits_per_wave + 1), memory.rows,
                             simd::padded(memory.head_dim_v));
  /// Partial `slot` of a tile; slot 0 is its total.
  const auto partial_of = [&](Index tile, Index slot) {
    return partials[tile * (splits_per_wave + 1) + slot];
  };
  for (Index index = 0; index < num_tiles; ++index) partial_of(index, 0).reset(memory.rows);
  memory.reserve(executor);

  for (Index wave = 0; wave < schedule.splits.count; wave += splits_per_wave) {
    const Index splits = std::min(splits_per_wave, schedule.splits.count - wave);
    executor.parallel_for(num_tiles * splits, [&](Index task) {
      // Heads take turns at the same keys, which lie side by side where they are a matrix's.
      const Index index = task % num_tiles, split = task / num_tiles;
      const Tile tile = schedule.tile(index);
      memory.with_scratch([&](auto scratch) {
        scratch.partial = partial_of(index, 1 + split);
        load_queries(problem, tile, scratch);
        sweep(problem, score, tile, schedule.splits[wave + split], scratch);
      });
    });
    for (Index index = 0; index < num_tiles; ++index)
      for (Index slot = 1; slot <= splits; ++slot)
        partial_of(index, 0).merge(partial_of(index, slot), schedule.tile(index).count);
  }
  for (Index index = 0; index < num_tiles; ++index)
    finish(problem, schedule.tile(index), partial_of(index, 0));
}

/// Attention for a sequence whose shapes were checked.
template <class T, class Source, class Mask, class Score>
void run(const Problem<T, Source, Mask>& problem, const Score& score, const AnyExecutor& given,
         Workspace& workspace) {
  const Schedule<T, Source, Mask> schedule(problem);
  if (schedule.num_tiles() == 0) return;
  const AnyExecutor executor = executor_for(schedule.work, given);
  TaskMemory<T, Source, Mask> memory(workspace, std::span(&problem, 1), schedule.rows_per_tile);
  if (schedule.num_tiles() < max_partials && schedule.splits.count > 1)
    run_splits(schedule, score, executor, memory);
  else
    run_tiles(schedule, score, executor, memory);
}

}  // namespace heed::detail
