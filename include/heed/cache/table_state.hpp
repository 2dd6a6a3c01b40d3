// SPDX-License-Identifier: MIT
/// \file
/// All there is to a sequence's table except its pages. Layer 4, detail.
#pragma once

#include <optional>

#include "heed/cache/cache_window.hpp"
#include "heed/policy/mask.hpp"  // KeyRange

namespace heed::detail {

/// Whose pages a table holds.
enum class Placement {
  own,     ///< a store of its own
  pooled,  ///< a store that it shares with other sequences
};

/// How long a table's sequence is, and what of it was let go.
struct TableState {
  Index seqlen = 0;
  Index dropped_tokens = 0;  ///< behind the sinks
  Index released_pages = 0;  ///< behind the sinks' pages

  Index held_pages() const noexcept { return page_count(seqlen) - released_pages; }

  /// Tokens that were let go, by that window if there is one.
  KeyRange dropped(const std::optional<CacheWindow>& window) const noexcept {
    const Index sinks = window ? window->num_sink_tokens : 0;
    return {sinks, sinks + dropped_tokens};
  }
  /// Whether calls can have brought a table with this window here. \pre  numbers in 0 .. 10^15
  bool is_reachable(const std::optional<CacheWindow>& window) const noexcept {
    if (!window) return dropped_tokens == 0 && released_pages == 0;
    // The last query may see neither what was dropped nor, therefore, a page that is not there.
    const Index dropped_end = window->num_sink_tokens + dropped_tokens;
    const Index released_end = (page_count(window->num_sink_tokens) + released_pages) * page_size;
    return (dropped_tokens == 0 || dropped_end < seqlen - window->window_left) &&
           (released_pages == 0 || released_end <= dropped_end);
  }
};

}  // namespace heed::detail
