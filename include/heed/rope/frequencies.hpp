// SPDX-License-Identifier: MIT
/// \file
/// How fast each pair of columns turns from one token to the next. Layer 2, public.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "heed/base/error.hpp"  // detail::require
#include "heed/base/index.hpp"  // Index

namespace heed {

/// What rotary position embedding (RoPE) needs to know of a model: at position p, pair i turns by
/// p * inverse_frequency[i], and cos and sin are multiplied by attention_scaling.
struct RopeFrequencies {
  std::vector<double> inverse_frequency;  ///< [rope_dim / 2], radians per token
  double attention_scaling = 1;           ///< factor on cos and sin, so its square on every score
};

namespace detail {

inline void require_rope_dim(Index rope_dim) {
  constexpr Index most = Index{1} << 32;
  require(0 < rope_dim && rope_dim <= most && rope_dim % 2 == 0, "RopeFrequencies", [&] {
    return "rope_dim is " + std::to_string(rope_dim) +
           ", expected a positive even number: RoPE rotates pairs of columns. Leave an odd column "
           "unrotated: it belongs to nope_dim";
  });
}

/// theta^(-2 pair / rope_dim)
inline double base_frequency(Index rope_dim, double theta, Index pair) {
  return 1 / std::pow(theta, static_cast<double>(2 * pair) / static_cast<double>(rope_dim));
}

}  // namespace detail

/// The frequencies without any scaling: theta^(-2i / rope_dim) for the pairs i.
///
/// \param rope_dim  columns that are rotated; even
/// \param theta     the base, 10000 in the paper; above 1
/// \throws ShapeError if either is out of range.
/// Source: Su et al. 2021, arXiv:2104.09864, section 3.2.2.
[[nodiscard]] inline RopeFrequencies base_frequencies(Index rope_dim, double theta) {
  detail::require_rope_dim(rope_dim);
  detail::require_number(theta > 1 && std::isfinite(theta), "RopeFrequencies", "theta", theta,
                         "a finite number above 1, the base of a geometric series");
  RopeFrequencies base;
  base.inverse_frequency.reserve(static_cast<std::size_t>(rope_dim / 2));
  for (Index pair = 0; pair < rope_dim / 2; ++pair)
    base.inverse_frequency.push_back(detail::base_frequency(rope_dim, theta, pair));
  return base;
}

}  // namespace heed
