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

/// A call of fewer tasks than this has its tiles halved, so that more threads find work. A row's
/// bits do not depend on the rows beside it.
inline constexpr Index min_tasks = 4;

/// The smallest tile that is halved: below it, reading the same keys in both halves costs more than
/// the balance gains. The tile of a call that would be one task is halved in any case, down to the
/// rows of a register tile.
inline constexpr Index min_rows_to_halve = 8 * simd::max_tile_rows;

/// Query rows of a tile, at most: enough that a page read from the L2 cache serves many FMAs, few
/// enough that queries, scores and sums stay in that cache. A multiple of the register tile.
constexpr Index tile_rows(Index head_dim, Index head_dim_v) {
  return (head_dim + head_dim_v > 512 ? 8 : 16) * simd::max_tile_rows;
}

/// Where the tiles of a list of problems lie in one numbering.
template <class T, class Source, class Mask>
struct Schedule {
  std::span<const Problem<T, Source, Mask>> problems;
  Index rows_per_tile = 0;
  Index num_tiles = 0;
  Index num_splits = 0;
  Index work = 0;  // multiplications, were all keys visible

  explicit Schedule(std::span<const Problem<T, Source, Mask>> list) : problems(list) {
    const Source& first = *list.front().source;
    Index most_rows = 1;
    for (const auto& problem : list) {
      most_rows = std::max(most_rows, problem.rows());
      work += problem.query.num_heads * problem.query.rows * problem.source->seqlen() *
              (first.head_dim() + first.head_dim_v());
      num_splits = std::max(num_splits, (problem.source->seqlen() + split_size - 1) / split_size);
    }
    rows_per_tile = std::min(tile_rows(first.head_dim(), first.head_dim_v()), most_rows);
    count_tiles();
    if (work < min_parallel_work) return;
    const auto smallest = [&] {
      return num_tiles * num_splits == 1 ? 2 * simd::max_tile_rows : min_rows_to_halve;
    };
    while (num_tiles * num_splits < min_tasks && rows_per_tile >= smallest()) {
      rows_per_tile = (rows_per_tile + 1) / 2;
      count_tiles();
    }
  }

  void count_tiles() {
    num_tiles = 0;
    for (const auto& problem : problems) num_tiles += tiles(problem);
  }

  Index tiles_per_head(const Problem<T, Source, Mask>& problem) const {
    return (problem.rows() + rows_per_tile - 1) / rows_per_tile;
  }
  Index tiles(const Problem<T, Source, Mask>& problem) const {
    return tiles_per_head(problem) * problem.source->num_kv_heads();
  }

  struct Place {
    const Problem<T, Source, Mask>* problem;
    Tile tile;
  };
  Place locate(Index index) const {
    const Problem<T, Source, Mask>* problem = problems.data();
    for (; index >= tiles(*problem); ++problem) index -= tiles(*problem);
    const Index per_head = tiles_per_head(*problem);
    // The last tiles of a causal prefill see the most keys; they go first, so that no thread is
    // left with a long one at the end.
    const Index in_head = per_head - 1 - index % per_head;
    const Index begin = in_head * rows_per_tile;
    return {problem, {index / per_head, begin, std::min(rows_per_tile, problem->rows() - begin)}};
  }
};

constexpr KeyRange split_range(Index split) {
  return {split * split_size, (split + 1) * split_size};
}

/// The working memory of a call: a block for each task that may run at one time.
template <class T, class Source, class Mask>
struct TaskMemory {
  Workspace& workspace;
  Index rows, head_dim, head_dim_v, page_scratch;
  std::size_t bytes;

  /// \param schedule  with rows_per_tile and problems
  template <class AnySchedule>
  TaskMemory(Workspace& space, const AnySchedule& schedule, const AnyExecutor& executor)
      : workspace(space), rows(schedule.rows_per_tile),
        head_dim(schedule.problems.front().source->head_dim()),
        head_dim_v(schedule.problems.front().source->head_dim_v()), page_scratch(0) {
    for (const auto& problem : schedule.problems)
      page_scratch = std::max(page_scratch, problem.source->page_scratch());
    bytes = Scratch::bytes(rows, head_dim, head_dim_v, page_scratch);
    workspace.reserve(executor.concurrency(), bytes);
  }

  using Scratch = TileScratch<T, Source>;
  /// Calls f(scratch) with a block of its own.
  template <class F>
  void with_scratch(const F& f) {
    const Workspace::Borrowed block = workspace.borrow(bytes);
    f(Scratch(block.data(), rows, head_dim, head_dim_v, page_scratch));
  }
};

