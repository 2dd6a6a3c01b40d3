// SPDX-License-Identifier: MIT
/// \file
/// The state of a softmax in progress, which merges. Layer 3, public.
#pragma once

#include <cmath>
#include <limits>

#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#error "heed: compile without -ffast-math (-ffinite-math-only): scores of hidden keys are -inf"
#endif

namespace heed {

/// What one row has to remember of the keys it has seen: the sum of exp(score - row_max), and
/// row_max, which is the largest score, or a little less where it need not follow at once. Beside
/// it stands a sum of values with the same weights, not yet divided.
///
/// Merging is associative and commutative up to rounding; the empty state is the identity. Natural
/// logarithm throughout. Source: Milakov and Gimelshein 2018, arXiv:1805.02867; Dao et al. 2022,
/// arXiv:2205.14135.
template <class T>
struct SoftmaxState {
  T row_max = -std::numeric_limits<T>::infinity();
  T row_sum = 0;

  /// The state of keys whose log-sum-exp is known: that of a finished part, or of a sink.
  static SoftmaxState of(T lse) noexcept {
    return {lse, lse == -std::numeric_limits<T>::infinity() ? T{0} : T{1}};
  }

  /// No key seen, or only keys with a score of -inf.
  bool empty() const noexcept { return row_max == -std::numeric_limits<T>::infinity(); }

  /// Log-sum-exp of the scores seen; -inf if there were none.
  T lse() const noexcept { return empty() ? row_max : row_max + std::log(row_sum); }

  /// What scores are taken relative to: row_max, but 0 while empty, as -inf - -inf is no number.
  T reference() const noexcept { return empty() ? T{0} : row_max; }

  /// What two sums of values are multiplied by, to be of the same reference.
  struct Factors {
    T self;
    T other;
  };
  /// Takes in a state over other keys. \returns the factors for the sums of values of both
  Factors merge(const SoftmaxState& other) noexcept {
    if (other.empty()) return {T{1}, T{0}};
    if (empty()) {
      *this = other;
      return {T{0}, T{1}};
    }
    const bool larger = other.row_max > row_max;
    const T new_max = larger ? other.row_max : row_max;
    const Factors factors{std::exp(row_max - new_max), std::exp(other.row_max - new_max)};
    row_sum = row_sum * factors.self + other.row_sum * factors.other;
    row_max = new_max;
    return factors;
  }
};

}  // namespace heed
