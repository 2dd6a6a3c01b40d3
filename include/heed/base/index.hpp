// SPDX-License-Identifier: MIT
/// \file
/// The integer for sizes and positions, and the mark for sizes known at run time. Layer 0, public.
#pragma once

#include <concepts>
#include <cstddef>
#include <type_traits>

namespace heed {

/// Counts, offsets, strides and token positions. Signed, as in Eigen.
using Index = std::ptrdiff_t;
static_assert(sizeof(Index) >= 8, "heed: sizes need 64 bits. Compile for a 64-bit target.");

/// In a shape or a template argument: this size is given at run time. The value is
/// Eigen::Dynamic's.
inline constexpr Index dynamic = -1;

/// The size that is fixed, or the one given at run time where that is `dynamic`.
constexpr Index fixed_or(Index fixed, Index given) noexcept {
  return fixed == dynamic ? given : fixed;
}

/// count / part, rounded up: how many parts hold so many. \pre  count >= 0, part > 0
template <std::integral I>
constexpr I ceil_div(I count, std::type_identity_t<I> part) noexcept {
  return count / part + (count % part != 0 ? 1 : 0);
}
/// The smallest multiple of `part` that is not below `count`. \pre  as above, and it fits in an I
template <std::integral I>
constexpr I round_up(I count, std::type_identity_t<I> part) noexcept {
  return ceil_div(count, part) * part;
}

}  // namespace heed
