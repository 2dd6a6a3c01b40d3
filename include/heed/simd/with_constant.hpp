// SPDX-License-Identifier: MIT
/// \file
/// A number known at run time as one known at compile time. Layer 1, detail.
#pragma once

#include <type_traits>
#include <utility>

namespace heed::simd {

/// Calls f(std::integral_constant<int, value>) for a value in 1 .. Max known at run time.
template <int Max, class F>
void with_constant(int value, const F& f) {
  [&]<int... I>(std::integer_sequence<int, I...>) {
    (void)((value == I + 1 && (f(std::integral_constant<int, I + 1>{}), true)) || ...);
  }(std::make_integer_sequence<int, Max>{});
}

}  // namespace heed::simd
