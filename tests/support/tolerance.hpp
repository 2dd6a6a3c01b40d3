// SPDX-License-Identifier: MIT
/// \file
/// How far a rounded result may lie from the exact one: bounds derived from the unit roundoff, from
/// lengths and from magnitudes. No tolerance in these tests is a number somebody liked.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>

#include "heed/base/index.hpp"  // Index

namespace heed::test {

/// The largest relative error of rounding once: half the spacing of the numbers above 1.
template <class T>
inline constexpr double unit_roundoff = static_cast<double>(std::numeric_limits<T>::epsilon()) / 2;

/// |computed - exact| <= dot_bound<T>(n) * sum |a_i b_i| for a dot product of length n in T, in any
/// order of summation.
///
/// Below 36 terms it is the certain bound n u. Above, errors of either sign cancel: the bound
/// lambda sqrt(n) u fails with probability at most 2 n exp(-lambda^2 / 2), and lambda = 6 makes
/// that 3e-8 n while still catching a single term lost from a long sum.
///
/// Source: Higham 2002, "Accuracy and Stability of Numerical Algorithms", section 3.1; Higham and
/// Mary 2019, SIAM J. Sci. Comput. 41(5), theorem 3.1.
template <class T>
double dot_bound(Index length) {
  const auto n = static_cast<double>(length);
  constexpr double lambda = 6;
  return std::min(n, lambda * std::sqrt(n)) * unit_roundoff<T>;
}

/// Bound of the error of one score computed in T.
/// \param head_dim   length of the dot product
/// \param magnitude  |softmax_scale| sum |q_i k_i|, plus the magnitudes of what is added to it
/// \param row_max    the largest score of the row, which is subtracted before exp
template <class T>
double score_bound(Index head_dim, double magnitude, double row_max) {
  // Besides the dot product: the scale, the policy (tanh of a softcap has slope <= 1 and an error
  // of two roundings), its sum, and the subtraction, each one rounding of a value of that
  // magnitude.
  constexpr double policy_roundings = 5;
  return dot_bound<T>(head_dim) * magnitude +
         policy_roundings * unit_roundoff<T> * (magnitude + std::abs(row_max));
}

/// Bound of the error of one element of attention's output, sum_k probs[k] values[k], in T.
///
/// To first order an error e_k of score k changes probs[k] by a factor 1 + e_k - sum_j probs[j]
/// e_j. The numerator and the denominator are sums of seqlen_kv terms; exp errs by up to two units
/// in the last place (four roundings), and the division and the final product round once each.
///
/// \param probs         [seqlen_kv], exact
/// \param score_bounds  [seqlen_kv], from score_bound
/// \param values        [seqlen_kv], one column of the values
template <class T>
double attention_bound(std::span<const double> probs, std::span<const double> score_bounds,
                       std::span<const double> values) {
  constexpr double exp_and_division_roundings = 6;
  double mean_score_error = 0;
  for (std::size_t k = 0; k < probs.size(); ++k) mean_score_error += probs[k] * score_bounds[k];
  const double sums = 2 * dot_bound<T>(static_cast<Index>(probs.size()));
  const double common = mean_score_error + sums + exp_and_division_roundings * unit_roundoff<T>;
  double bound = 0;
  for (std::size_t k = 0; k < probs.size(); ++k)
    bound += probs[k] * std::abs(values[k]) * (score_bounds[k] + common);
  return bound;
}

/// How many results of a chain are rounded one after the other, at the least.
///
/// Attention: dot product, scale, subtraction of the maximum, exp, row sum, sum of values,
/// division.
inline constexpr Index attention_stages = 7;
/// A layer around it: projection, norm or RoPE, output projection.
inline constexpr Index grouped_stages = attention_stages + 3;
/// Latent attention: down-projection, norm, up-projection besides.
inline constexpr Index latent_stages = grouped_stages + 3;

/// How much more than the source heed may err. The source's largest error is one draw: another
/// order of summation is as right and gives another. Over 60 random orders of the sums of
/// `gptoss_sinks_yarn`, a plain float32 computation errs 0.9 to 2.04 times as much as its source.
inline constexpr double draw_factor = 2.5;

/// The float32 bound of a golden case: the published code's own error in float32, and what another
/// draw of it may be.
///
/// The floor is for sources that were exact by luck (one key, one-hot rows) or nearly so on a
/// tensor of few elements: rounding each stage once already moves a result by up to stages * u of
/// its magnitude, so no implementation in float32 can promise less. It is 4e-7 (7 stages) to 8e-7
/// (13) of the largest output, about what sources themselves err: 1e-7 to 6e-7.
inline double float_bound(double source_error, double magnitude, Index stages) {
  return std::max(draw_factor * source_error,
                  static_cast<double>(stages) * unit_roundoff<float> * magnitude);
}

/// The bound of the same case computed in double.
///
/// The source's float32 error, in roundoffs, measures how the case magnifies rounding. In double
/// the same chain errs by as many roundoffs of double: heed up to draw_factor times that, and so
/// does the recorded output, itself computed in double, another draw (torch sums half as many lanes
/// then). In the usual case this is about 3e-15 of the output.
inline double double_bound(double source_error, double magnitude, Index stages) {
  const double ratio = unit_roundoff<double> / unit_roundoff<float>;
  return std::max(2 * draw_factor * ratio * source_error,
                  2 * static_cast<double>(stages) * unit_roundoff<double> * magnitude);
}

template <class T>
double golden_bound(double source_error, double magnitude, Index stages) {
  return std::numeric_limits<T>::digits == std::numeric_limits<float>::digits
             ? float_bound(source_error, magnitude, stages)
             : double_bound(source_error, magnitude, stages);
}

/// How often a gradient passes the stages of a pass: forward, and back through the derivative of
/// each, which rounds as often. The bound of a gradient is `golden_bound` of so many times the
/// stages, and of the error of the source's own float32 gradients. With SSE2, AVX2 and AVX-512 heed
/// errs up to half of it.
inline constexpr Index gradient_passes = 2;

}  // namespace heed::test
