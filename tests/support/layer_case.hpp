// SPDX-License-Identifier: MIT
/// \file
/// What the tests of all layers share: random matrices and parts of layers, each for the library
/// and for the reference, and how a result is judged.
#pragma once

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "heed/layers/linear.hpp"      // Linear
#include "heed/layers/rms_norm.hpp"    // RmsNorm, RmsNormGain
#include "heed/rope/rope.hpp"          // Rope, RopeOptions
#include "reference/layers.hpp"        // Matrix, Linear, RmsNorm, Rope
#include "support/attention_case.hpp"  // Exact
#include "support/random.hpp"          // Random
#include "support/tolerance.hpp"       // unit_roundoff

namespace heed::test {

using reference::Matrix;

template <class T>
Matrix<T> normal_matrix(Index rows, Index cols, Random& random, double deviation = 1) {
  return {rows, cols, random.normals<T>(rows * cols, deviation)};
}
template <class T>
RowsView<T> view(Matrix<T>& matrix) {
  return {matrix.data.data(), matrix.rows, matrix.cols};
}
template <class T>
RowsView<const T> view(const Matrix<T>& matrix) {
  return {matrix.data.data(), matrix.rows, matrix.cols};
}
template <class To, class From>
Matrix<To> converted(const Matrix<From>& from) {
  return {from.rows, from.cols, std::vector<To>(from.data.begin(), from.data.end())};
}

/// A projection whose outputs have about the deviation of its inputs.
template <class T>
struct LinearCase {
  Matrix<T> weight = {};
  std::vector<T> bias = {};

  LinearCase() = default;
  LinearCase(Index out, Index in, bool with_bias, Random& random)
      : weight(normal_matrix<T>(out, in, random, 1 / std::sqrt(static_cast<double>(in)))),
        bias(random.normals<T>(with_bias ? out : 0, 0.5)) {}

  Linear<T> library() const { return {view(weight), bias}; }
  template <class U>
  reference::Linear<U> formula() const {
    return {converted<U>(weight), {bias.begin(), bias.end()}};
  }
};

template <class T>
struct NormCase {
  std::vector<T> weight;
  T epsilon = T(1e-5);
  RmsNormGain gain;

  NormCase(Index dim, RmsNormGain gain_, Random& random)
      : weight(random.uniforms<T>(dim, 0.5, 1.5)), gain(gain_) {}

  RmsNorm<T> library() const { return {weight, epsilon, gain}; }
  template <class U>
  reference::RmsNorm<U> formula() const {
    std::vector<U> factors(weight.begin(), weight.end());
    if (gain == RmsNormGain::one_plus_weight)
      for (U& factor : factors) factor += 1;
    return {std::move(factors), static_cast<U>(epsilon)};
  }
};

/// The unscaled RoPE of these options; tests/rope holds its scalings.
inline reference::Rope rope_formula(const RopeOptions& options) {
  reference::Rope rope{.pairing = options.pairing == RopePairing::interleaved
                                      ? reference::Rope::Pairing::interleaved
                                      : reference::Rope::Pairing::half_split};
  for (Index pair = 0; pair < options.rope_dim / 2; ++pair)
    rope.frequencies.push_back(
        1 / std::pow(options.theta,
                     static_cast<double>(2 * pair) / static_cast<double>(options.rope_dim)));
  return rope;
}

/// first, first + 1, ...
inline std::vector<Index> positions_from(Index first, Index count) {
  std::vector<Index> positions;
  for (Index i = 0; i < count; ++i) positions.push_back(first + i);
  return positions;
}

/// Makes of a formula's score what a pass was given: nothing else than the default.
struct Unchanged {
  template <class Score>
  void operator()(Score&) const {}
};

/// The tokens of x in chunks. \param forward  (rows of x, rows of out)
template <class T, class Forward>
Matrix<T> in_chunks(const Matrix<T>& x, Index chunk, const Forward& forward) {
  Matrix<T> out(x.rows, x.cols);
  for (Index begin = 0; begin < x.rows; begin += chunk) {
    const Index count = std::min(chunk, x.rows - begin);
    forward(view(x).middle_rows(begin, count), view(out).middle_rows(begin, count));
  }
  return out;
}

/// What CausalMask shows where queries and keys are the same rows.
inline bool causal(Index, Index q_row, Index kv_row) { return kv_row <= q_row; }

/// The largest error of any element; inf if one is NaN.
template <class T>
double largest_error(const std::vector<T>& found, const std::vector<Exact<T>>& exact) {
  double largest = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    const auto error = static_cast<double>(std::abs(found[i] - exact[i]));
    if (std::isnan(error)) return std::numeric_limits<double>::infinity();
    largest = std::max(largest, error);
  }
  return largest;
}

/// Fails if `found` errs more than four times as much as `plain`, the same computation by plain
/// loops in T: a bound that knows the weights. Four, since either error is the largest of a few
/// hundred draws and may be twice off what is usual. The floor is for plain results that are exact
/// by luck: each stage rounds once.
template <class T>
void expect_as_exact(const std::vector<T>& found, const std::vector<T>& plain,
                     const std::vector<Exact<T>>& exact, Index stages) {
  ASSERT_EQ(found.size(), exact.size());
  double magnitude = 0;
  for (const auto element : exact)
    magnitude = std::max(magnitude, static_cast<double>(std::abs(element)));
  const double floor = static_cast<double>(stages) * unit_roundoff<T> * magnitude;
  EXPECT_LE(largest_error(found, exact), std::max(4 * largest_error(plain, exact), floor));
}

}  // namespace heed::test
