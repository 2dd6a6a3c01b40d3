// SPDX-License-Identifier: MIT
/// \file
/// THE scaled-softmax core: one row's scores of one page become probabilities. Layer 3, detail.
#pragma once

#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "heed/policy/score_chain.hpp"
#include "heed/simd/exp.hpp"
#include "heed/softmax/state.hpp"

namespace heed::detail {

/// The vectors [begin, end) of a page's row of scores.
struct VectorRange {
  Index begin;
  Index end;
};

inline constexpr std::uint64_t all_visible = ~std::uint64_t{0};

/// -inf where the row may not look. Plain code: with the lane's bit as a constant the compiler
/// makes compares and blends of it.
template <class T>
void hide(T* scores, std::uint64_t visible) {
  constexpr T hidden = -std::numeric_limits<T>::infinity();
  for (int half = 0; half < 2; ++half) {
    const auto word = static_cast<std::uint32_t>(visible >> (32 * half));
    T* const score = scores + 32 * half;
    for (std::uint32_t lane = 0; lane < 32; ++lane)
      score[lane] = (word & (std::uint32_t{1} << lane)) != 0 ? score[lane] : hidden;
  }
}

/// By how much a row's scores may exceed `row_max`, which follows them only when they grow by more:
/// in float, probabilities of up to e^4 are as exact as those of up to 1, and what was summed
/// before has hardly ever to be rescaled. (Of scores of deviation 1, the largest of 64 is 2.4, of a
/// million 5.)
inline constexpr int most_above_row_max = 4;

/// A step of the online softmax is two parts, which the rows of a tile take one after another:
/// within a part rows are independent of each other and overlap, where the second part of a row
/// waits for its maximum.
///
/// First part: scores pass the score policy and the mask, and the row's maximum may grow.
///
/// \param scores   [page_size], scaled query . key on entry, what the softmax is of on exit. Only
///                 `vectors` are read and written, except that hidden keys of the whole page
///                 become -inf.
/// \param visible  bit i: the row sees key i of the page; all bits outside `vectors` are 0
/// \param site     the page's first key in `kv_row`
/// \param most_above  by how much scores may exceed state.row_max
/// \returns the factor for what was summed before this page; 1 if the maximum stays, and if nothing
/// was summed
template <class T, class Score>
T raise_row_max(T* scores, VectorRange vectors, std::uint64_t visible, const Score& score_policy,
                ScoreSite site, int most_above, SoftmaxState<T>& state) {
  constexpr Index n = simd::lanes<T>;
  const Index page_begin = site.kv_row;
  auto page_max = simd::broadcast(-std::numeric_limits<T>::infinity());
  // All loads before the stores, or the policy would be read anew after each.
  const auto step = [&](Index v, auto constant) __attribute__((always_inline)) {
    constexpr int count = constant;
    simd::Packet<T> score[count];
#pragma GCC unroll 4
    for (int i = 0; i < count; ++i) {
      site.kv_row = page_begin + (v + i) * n;
      score[i] = score_policy.template apply<T>(simd::load(scores + (v + i) * n), site);
    }
#pragma GCC unroll 4
    for (int i = 0; i < count; ++i) {
      if constexpr (!std::same_as<Score, Unchanged>) simd::store(scores + (v + i) * n, score[i]);
      page_max = simd::max(page_max, score[i]);
    }
  };
  Index v = vectors.begin;
  for (; v + 4 <= vectors.end; v += 4) step(v, std::integral_constant<int, 4>{});
  // By simd::with_constant, prefill was half a percent slower.
  if (const Index rest = vectors.end - v; rest == 3)
    step(v, std::integral_constant<int, 3>{});
  else if (rest == 2)
    step(v, std::integral_constant<int, 2>{});
  else if (rest == 1)
    step(v, std::integral_constant<int, 1>{});
  if (visible != all_visible) {
    hide(scores, visible);
    page_max = simd::broadcast(-std::numeric_limits<T>::infinity());
    for (v = vectors.begin; v < vectors.end; ++v)
      page_max = simd::max(page_max, simd::load(scores + v * n));
  }
  const T before = state.row_max, largest = simd::max_lanes(page_max);
  if (!(largest > before + static_cast<T>(most_above))) [[likely]]
    return 1;  // of NaN, too
  const bool is_first = state.empty();
  state.row_max = largest;
  return is_first ? T{1} : std::exp(before - largest);
}

/// Second part: exp(score - row_max), which is 0 where hidden, is kept, and the row's sum grows by
/// it. Inlined with its steps, so that constants and the sum stay in registers.
///
/// A NaN among the visible scores makes the state NaN, and so the row's result. Scores of +inf do
/// so too (inf - inf), as they do in PyTorch.
///
/// \param keep  keep(i, packet) takes the probabilities of the keys from i on
template <class T, class Keep>
[[gnu::always_inline]] inline void exponentiate(const T* scores, VectorRange vectors,
                                                SoftmaxState<T>& state, const Keep& keep) {
  constexpr Index n = simd::lanes<T>;
  const auto reference = simd::broadcast(state.reference());
  auto sum = simd::broadcast(T{0});
  const auto step = [&](Index key, auto constant) __attribute__((always_inline)) {
    constexpr int count = constant;
    simd::Packet<T> prob[count];
    for (int i = 0; i < count; ++i)
      prob[i] = simd::sub(simd::load(scores + key + i * n), reference);
    simd::exp<T>(prob);
    for (int i = 0; i < count; ++i) {
      keep(key + i * n, prob[i]);
      sum = simd::add(sum, prob[i]);
    }
  };
  Index v = vectors.begin;
  for (; v + 2 <= vectors.end; v += 2) step(v * n, std::integral_constant<int, 2>{});
  if (v < vectors.end) step(v * n, std::integral_constant<int, 1>{});
  const T page_sum = simd::sum_lanes(sum);
  state.row_sum += page_sum;
  // The maximum may have passed over a NaN; the sum did not.
  if (std::isnan(page_sum)) state.row_max = page_sum;
}

}  // namespace heed::detail
