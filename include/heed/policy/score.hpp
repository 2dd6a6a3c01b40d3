// SPDX-License-Identifier: MIT
/// \file
/// Score policies: what happens to query . key before the softmax. Layer 2, extension.
///
/// | policy        | score becomes                                          | used by            |
/// | ------------- | ------------------------------------------------------ | ------------------ |
/// | Scale         | score * factor                                         | all                |
/// | Softcap       | cap * tanh(score / cap)                                | Gemma 2            |
/// | Alibi         | score + slope[head] * (key position - query position)  | Bloom, MPT         |
/// | Bias          | score + bias(head, q_row, kv_row)                      | T5, torch's mask   |
/// | CustomScore   | your lambda (score, head, query position, key position)|                    |
/// | chain(a, b)   | b of a                                                 |                    |
///
/// They are compiled into the kernel; one that is not named costs nothing. A plain number where a
/// policy is asked for means Scale: the softmax scale, 1/sqrt(head_dim) unless the model differs.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <limits>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "heed/base/views.hpp"
#include "heed/policy/mask.hpp"
#include "heed/simd/packet.hpp"

namespace heed {

/// Where a vector of scores stands: lane i is key kv_row + i.
struct ScoreSite {
  Index head;    ///< query head
  Index q_row;   ///< query row of this call
  Index kv_row;  ///< key of lane 0. Lanes may lie beyond the last key, in a batch all of them, and
                 ///< are then ignored
  MaskExtent extent;
};

/// A score policy maps a vector of scores of one row. `apply` takes and returns a simd::Packet<T>,
/// in several threads at once; `check` throws ShapeError if the policy's data do not fit the call.
/// Lanes of hidden keys may hold anything, NaN included: what comes of them is ignored. A policy is
/// copied into each call.
template <class S, class T>
concept ScorePolicy =
    requires(const S& score, const simd::Packet<T>& packet, const ScoreSite& site) {
      { score.template apply<T>(packet, site) } -> std::same_as<simd::Packet<T>>;
      score.check("where", site.head, site.extent);
    };

/// A score policy that attend_backward takes, too: `slope` is the derivative of what `apply` gives
/// by what it takes. A CustomScore has none; a policy of one's own may.
template <class S, class T>
concept DifferentiableScore =
    ScorePolicy<S, T> &&
    requires(const S& score, const simd::Packet<T>& packet, const ScoreSite& site) {
      { score.template slope<T>(packet, site) } -> std::same_as<simd::Packet<T>>;
    };

/// score * factor. With factor = 1/sqrt(head_dim) the scores of unit-normal queries and keys have
/// unit variance; unscaled, their standard deviation is sqrt(head_dim) and the softmax goes to
/// one-hot.
///
/// Where it comes first, and products are not native, the kernel multiplies the queries by it.
/// Query times factor must then be within float's normal range; a factor of 1 or less does not
/// overflow.
/// Source: Vaswani et al. 2017, arXiv:1706.03762, eq. 1 and footnote 4.
struct Scale {
  double factor;

  template <class T>
  simd::Packet<T> apply(const simd::Packet<T>& score, const ScoreSite&) const {
    return simd::mul(score, simd::broadcast(static_cast<T>(factor)));
  }
  template <class T>
  simd::Packet<T> slope(const simd::Packet<T>&, const ScoreSite&) const {
    return simd::broadcast(static_cast<T>(factor));
  }
  void check(std::string_view where, Index, const MaskExtent&) const {
    detail::require_number(std::abs(factor) <= double(std::numeric_limits<float>::max()), where,
                           "Scale::factor", factor, "a finite number within float's range");
  }
};

/// cap * tanh(score / cap): scores stay within [-cap, cap]. Comes after the scale, before the mask.
/// Source: Gemma 2 2024, arXiv:2408.00118, section 2.
struct Softcap {
  double cap;

  template <class T>
  simd::Packet<T> apply(const simd::Packet<T>& score, const ScoreSite&) const {
    const auto bounded = simd::tanh<T>(simd::mul(score, simd::broadcast(static_cast<T>(1 / cap))));
    return simd::mul(bounded, simd::broadcast(static_cast<T>(cap)));
  }
  /// 1 - tanh(score / cap)^2
  template <class T>
  simd::Packet<T> slope(const simd::Packet<T>& score, const ScoreSite&) const {
    const auto bounded = simd::tanh<T>(simd::mul(score, simd::broadcast(static_cast<T>(1 / cap))));
    return simd::sub(simd::broadcast(T{1}), simd::mul(bounded, bounded));
  }
  void check(std::string_view where, Index, const MaskExtent&) const {
    using Range = std::numeric_limits<float>;  // of double, too: no model's cap is beyond
    detail::require_number(
        double(Range::min()) <= cap && cap <= double(Range::max()), where, "Softcap::cap", cap,
        "a positive number within float's range; leave the policy out to have none");
  }
};

/// score + slope[head] * (key position - query position), a penalty that grows with the distance.
/// Positions as in MaskExtent. Source: Press et al. 2022, arXiv:2108.12409.
/// \tparam T  the compute type
template <class T>
struct Alibi {
  std::span<const T> slopes;  ///< [num_heads], positive, as alibi_slopes gives; must outlive it

