// SPDX-License-Identifier: MIT
/// \file
/// Which tokens a sliding cache keeps. Layer 4, public.
#pragma once

#include <string_view>

#include "heed/base/error.hpp"
#include "heed/base/page_size.hpp"

namespace heed {

/// A cache with a window lets go of what no later query will see: all but the first num_sink_tokens
/// and the window_left tokens before the next one. Pages behind go back to the pool.
///
/// Its tokens keep their positions: seqlen, masks and RoPE count from the sequence's start, and
/// attention with SlidingWindowMask or SinkWindowMask gives the bits that a cache of all tokens
/// gives. Under any other mask, what was let go of is hidden.
///
/// One more page behind the window is kept, so that `truncate` can take back the last append
/// whatever its length, and otherwise go back 64 tokens from the longest that the sequence has
/// been; to the sinks, or some of them, it always can. Sources: Beltagy et al. 2020,
/// arXiv:2004.05150 (windows); Xiao et al. 2023 (StreamingLLM), arXiv:2309.17453 (sinks; there the
/// cached keys are rotated anew, to positions in the cache).
struct CacheWindow {
  Index num_sink_tokens = 0;  ///< first tokens, which stay
  Index window_left = -1;     ///< required: tokens before the next one that stay

  /// Tokens that a cache must have room for if no append is longer than `longest_append`, which is
  /// as large as the other numbers at most.
  [[nodiscard]] constexpr Index capacity(Index longest_append) const noexcept {
    return (page_count(num_sink_tokens) + page_count(window_left + longest_append) + 2) * page_size;
  }
  friend constexpr bool operator==(const CacheWindow&, const CacheWindow&) = default;
  /// Throws ShapeError unless both numbers are given and 0 or more.
  void check(std::string_view where) const {
    constexpr Index most = Index{1} << 40;  // what is reckoned from it then fits in an Index
    const auto require_count = [&](std::string_view name, Index count) {
      detail::require_number(0 <= count && count <= most, where, name, count,
                             "0 to 2^40; to keep all tokens, leave the window out");
    };
    require_count("window.num_sink_tokens", num_sink_tokens);
    require_count("window.window_left, which is required,", window_left);
  }
};

}  // namespace heed
