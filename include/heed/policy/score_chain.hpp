// SPDX-License-Identifier: MIT
/// \file
/// Score policies one after another, and the scale that a policy begins with. Layer 2, public.
#pragma once

#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "heed/policy/score.hpp"

namespace heed {

/// Policies one after another, the first one first. Made by `chain`.
template <class... Scores>
struct ScoreChain {
  std::tuple<Scores...> scores;

  template <class T>
  simd::Packet<T> apply(simd::Packet<T> packet, const ScoreSite& site) const {
    std::apply(
        [&](const auto&... score) { ((packet = score.template apply<T>(packet, site)), ...); },
        scores);
    return packet;
  }
  template <class T>
    requires(DifferentiableScore<std::remove_cvref_t<Scores>, T> && ...)
  simd::Packet<T> slope(simd::Packet<T> packet, const ScoreSite& site) const {
    auto product = simd::broadcast(T{1});
    const auto pass = [&](const auto& score) {
      product = simd::mul(product, score.template slope<T>(packet, site));
      packet = score.template apply<T>(packet, site);
    };
    std::apply([&](const auto&... score) { (pass(score), ...); }, scores);
    return product;
  }
  void check(std::string_view where, Index num_heads, const MaskExtent& extent) const {
    std::apply([&](const auto&... score) { (score.check(where, num_heads, extent), ...); }, scores);
  }
};

namespace detail {

/// What is left of a Scale without its factor.
struct Unchanged {
  template <class T>
  simd::Packet<T> apply(const simd::Packet<T>& score, const ScoreSite&) const {
    return score;
  }
  template <class T>
  simd::Packet<T> slope(const simd::Packet<T>&, const ScoreSite&) const {
    return simd::broadcast(T{1});
  }
  void check(std::string_view, Index, const MaskExtent&) const {}
};

/// The factor that a policy begins with, and what the policy does after it.
template <class S>
std::pair<double, const S&> split_scale(const S& score) {
  return {1, score};
}
inline std::pair<double, Unchanged> split_scale(const Scale& scale) { return {scale.factor, {}}; }
template <class... Rest>
std::pair<double, ScoreChain<const Rest&...>> split_scale(const ScoreChain<Scale, Rest...>& chain) {
  return std::apply(
      [](const Scale& scale, const Rest&... rest) {
        return std::pair(scale.factor, ScoreChain<const Rest&...>{{rest...}});
      },
      chain.scores);
}

/// Whether a policy has no scale in it, by its type.
template <class S>
inline constexpr bool is_unscaled = false;
template <>
inline constexpr bool is_unscaled<Softcap> = true;
template <class T>
inline constexpr bool is_unscaled<Alibi<T>> = true;
template <class T>
inline constexpr bool is_unscaled<Bias<T>> = true;
template <class... Scores>
inline constexpr bool is_unscaled<ScoreChain<Scores...>> = (is_unscaled<Scores> && ...);

/// A number means Scale; anything else is a policy already.
template <class S>
auto as_score_policy(const S& score) {
  static_assert(!std::is_integral_v<S>,
                "heed: the softmax scale is an integer, as 1 / 8 is, which is 0. Write 1.0 / 8.");
  if constexpr (std::is_floating_point_v<S>)
    return Scale{static_cast<double>(score)};
  else
    return score;
}

}  // namespace detail

/// chain(softmax_scale, Softcap{50}): scaled, then capped. A number means Scale here, too.
template <class... Scores>
[[nodiscard]] auto chain(const Scores&... scores) {
  [[maybe_unused]] constexpr auto is_checked = []<class S>(const S*) {
    return std::is_arithmetic_v<S> ||
           requires(const S& score, const MaskExtent& extent) { score.check("", Index{}, extent); };
  };
  static_assert((is_checked(static_cast<const Scores*>(nullptr)) && ...),
                "heed: what is chained needs `apply<T>(packet, site)` and `check` "
                "(policy/score.hpp). Wrap a lambda in CustomScore.");
  return ScoreChain<decltype(detail::as_score_policy(scores))...>{
      {detail::as_score_policy(scores)...}};
}

}  // namespace heed
