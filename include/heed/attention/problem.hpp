// SPDX-License-Identifier: MIT
/// \file
/// What a call of `attend` asks for, checked. Layer 5, detail.
#pragma once

#include <optional>
#include <span>

#include "heed/base/views.hpp"
#include "heed/cache/page.hpp"
#include "heed/policy/mask.hpp"

namespace heed::detail {

/// The keys that a source no longer holds.
template <class Source>
KeyRange dropped_keys(const Source& source) {
  if constexpr (HasDroppedKeys<Source>)
    return source.dropped();
  else
    return {};
}

/// The first page from `page` on of which the source holds some key.
inline Index first_held_page(Index page, KeyRange dropped) {
  return dropped.contains(page_keys(page)) ? dropped.end / page_size : page;
}

/// Which of a layer's heads a call is for: masks and scores count from the layer's first.
struct LayerHeads {
  Index first;      ///< the call's first head
  Index num_heads;  ///< of the layer
};

/// One sequence's attention: what `attend` was called with, checked.
template <class T, class Source, class Mask>
struct Problem {
  HeadsView<const T> query;  ///< [num_heads, seqlen_q, head_dim]
  T query_scale;             ///< what queries are multiplied by first; see split_query_scale
  const Source* source;
  const Mask* mask;
  HeadsView<T> out;                ///< [num_heads, seqlen_q, head_dim_v]
  std::optional<RowsView<T>> lse;  ///< [num_heads, seqlen_q], if wanted
  std::span<const T> sinks;        ///< [num_heads], or empty if there are none
  LayerHeads heads;
  Index group_size;  ///< query heads to a key/value head: kept, as a division takes long

  MaskExtent extent() const { return {query.rows, source->seqlen()}; }
  MaskExtent extent_of(Index) const { return extent(); }
  /// Rows that share a key/value head. Row r is position r / group_size of the group's head
  /// r % group_size: neighbours in a tile are neighbours in the sequence, so a mask's edge is
  /// short.
  Index rows() const { return query.rows * group_size; }
  Index position(Index row) const { return row / group_size; }
  Index head(Index kv_head, Index row) const { return kv_head * group_size + row % group_size; }
  Index layer_head(Index kv_head, Index row) const { return heads.first + head(kv_head, row); }
};

}  // namespace heed::detail
