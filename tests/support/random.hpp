// SPDX-License-Identifier: MIT
/// \file
/// Seeded random numbers for tests: the same on every platform and standard library, so that a
/// failure seen anywhere can be repeated everywhere.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <random>
#include <vector>

#include "heed/base/index.hpp"  // Index

namespace heed::test {

/// The standard fixes the bits of the engine but not of its distributions, hence our own.
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  /// In [low, high).
  double uniform(double low = 0, double high = 1) {
    const double unit = static_cast<double>(engine_() >> 11) * 0x1p-53;
    return low + unit * (high - low);
  }

  /// Mean 0, standard deviation 1, by Box and Muller.
  double normal() {
    const double radius = std::sqrt(-2 * std::log(1 - uniform()));
    return radius * std::cos(2 * std::numbers::pi * uniform());
  }

  /// In first .. last, both included.
  Index integer(Index first, Index last) {
    const auto range = static_cast<std::uint64_t>(last - first) + 1;
    return first + static_cast<Index>(engine_() % range);
  }

  template <class T>
  std::vector<T> normals(Index count, double deviation = 1) {
    std::vector<T> values(static_cast<std::size_t>(count));
    for (T& value : values) value = static_cast<T>(deviation * normal());
    return values;
  }

  template <class T>
  std::vector<T> uniforms(Index count, double low, double high) {
    std::vector<T> values(static_cast<std::size_t>(count));
    for (T& value : values) value = static_cast<T>(uniform(low, high));
    return values;
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace heed::test
