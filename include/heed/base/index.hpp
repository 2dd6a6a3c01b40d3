// SPDX-License-Identifier: MIT
/// \file
/// The integer for sizes and positions, and the mark for sizes known at run time. Layer 0, public.
#pragma once

#include <cstddef>

namespace heed {

/// Counts, offsets, strides and token positions. Signed, as in Eigen.
using Index = std::ptrdiff_t;

/// In a shape or a template argument: this size is given at run time. The value is
/// Eigen::Dynamic's.
inline constexpr Index dynamic = -1;

/// Tokens per page of keys and values. 64 because one bit per token then fills one machine word (a
/// row's mask of a page is a std::uint64_t), and a row's scores of a page fill four AVX-512, eight
/// AVX2 or sixteen SSE registers.
inline constexpr Index page_size = 64;
/// Pages that so many tokens take.
constexpr Index page_count(Index tokens) {
  return tokens / page_size + (tokens % page_size != 0 ? 1 : 0);
}

/// Columns of a strip of rows (StripsView): what the widest register tile takes at once.
inline constexpr Index strip_width = 64;

}  // namespace heed
