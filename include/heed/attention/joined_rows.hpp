// SPDX-License-Identifier: MIT
/// \file
/// A tile whose rows come from several sequences: where these share pages, it reads them once.
/// Layer 5, detail.
///
///     keys of A   p p p p a a          A, B and C begin with the pages p, B and C also share q:
///     keys of B   p p p p q q b        the tile [A B C] sweeps over p, then the rows of A over a,
///     keys of C   p p p p q q c c      [B C] over q, B over b, and C over c
///
/// Each row meets its own keys in their order, as if its sequence were alone, so its bits are the
/// same.
#pragma once

#include <algorithm>
#include <array>
#include <span>

#include "heed/attention/sweep.hpp"

namespace heed::detail {

/// The rows of one sequence in a tile.
template <class T, class Source, class Mask>
struct Segment {
  const Problem<T, Source, Mask>* problem;
  Index begin;   ///< its first row, of the sequence's rows
  Index count;   ///< of rows
  Index at;      ///< its first row in the tile
  Index common;  ///< keys, from the first on, whose pages are also those of the segment before it

  Tile tile(Index kv_head) const { return {kv_head, begin, count}; }
};

/// Stands in the kernel for the problem of a tile's rows, over pages that all of them share.
template <class T, class Source, class Mask>
class JoinedRows {
 public:
  explicit JoinedRows(std::span<const Segment<T, Source, Mask>> segments)
      : source(longest(segments)), segments_(segments) {
    auto row = owner_.begin();
    for (std::size_t i = 0; i < segments.size(); ++i)
      row = std::fill_n(row, segments[i].count, static_cast<std::uint8_t>(i));
  }

  const Source* source;  ///< the one that holds most: its pages are as full as any other's

  std::span<const Segment<T, Source, Mask>> segments() const { return segments_; }
  Index rows() const { return segments_.back().at + segments_.back().count - segments_.front().at; }
  MaskExtent extent_of(Index row) const { return owner(row).problem->extent(); }
  Index position(Index row) const { return owner(row).problem->position(row_of_owner(row)); }
  Index layer_head(Index kv_head, Index row) const {
    return owner(row).problem->layer_head(kv_head, row_of_owner(row));
  }

 private:
  static const Source* longest(std::span<const Segment<T, Source, Mask>> segments) {
    return std::max_element(segments.begin(), segments.end(),
                            [](const auto& a, const auto& b) {
                              return a.problem->source->seqlen() < b.problem->source->seqlen();
                            })
        ->problem->source;
  }
  const Segment<T, Source, Mask>& owner(Index row) const {
    return segments_[owner_[static_cast<std::size_t>(row)]];
  }
  Index row_of_owner(Index row) const {
    return owner(row).begin + row - (owner(row).at - segments_.front().at);
  }

  std::span<const Segment<T, Source, Mask>> segments_;
  std::array<std::uint8_t, max_rows_per_tile> owner_;
};

template <class T, class Source, class Mask>
TileKeys tile_keys(const JoinedRows<T, Source, Mask>& rows, const Tile& tile, KeyRange range) {
  TileKeys all{{}, range};
  for (const auto& segment : rows.segments()) {
    const TileKeys keys = tile_keys(*segment.problem, segment.tile(tile.kv_head), range);
    all.every = intersection(all.every, keys.every);
    all.some = hull(all.some, keys.some);
  }
  return all;
}

template <class T, class Source, class Mask>
PageVisibility find_visible(const JoinedRows<T, Source, Mask>& rows, const Tile& tile,
                            const TileKeys& keys, Index page_begin, std::uint64_t* visible) {
  PageVisibility all;
  for (const auto& segment : rows.segments()) {
    const PageVisibility own =
        find_visible(*segment.problem, segment.tile(tile.kv_head), keys, page_begin, visible);
    all.by_any |= own.by_any, all.by_all &= own.by_all;
    visible += segment.count;
  }
  return all;
}

/// Continues the attention of a tile's segments over some keys of a split: adds to scratch.partial,
/// whose first row is the first segment's.
template <class T, class Source, class Mask, class Score>
void sweep_segments(std::span<const Segment<T, Source, Mask>> segments, const Score& score,
                    Index kv_head, KeyRange range, const TileScratch<T, Source>& scratch) {
  if (segments.size() == 1) {
    const auto& alone = segments.front();
    return sweep_keys(*alone.problem, score, alone.tile(kv_head), range, scratch);
  }
  Index common = range.end;
  for (const auto& segment : segments.subspan(1)) common = std::min(common, segment.common);
  if (common > range.begin) {
    const JoinedRows<T, Source, Mask> rows(segments);
    sweep_keys(rows, score, Tile{kv_head, 0, rows.rows()}, {range.begin, common}, scratch);
    range.begin = common;
  }
  if (range.empty()) return;
  // From here on each goes with those that share more with it.
  for (std::size_t begin = 0; begin < segments.size();) {
    std::size_t end = begin + 1;
    while (end < segments.size() && segments[end].common > range.begin) ++end;
    sweep_segments(segments.subspan(begin, end - begin), score, kv_head, range,
                   scratch.from_row(segments[begin].at - segments.front().at));
    begin = end;
  }
}

}  // namespace heed::detail