  template <class U>
  simd::Packet<U> apply(const simd::Packet<U>& score, const ScoreSite& site) const {
    static_assert(std::same_as<T, U>, "heed: the Alibi slopes must have the compute type");
    const Index distance = site.kv_row - site.extent.query_position(site.q_row);
    const auto slope_of_head = simd::broadcast(slopes[static_cast<std::size_t>(site.head)]);
    return simd::mul_add(simd::iota(static_cast<T>(distance)), slope_of_head, score);
  }
  template <class U>
  simd::Packet<U> slope(const simd::Packet<U>&, const ScoreSite&) const {
    return simd::broadcast(U{1});
  }
  void check(std::string_view where, Index num_heads, const MaskExtent&) const {
    detail::require_shape(where, "Alibi::slopes [num_heads]", {std::ssize(slopes)}, {num_heads});
  }
};

/// The slopes of the ALiBi paper: 2^(-8/n), 2^(-16/n), ... for n heads, a power of two; for other
/// counts those of the next smaller power, then every other one of the next larger power.
/// Source: Press et al. 2022, arXiv:2108.12409, section 3, and the code published with it.
template <class T>
[[nodiscard]] std::vector<T> alibi_slopes(Index num_heads) {
  std::vector<T> slopes;
  Index power = 1;
  while (2 * power <= num_heads) power *= 2;
  const auto slope = [](double steps, Index count) {
    return static_cast<T>(std::exp2(-8.0 * steps / static_cast<double>(count)));
  };
  for (Index i = 1; i <= std::min(power, num_heads); ++i)
    slopes.push_back(slope(static_cast<double>(i), power));
  for (Index i = 0; i < num_heads - power; ++i)
    slopes.push_back(slope(static_cast<double>(2 * i + 1), 2 * power));
  return slopes;
}

/// score + bias. An entry of -inf hides the key, but a NaN among its values may reach the row,
/// which only a mask surely prevents.
/// \tparam T  the compute type
template <class T>
struct Bias {
  HeadsView<const T> bias;  ///< [1 or num_heads, seqlen_q, seqlen_kv]; must outlive it

  template <class U>
  simd::Packet<U> apply(const simd::Packet<U>& score, const ScoreSite& site) const {
    static_assert(std::same_as<T, U>, "heed: the Bias must have the compute type");
    const T* row = bias.row(bias.num_heads > 1 ? site.head : 0, site.q_row) + site.kv_row;
    const Index there = bias.cols - site.kv_row;
    if (there >= simd::lanes<T>) return simd::add(score, simd::load(row));
    T lane[simd::lanes<T>] = {};
    for (Index i = 0; i < there; ++i) lane[i] = row[i];
    return simd::add(score, simd::load(lane));
  }
  template <class U>
  simd::Packet<U> slope(const simd::Packet<U>&, const ScoreSite&) const {
    return simd::broadcast(U{1});
  }
  void check(std::string_view where, Index num_heads, const MaskExtent& extent) const {
    detail::require_shape(where, "Bias::bias [1 or num_heads, seqlen_q, seqlen_kv]",
                          {bias.num_heads, bias.rows, bias.cols},
                          {bias.num_heads > 1 ? num_heads : 1, extent.seqlen_q, extent.seqlen_kv});
  }
};

/// Your own function of one score: function(score, head, query_position, key_position) -> score. It
/// is called by several threads at once, and for pairs that the mask hides, too; what it returns
/// there is ignored. What it throws comes through; a part of the output may be written by then.
template <class Function>
struct CustomScore {
  Function function;

  explicit CustomScore(Function f) : function(std::move(f)) {}

  template <class T>
  simd::Packet<T> apply(const simd::Packet<T>& score, const ScoreSite& site) const {
    constexpr bool is_callable = std::is_invocable_r_v<T, const Function&, T, Index, Index, Index>;
    static_assert(is_callable,
                  "heed: a CustomScore's function must be callable as const, as `float f(float "
                  "score, Index head, Index query_position, Index key_position)`.");
    T lane[simd::lanes<T>];
    simd::store(lane, score);
    const Index position = site.extent.query_position(site.q_row);
    const Index there = std::min(simd::lanes<T>, site.extent.seqlen_kv - site.kv_row);
    for (Index i = 0; i < there; ++i)
      lane[i] = static_cast<T>(function(lane[i], site.head, position, site.kv_row + i));
    return simd::load(lane);
  }
  void check(std::string_view, Index, const MaskExtent&) const {}
};

/// 1/sqrt(head_dim): the softmax scale unless a model has another. See Scale.
[[nodiscard]] inline double default_softmax_scale(Index head_dim) {
  return 1 / std::sqrt(static_cast<double>(head_dim));
}

}  // namespace heed
