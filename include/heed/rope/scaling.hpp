// SPDX-License-Identifier: MIT
/// \file
/// The published ways to stretch RoPE beyond the trained length. Layer 2, public.
///
/// Each is a struct whose fields have the names of config files. They compute what `transformers`
/// v4.57.6 does (modeling_rope_utils.py), in double:
///
///     rope_type   struct              frequency of a pair                          cos, sin times
///     default     UnscaledRope        theta^(-2i / rope_dim)                       1
///     linear      LinearScaling       all slowed by factor                         1
///     dynamic     DynamicNtkScaling   theta grows with seqlen                      1
///     llama3      Llama3Scaling       slow pairs slowed by factor, smoothly        1
///     longrope    LongRopeScaling     slowed pair by pair; a second list for       computed or
///                                     sequences beyond the trained length          given
///     yarn        YarnScaling         see yarn.hpp                                 computed or
///                                                                                  given
///     any other   RopeFrequencies     as you give it                               as you give it
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <optional>
#include <variant>
#include <vector>

#include "heed/base/error.hpp"        // detail::require, detail::require_shape
#include "heed/rope/frequencies.hpp"  // RopeFrequencies, base_frequencies
#include "heed/rope/yarn.hpp"         // YarnScaling

namespace heed {

/// RoPE as it was published. Source: Su et al. 2021, arXiv:2104.09864.
struct UnscaledRope {};

/// Position interpolation: as if the tokens stood `factor` times closer.
/// Source: Chen et al. 2023, arXiv:2306.15595.
struct LinearScaling {
  double factor = 0;  ///< required
};

/// Dynamic NTK: beyond the trained length theta grows with the sequence, by
/// (factor seqlen / max_position_embeddings - (factor - 1))^(rope_dim / (rope_dim - 2)).
///
/// The frequencies depend on the seqlen of the call alone, while transformers keeps those of the
/// longest sequence since the last short one; give `Rope::rotate` that seqlen to get the same. Keys
/// in a cache keep the frequencies of the time they were rotated, there as here.
///
/// Source: the users bloc97 and emozilla of r/LocalLLaMA, 2023; told in Peng et al. 2023,
/// arXiv:2309.00071, section 3.3.
struct DynamicNtkScaling {
  double factor = 0;                  ///< required
  Index max_position_embeddings = 0;  ///< required: the trained length, in tokens
};

/// Llama 3: pairs whose wavelength is below original_max_position_embeddings / high_freq_factor
/// keep their frequency, those above original_max_position_embeddings / low_freq_factor are slowed
/// by `factor`, and those between by a mean that is linear in their turns within the trained
/// length.
/// Source: Llama 3.1, meta-llama/llama-models, models/llama3/reference_impl/model.py.
struct Llama3Scaling {
  double factor = 0;                           ///< required; 8 in Llama 3.1, 32 in Llama 3.2
  double low_freq_factor = 1;                  ///< turns within the trained length
  double high_freq_factor = 4;                 ///< turns within the trained length
  Index original_max_position_embeddings = 0;  ///< required: the trained length, in tokens
};

/// LongRoPE: each pair is slowed by a factor found by search; one list serves sequences up to the
/// trained length, another the longer ones.
///
/// cos and sin are multiplied by attention_factor. If that is absent, by
/// sqrt(1 + ln(factor) / ln(original_max_position_embeddings)), or 1 if factor <= 1. Keys in a
/// cache keep the list they were rotated with when a sequence outgrows the trained length.
/// Source: Ding et al. 2024, arXiv:2402.13753; Phi-3.
struct LongRopeScaling {
  std::vector<double> short_factor;            ///< required: [rope_dim / 2]
  std::vector<double> long_factor;             ///< required: [rope_dim / 2]
  Index original_max_position_embeddings = 0;  ///< required: the trained length, in tokens
  /// Required unless attention_factor is given: max_position_embeddings over
  /// original_max_position_embeddings where a config file has both, else its `factor`.
  double factor = 0;
  std::optional<double> attention_factor = {};
};

/// Any of them, or the frequencies themselves.
using RopeScaling = std::variant<UnscaledRope, LinearScaling, DynamicNtkScaling, YarnScaling,
                                 Llama3Scaling, LongRopeScaling, RopeFrequencies>;

namespace detail {

inline RopeFrequencies scaled_frequencies(Index rope_dim, double theta, UnscaledRope, Index) {
  return base_frequencies(rope_dim, theta);
}

inline RopeFrequencies scaled_frequencies(Index rope_dim, double theta, const LinearScaling& linear,
                                          Index /*seqlen*/) {
  require_positive("LinearScaling", "factor", linear.factor);
  RopeFrequencies scaled = base_frequencies(rope_dim, theta);
  for (double& frequency : scaled.inverse_frequency) frequency /= linear.factor;
  return scaled;
}

/// The theta that dynamic NTK uses at this seqlen.
inline double dynamic_ntk_theta(Index rope_dim, double theta, const DynamicNtkScaling& ntk,
                                Index seqlen) {
  const auto trained = static_cast<double>(ntk.max_position_embeddings);
  const double stretch = std::max(static_cast<double>(seqlen) / trained, 1.0);
  const auto dim = static_cast<double>(rope_dim);
  return theta * std::pow(ntk.factor * stretch - (ntk.factor - 1), dim / (dim - 2));
}

inline RopeFrequencies scaled_frequencies(Index rope_dim, double theta,
                                          const DynamicNtkScaling& ntk, Index seqlen) {
  constexpr auto where = "DynamicNtkScaling";
  require_positive(where, "factor", ntk.factor);
  require_positive(where, "max_position_embeddings", ntk.max_position_embeddings);
  require_number(rope_dim != 2, where, "rope_dim", rope_dim,
                 "4 or more: one pair alone turns a radian per token at any theta");
  return base_frequencies(rope_dim, dynamic_ntk_theta(rope_dim, theta, ntk, seqlen));
}

inline RopeFrequencies scaled_frequencies(Index rope_dim, double theta, const Llama3Scaling& llama,
                                          Index /*seqlen*/) {
  constexpr auto where = "Llama3Scaling";
  require_positive(where, "factor", llama.factor);
  require_positive(where, "original_max_position_embeddings",
                   llama.original_max_position_embeddings);
  require_positive(where, "low_freq_factor", llama.low_freq_factor);
  require_number(llama.high_freq_factor > llama.low_freq_factor, where, "high_freq_factor",
                 llama.high_freq_factor, "more than low_freq_factor");
  RopeFrequencies scaled = base_frequencies(rope_dim, theta);
  const auto trained = static_cast<double>(llama.original_max_position_embeddings);
  for (double& frequency : scaled.inverse_frequency) {
    const double turns = trained * frequency / (2 * std::numbers::pi);
    const double kept = std::clamp(
        (turns - llama.low_freq_factor) / (llama.high_freq_factor - llama.low_freq_factor), 0.0,
        1.0);
    frequency = frequency / llama.factor * (1 - kept) + frequency * kept;
  }
  return scaled;
}

inline RopeFrequencies scaled_frequencies(Index rope_dim, double theta,
                                          const LongRopeScaling& long_rope, Index seqlen) {
  constexpr auto where = "LongRopeScaling";
  const Index trained = long_rope.original_max_position_embeddings;
  require_number(1 < trained && trained < std::numeric_limits<Index>::max(), where,
                 "original_max_position_embeddings", trained, "more than 1");
  require_number(
      long_rope.attention_factor || (long_rope.factor > 0 && std::isfinite(long_rope.factor)),
      where, "factor", long_rope.factor, "a positive number, unless attention_factor is given");
  RopeFrequencies scaled = base_frequencies(rope_dim, theta);
  require_shape(where, "short_factor [rope_dim / 2]", {std::ssize(long_rope.short_factor)},
                {rope_dim / 2});
  require_shape(where, "long_factor [rope_dim / 2]", {std::ssize(long_rope.long_factor)},
                {rope_dim / 2});
  const auto& factors = seqlen > trained ? long_rope.long_factor : long_rope.short_factor;
  for (std::size_t pair = 0; pair < factors.size(); ++pair) {
    require_positive(where, "a short_factor", long_rope.short_factor[pair]);
    require_positive(where, "a long_factor", long_rope.long_factor[pair]);
    scaled.inverse_frequency[pair] /= factors[pair];
  }
  if (long_rope.attention_factor)
    scaled.attention_scaling =
        checked_finite(where, "attention_factor", *long_rope.attention_factor);
  else if (long_rope.factor > 1)
    scaled.attention_scaling =
        std::sqrt(1 + std::log(long_rope.factor) / std::log(static_cast<double>(trained)));
  return scaled;
}

inline RopeFrequencies scaled_frequencies(Index rope_dim, double /*theta*/,
                                          const RopeFrequencies& given, Index /*seqlen*/) {
  require_rope_dim(rope_dim);
  require_shape("RopeFrequencies", "inverse_frequency [rope_dim / 2]",
                {std::ssize(given.inverse_frequency)}, {rope_dim / 2});
  return given;
}

/// The longest sequence that has the same frequencies as an empty one.
inline Index constant_until(const RopeScaling& scaling) {
  if (const auto* ntk = std::get_if<DynamicNtkScaling>(&scaling))
    return ntk->max_position_embeddings;
  if (const auto* long_rope = std::get_if<LongRopeScaling>(&scaling))
    return long_rope->original_max_position_embeddings;
  return std::numeric_limits<Index>::max();
}

}  // namespace detail

/// The frequencies of a model whose sequence is `seqlen` tokens long, that is, whose highest
/// position is seqlen - 1. Only DynamicNtkScaling and LongRopeScaling look at seqlen.
///
/// \throws ShapeError if rope_dim is odd, a required field was left out, or one is out of range.
[[nodiscard]] inline RopeFrequencies frequencies(Index rope_dim, double theta,
                                                 const RopeScaling& scaling, Index seqlen) {
  return std::visit(
      [&](const auto& each) { return detail::scaled_frequencies(rope_dim, theta, each, seqlen); },
      scaling);
}

}  // namespace heed
