// SPDX-License-Identifier: MIT
/// \file
/// What was compared with a golden file, and how far apart it was.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

#include "support/tolerance.hpp"  // golden_bound

namespace heed::golden {

/// One tensor against the recorded one: largest absolute values over all elements.
struct Comparison {
  std::string what;
  double error = 0;      ///< |ours - recorded|
  double source = 0;     ///< |the source's float32 run - recorded|
  double magnitude = 0;  ///< |recorded|
  double bound = 0;      ///< what `error` may be

  /// A bound that is not finite says that the recorded numbers or the source's are not.
  bool passed() const { return std::isfinite(bound) && error <= bound; }
};

/// |a - b| over all elements; infinite if the sizes differ or a NaN is in the way.
template <class A, class B>
double largest_difference(const std::vector<A>& a, const std::vector<B>& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(difference <= largest)) largest = difference;
    if (std::isnan(difference)) return std::numeric_limits<double>::infinity();
  }
  return largest;
}

template <class A>
double largest_magnitude(const std::vector<A>& a) {
  double largest = 0;
  for (const A value : a) largest = std::max(largest, std::abs(static_cast<double>(value)));
  return largest;
}

/// All comparisons of one file.
struct Report {
  std::vector<Comparison> comparisons;

  /// \tparam T  the type that `ours` was computed in
  /// \param source       the source's float32 run, for the bound
  /// \param angle_error  what angles of pairs of columns may be off by
  template <class T>
  void add(std::string what, const std::vector<T>& ours, const std::vector<double>& recorded,
           const std::vector<float>& source, Index stages, double angle_error = 0) {
    Comparison comparison{.what = std::move(what),
                          .error = largest_difference(ours, recorded),
                          .source = largest_difference(source, recorded),
                          .magnitude = largest_magnitude(recorded)};
    comparison.bound = test::golden_bound<T>(comparison.source, comparison.magnitude, stages) +
                       angle_error * std::numbers::sqrt2 * comparison.magnitude;  // a pair's length
    comparisons.push_back(std::move(comparison));
  }

  /// Every difference relative to a unit of its own; where that is 0 there must be none.
  void add_relative(std::string what, std::vector<double> ours, std::vector<double> recorded,
                    const std::vector<double>& units, double bound) {
    for (std::size_t i = 0; i < std::min(ours.size(), recorded.size()); ++i) {
      const bool is_equal = ours[i] == recorded[i];
      ours[i] = is_equal ? 0 : ours[i] / units[i];
      recorded[i] = is_equal ? 0 : recorded[i] / units[i];
    }
    comparisons.push_back({.what = std::move(what),
                           .error = largest_difference(ours, recorded),
                           .magnitude = 1,
                           .bound = bound});
  }

  bool passed() const {
    return !comparisons.empty() &&
           std::all_of(comparisons.begin(), comparisons.end(),
                       [](const Comparison& comparison) { return comparison.passed(); });
  }
};

}  // namespace heed::golden
