// SPDX-License-Identifier: MIT
/// \file
/// YaRN, the scaling of gpt-oss, Qwen and DeepSeek, and its mscale. Layer 2, public.
#pragma once

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>
#include <string_view>

#include "heed/base/error.hpp"        // detail::require
#include "heed/rope/frequencies.hpp"  // RopeFrequencies, base_frequencies

namespace heed {

/// Where YaRN's ramp begins and ends; `truncate` in config files.
enum class YarnRange {
  whole_pairs,  ///< rounded outwards to pairs (truncate: true, the default)
  fractional,   ///< between pairs, as the formula gives it (truncate: false, as in gpt-oss)
};

/// YaRN: pairs that turn more than beta_fast times within the trained length keep their frequency,
/// those that turn less than beta_slow times are slowed by `factor`, and a linear ramp joins them.
///
/// cos and sin are multiplied by attention_factor. If that is absent, by
/// yarn_mscale(factor, mscale) / yarn_mscale(factor, mscale_all_dim) when both are there and not 0
/// (config files write 0 for absent), and by yarn_mscale(factor, 1) otherwise.
///
/// DeepSeek's mscale enters differently in published sources. What to set, where head_dim is
/// nope_dim + rope_dim:
///
///     source                         attention_factor    softmax_scale * sqrt(head_dim)
///     transformers 4, DeepSeek-V2    absent              1
///     transformers 5, DeepSeek-V2    absent              yarn_mscale(factor, mscale_all_dim)^2
///     transformers, DeepSeek-V3      absent              yarn_mscale(factor, mscale_all_dim)^2
///     DeepSeek-V3 inference/model.py 1                   yarn_mscale(factor, mscale)^2
///
/// (The last uses YaRN only if its max_seq_len exceeds original_max_position_embeddings.)
///
/// Source: Peng et al. 2023, arXiv:2309.00071; transformers v4.57.6, modeling_rope_utils.py, and
/// v5.24.0, modeling_deepseek_v2.py; DeepSeek-V3 inference/model.py, commit 9b4e978.
struct YarnScaling {
  double factor = 0;                           ///< required: extended over trained length
  Index original_max_position_embeddings = 0;  ///< required: the trained length, in tokens
  double beta_fast = 32;                       ///< turns within the trained length
  double beta_slow = 1;                        ///< turns within the trained length
  YarnRange range = YarnRange::whole_pairs;    ///< how the ramp's ends are rounded
  /// What cos and sin are multiplied by; if it is absent, these two say it.
  std::optional<double> attention_factor = {};
  std::optional<double> mscale = {};
  std::optional<double> mscale_all_dim = {};
};

/// 0.1 mscale ln(factor) + 1: how much sharper the scores of a context `factor` times longer have
/// to be. 1 if the context is not longer.
/// Source: Peng et al. 2023, arXiv:2309.00071, section 3.4; mscale is DeepSeek's.
[[nodiscard]] inline double yarn_mscale(double factor, double mscale) {
  return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1;
}

namespace detail {

inline double checked_finite(std::string_view where, std::string_view name, double number) {
  require_number(std::isfinite(number), where, name, number, "a finite number");
  return number;
}

inline double yarn_attention_scaling(const YarnScaling& yarn) {
  constexpr auto where = "YarnScaling";
  if (yarn.attention_factor)
    return checked_finite(where, "attention_factor", *yarn.attention_factor);
  const double mscale = checked_finite(where, "mscale", yarn.mscale.value_or(0)),
               mscale_all_dim =
                   checked_finite(where, "mscale_all_dim", yarn.mscale_all_dim.value_or(0));
  if (mscale == 0 || mscale_all_dim == 0) return yarn_mscale(yarn.factor, 1);
  return yarn_mscale(yarn.factor, mscale) / yarn_mscale(yarn.factor, mscale_all_dim);
}

/// The pair, between two pairs as a rule, that turns `turns` times within the trained length.
inline double yarn_pair(Index rope_dim, double theta, const YarnScaling& yarn, double turns) {
  const auto trained = static_cast<double>(yarn.original_max_position_embeddings);
  return static_cast<double>(rope_dim) * std::log(trained / (turns * 2 * std::numbers::pi)) /
         (2 * std::log(theta));
}

inline RopeFrequencies scaled_frequencies(Index rope_dim, double theta, const YarnScaling& yarn,
                                          Index /*seqlen*/) {
  constexpr auto where = "YarnScaling";
  require_positive(where, "factor", yarn.factor);
  require_positive(where, "original_max_position_embeddings",
                   yarn.original_max_position_embeddings);
  require_positive(where, "beta_slow", yarn.beta_slow);
  require_number(yarn.beta_fast >= yarn.beta_slow, where, "beta_fast", yarn.beta_fast,
                 "no less than beta_slow");
  RopeFrequencies scaled = base_frequencies(rope_dim, theta);

  double begin = yarn_pair(rope_dim, theta, yarn, yarn.beta_fast);
  double end = yarn_pair(rope_dim, theta, yarn, yarn.beta_slow);
  if (yarn.range == YarnRange::whole_pairs) {
    begin = std::floor(begin);
    end = std::ceil(end);
  }
  begin = std::max(begin, 0.0);
  end = std::min(end, static_cast<double>(rope_dim - 1));  // as published, not rope_dim / 2 - 1
  if (begin == end) end += 0.001;  // the published width of a ramp that would have none

  double pair = 0;
  for (double& frequency : scaled.inverse_frequency) {
    const double slowed = std::clamp((pair - begin) / (end - begin), 0.0, 1.0);
    frequency = frequency / yarn.factor * slowed + frequency * (1 - slowed);
    ++pair;
  }
  scaled.attention_scaling = yarn_attention_scaling(yarn);
  return scaled;
}

}  // namespace detail
}  // namespace heed
