// SPDX-License-Identifier: MIT
/// \file
/// What the rows of a tile see: of all keys, and of a page. Layer 5, detail.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "heed/attention/problem.hpp"
#include "heed/attention/tile.hpp"
#include "heed/softmax/scaled_softmax.hpp"  // all_visible

namespace heed::detail {

/// What the rows of a tile see of a page.
struct PageVisibility {
  std::uint64_t by_any = 0;            ///< keys that some row sees
  std::uint64_t by_all = all_visible;  ///< keys that every row sees

  bool nothing() const { return by_any == 0; }
  Index first() const { return std::countr_zero(by_any); }
  Index last() const { return page_size - std::countl_zero(by_any); }
  /// Some row does not see some key between the first and the last.
  bool edge() const { return by_all != range_bits({first(), last()}, 0); }
};

/// The keys of a split that the rows of a tile may see.
struct TileKeys {
  KeyRange some;   ///< none outside of it is seen by any row
  KeyRange every;  ///< all in it are seen by every row, if the mask is a RangeMask

  bool whole_page(Index page_begin) const {
    return every.contains({page_begin, page_begin + page_size});
  }
};

template <class T, class Source, class Mask>
TileKeys tile_keys(const Problem<T, Source, Mask>& problem, const Tile& tile, KeyRange split) {
  TileKeys keys{{}, split};
  const Index last = problem.position(tile.begin + tile.count - 1);
  for (Index q_row = problem.position(tile.begin); q_row <= last; ++q_row) {
    const KeyRange range = intersection(mask_range(*problem.mask, q_row, problem.extent()), split);
    keys.every = intersection(keys.every, range);
    keys.some = hull(keys.some, range);
  }
  return keys;
}

inline PageVisibility summarise(const std::uint64_t* visible, RowRange rows) {
  PageVisibility page;
  for (Index r = rows.begin; r < rows.end; ++r) {
    page.by_any |= visible[r];
    page.by_all &= visible[r];
  }
  return page;
}

/// Finds the keys of a page that each row of the tile sees. \param visible  [rows of the tile]
template <class T, class Source, class Mask>
PageVisibility find_visible(const Problem<T, Source, Mask>& problem, const Tile& tile,
                            const TileKeys& keys, Index page_begin, std::uint64_t* visible) {
  const std::uint64_t held = ~range_bits(dropped_keys(*problem.source), page_begin);
  if (RangeMask<Mask> && keys.whole_page(page_begin) && held == all_visible) {
    std::fill_n(visible, tile.count, all_visible);
    return {all_visible, all_visible};
  }
  const Index group = varies_by_head(*problem.mask) ? 1 : problem.group_size;
  for (Index r = 0; r < tile.count; ++r) {
    const Index row = tile.begin + r;
    // All heads of a position see the same unless the mask says otherwise.
    visible[r] = r > 0 && row % group != 0
                     ? visible[r - 1]
                     : held & mask_bits(*problem.mask, problem.layer_head(tile.kv_head, row),
                                        problem.position(row), page_begin, problem.extent());
  }
  return summarise(visible, {0, tile.count});
}

/// Rows that are taken together on a page that not all of them see alike: few, so that little is
/// computed only to be hidden.
inline constexpr Index edge_rows = 2 * simd::max_tile_rows;

/// Calls f(rows, what they see) for the rows of a tile, some at a time: at most `most`, and few
/// where not all see the page alike.
template <class F>
void for_rows_alike(const Tile& tile, const PageVisibility& seen, const std::uint64_t* visible,
                    Index most, const F& f) {
  const Index step = seen.edge() ? edge_rows : most;
  for (Index begin = 0; begin < tile.count; begin += step) {
    const RowRange rows{begin, std::min(begin + step, tile.count)};
    const PageVisibility part = seen.edge() ? summarise(visible, rows) : seen;
    if (!part.nothing()) f(rows, part);
  }
}

}  // namespace heed::detail
