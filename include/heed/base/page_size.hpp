// SPDX-License-Identifier: MIT
/// \file
/// How many tokens and columns are taken at once. Layer 0, public.
#pragma once

#include "heed/base/index.hpp"

namespace heed {

/// Tokens per page of keys and values. 64 because one bit per token then fills one machine word (a
/// row's mask of a page is a std::uint64_t), and a row's scores of a page fill four AVX-512, eight
/// AVX2 or sixteen SSE registers.
inline constexpr Index page_size = 64;
/// Pages that so many tokens take.
constexpr Index page_count(Index tokens) noexcept { return ceil_div(tokens, page_size); }

/// Columns of a strip of rows (StripsView): what the widest register tile takes at once.
inline constexpr Index strip_width = 64;

}  // namespace heed