/// A task per tile.
template <class T, class Source, class Mask, class Score>
void run_tiles(const Schedule<T, Source, Mask>& schedule, const Score& score,
               const AnyExecutor& executor, TaskMemory<T, Source, Mask>& memory) {
  executor.parallel_for(schedule.num_tiles, [&](Index task) {
    const auto place = schedule.locate(task);
    const Problem<T, Source, Mask>& problem = *place.problem;
    const Tile& tile = place.tile;
    memory.with_scratch([&](const auto& scratch) {
      load_queries(problem, tile, scratch);
      const KeyRange keys = tile_keys(problem, tile, {0, problem.source->seqlen()}).some;
      Index split = keys.begin / split_size;
      auto first = scratch;  // the first split needs no merge
      first.partial = scratch.total;
      sweep(problem, score, tile, split_range(split), first);
      Partial<T> total = scratch.total;
      for (++split; split * split_size < keys.end; ++split) {
        sweep(problem, score, tile, split_range(split), scratch);
        total.merge(scratch.partial, tile.count);
      }
      finish(problem, tile, total);
    });
  });
}

/// A task per tile and key split, in waves of at most max_partials.
template <class T, class Source, class Mask, class Score>
void run_splits(const Schedule<T, Source, Mask>& schedule, const Score& score,
                const AnyExecutor& executor, TaskMemory<T, Source, Mask>& memory) {
  const Index splits_per_wave = std::min(max_partials / schedule.num_tiles, schedule.num_splits);
  const Index rows = memory.rows;
  const Index width = simd::padded(memory.head_dim_v);
  const Index num_partials = schedule.num_tiles * (splits_per_wave + 1);
  const Index sums = num_partials * rows * width;
  const Workspace::Borrowed block = memory.workspace.borrow(
      static_cast<std::size_t>(sums) * sizeof(T) +
      static_cast<std::size_t>(num_partials * rows) * sizeof(SoftmaxState<T>));
  T* const all_sums = reinterpret_cast<T*>(block.data());
  auto* const all_states = reinterpret_cast<SoftmaxState<T>*>(all_sums + sums);
  /// Partial `slot` of a tile; slot 0 is its total.
  const auto partial_of = [&](Index tile, Index slot) {
    const Index index = tile * (splits_per_wave + 1) + slot;
    return Partial<T>{all_states + index * rows, all_sums + index * rows * width, width};
  };
  for (Index index = 0; index < schedule.num_tiles; ++index) partial_of(index, 0).reset(rows);

  for (Index wave = 0; wave < schedule.num_splits; wave += splits_per_wave) {
    const Index splits = std::min(splits_per_wave, schedule.num_splits - wave);
    executor.parallel_for(schedule.num_tiles * splits, [&](Index task) {
      const auto place = schedule.locate(task / splits);
      memory.with_scratch([&](auto scratch) {
        scratch.partial = partial_of(task / splits, 1 + task % splits);
        load_queries(*place.problem, place.tile, scratch);
        sweep(*place.problem, score, place.tile, split_range(wave + task % splits), scratch);
      });
    });
    for (Index index = 0; index < schedule.num_tiles; ++index)
      for (Index slot = 1; slot <= splits; ++slot)
        partial_of(index, 0).merge(partial_of(index, slot), schedule.locate(index).tile.count);
  }
  for (Index index = 0; index < schedule.num_tiles; ++index) {
    const auto [problem, tile] = schedule.locate(index);
    finish(*problem, tile, partial_of(index, 0));
  }
}

/// Attention for a list of sequences whose shapes were checked. The problems share head_dim and
/// head_dim_v.
template <class T, class Source, class Mask, class Score>
void run(std::span<const Problem<T, Source, Mask>> problems, const Score& score,
         const AnyExecutor& given, Workspace& workspace) {
  if (problems.empty()) return;
  const Schedule<T, Source, Mask> schedule(problems);
  if (schedule.num_tiles == 0) return;
  const AnyExecutor executor =
      schedule.work < min_parallel_work ? AnyExecutor(SerialExecutor{}) : given;
  TaskMemory<T, Source, Mask> memory(workspace, schedule, executor);
  if (schedule.num_tiles < max_partials && schedule.num_splits > 1)
    run_splits(schedule, score, executor, memory);
  else
    run_tiles(schedule, score, executor, memory);
}

}  // namespace heed::detail
