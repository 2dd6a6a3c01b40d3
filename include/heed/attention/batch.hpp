// SPDX-License-Identifier: MIT
/// \file
/// Runs a batch: its tiles as tasks, the large ones split along the keys. Layer 5, detail.
///
///     wave 0:  some splits of large tiles, some of the other tiles; then the splits are merged
///     wave 1:  more splits, more tiles; ...
///
/// As in schedule.hpp, splits start at fixed keys and merge in their order whoever computes them,
/// so the bits of a row are those of a call of its own.
#pragma once

#include <algorithm>
#include <span>

#include "heed/attention/batch_tiles.hpp"

namespace heed::detail {

template <class T, class Source, class Mask>
void load_queries(const BatchTile<T, Source, Mask>& tile, const TileScratch<T, Source>& scratch) {
  for (const auto& segment : tile.segments)
    load_queries(*segment.problem, segment.tile(tile.kv_head), scratch.from_row(segment.at));
}

template <class T, class Source, class Mask, class Score>
void sweep(const BatchTile<T, Source, Mask>& tile, const Score& score, KeyRange split,
           const TileScratch<T, Source>& scratch) {
  scratch.partial.reset(tile.rows);
  sweep_segments(tile.segments, score, tile.kv_head, split, scratch);
}

template <class T, class Source, class Mask>
void finish(const BatchTile<T, Source, Mask>& tile, const Partial<T>& total) {
  for (const auto& segment : tile.segments)
    finish(*segment.problem, segment.tile(tile.kv_head), total.from_row(segment.at));
}

/// All splits of a tile, one after another.
template <class T, class Source, class Mask, class Score>
void run_whole(const BatchTile<T, Source, Mask>& tile, const Score& score,
               const TileScratch<T, Source>& scratch) {
  load_queries(tile, scratch);
  sweep_in_order(tile.splits, tile.rows, scratch,
                 [&](KeyRange split, const auto& to) { sweep(tile, score, split, to); });
  finish(tile, scratch.total);
}

/// What splits have found that is not merged yet: of a wave, and of a tile that goes on from one
/// wave to the next.
template <class T>
class WavePartials {
 public:
  /// As many splits in a wave as take the memory of max_partials tiles, `most_rows` each, at most.
  /// \param rows  of the largest tile that is split; 0 if none is
  WavePartials(Workspace& workspace, Index num_splits, Index rows, Index most_rows, Index width)
      : wave_size_(std::min(num_splits, rows == 0 ? 0 : max_partials * most_rows / rows)),
        partials_(workspace, wave_size_ + 2, rows, width) {}

  Index wave_size() const { return wave_size_; }
  Partial<T> of_task(Index task) const { return partials_[task % wave_size_]; }
  /// Two: the tile that ends in a wave and the one that begins there are merged at the same time.
  Partial<T> carried_into(Index wave) const { return partials_[wave_size_ + wave % 2]; }

 private:
  Index wave_size_;
  Partials<T> partials_;
};

/// Merges what a wave, tasks [begin, end), found for a tile with what waves before it did.
template <class T, class Source, class Mask>
void merge_wave(const BatchTile<T, Source, Mask>& tile, Index begin, Index end,
                const WavePartials<T>& partials) {
  const Index wave = begin / partials.wave_size();
  const Index tile_end = tile.first_task + tile.splits.count;
  const bool goes_on = tile.first_task < begin;
  Index task = std::max(begin, tile.first_task);
  const Partial<T> total = goes_on ? partials.carried_into(wave) : partials.of_task(task++);
  for (; task < std::min(end, tile_end); ++task) total.merge(partials.of_task(task), tile.rows);
  if (tile_end <= end) return finish(tile, total);
  const Partial<T> carried = partials.carried_into(wave + 1);
  std::copy_n(total.state, tile.rows, carried.state);
  std::copy_n(total.sum, tile.rows * total.stride, carried.sum);
}

/// Attention for a list of sequences whose shapes were checked. The problems share head_dim and
/// head_dim_v.
template <class T, class Source, class Mask, class Score>
void run_batch(std::span<const Problem<T, Source, Mask>> problems, const Score& score,
               const AnyExecutor& given, Workspace& workspace) {
  const BatchTiles<T, Source, Mask> batch(problems, workspace);
  if (batch.tiles().empty()) return;
  const AnyExecutor executor = executor_for(batch.work, given);
  TaskMemory<T, Source, Mask> memory(workspace, problems, batch.rows_per_tile);
  const auto large = batch.split_tiles(), others = batch.whole_tiles();
  const Index num_splits = large.empty() ? 0 : large.back().first_task + large.back().splits.count;
  Index rows = 0;
  for (const auto& tile : large) rows = std::max(rows, tile.rows);
  const WavePartials<T> partials(workspace, num_splits, rows,
                                 tile_rows(memory.head_dim, memory.head_dim_v),
                                 simd::padded(memory.head_dim_v));
  memory.reserve(executor);
  const Index wave_size = std::max<Index>(1, partials.wave_size());
  const Index num_waves = std::max<Index>(1, ceil_div(num_splits, wave_size));
  const auto owner = [&](Index task) {
    return std::upper_bound(large.begin(), large.end(), task,
                            [](Index t, const auto& tile) { return t < tile.first_task; }) -
           1;
  };
  for (Index wave = 0; wave < num_waves; ++wave) {
    const Index begin = wave * wave_size, end = std::min(begin + wave_size, num_splits);
    // The other tiles fill up all waves alike.
    const Index first_other = std::ssize(others) * wave / num_waves;
    const Index end_other = std::ssize(others) * (wave + 1) / num_waves;
    executor.parallel_for(end - begin + end_other - first_other, [&](Index task) {
      memory.with_scratch([&](auto scratch) {
        if (task >= end - begin)
          return run_whole(others[static_cast<std::size_t>(first_other + task - (end - begin))],
                           score, scratch);
        const auto& tile = *owner(begin + task);
        scratch.partial = partials.of_task(begin + task);
        load_queries(tile, scratch);
        sweep(tile, score, tile.splits[begin + task - tile.first_task], scratch);
      });
    });
    if (begin == end) continue;
    const auto first = owner(begin), last = owner(end - 1);
    executor.parallel_for(last - first + 1,
                          [&](Index i) { merge_wave(first[i], begin, end, partials); });
  }
}

}  // namespace heed::detail
