// SPDX-License-Identifier: MIT
/// \file
/// RMSNorm, of latents and of single heads. Layer 6, public.
#pragma once

#include <cmath>
#include <span>
#include <string_view>

#include "heed/base/views.hpp"

namespace heed {

/// What a normed element is multiplied by.
enum class RmsNormGain {
  weight,           ///< w: Llama, Qwen3, DeepSeek
  one_plus_weight,  ///< 1 + w: Gemma, Qwen3-Next
};

/// x * gain / sqrt(mean(x^2) + epsilon), row by row. Holds a view of its weight.
/// Source: Zhang and Sennrich 2019, arXiv:1910.07467, eq. 4.
template <class T>
struct RmsNorm {
  std::span<const T> weight = {};  ///< [dim]
  T epsilon = T(1e-6);             ///< `rms_norm_eps`
  RmsNormGain gain = RmsNormGain::weight;

  /// \param heads  [any, any, dim]: rows, normed in place; a row's squares have a finite sum in T
  /// \throws ShapeError before anything is written.
  void apply(HeadsView<T> heads) const {
    check("RmsNorm::apply", "weight [dim]", heads.cols);
    if (heads.cols == 0) return;
    using Row = Eigen::Array<T, 1, Eigen::Dynamic>;
    const Eigen::Map<const Row> factor(weight.data(), heads.cols);
    const T offset = gain == RmsNormGain::one_plus_weight ? T{1} : T{0};
    for (Index head = 0; head < heads.num_heads; ++head)
      for (Index r = 0; r < heads.rows; ++r) {
        Eigen::Map<Row> row(heads.row(head, r), heads.cols);
        const T mean_square = row.square().mean();
        row *= (factor + offset) / std::sqrt(mean_square + epsilon);
      }
  }

  /// Throws ShapeError unless the weight is [dim].
  void check(std::string_view where, std::string_view name, Index dim) const {
    detail::require_shape(where, name, {std::ssize(weight)}, {dim});
  }
};

}  // namespace heed
