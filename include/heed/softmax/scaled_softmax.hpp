// SPDX-License-Identifier: MIT
/// \file
/// THE scaled-softmax core: one row's scores of one page become probabilities. Layer 3, detail.
#pragma once

#include <cstdint>

#include "heed/policy/score.hpp"
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

/// One step of the online softmax.
///
/// \param scores   [page_size], query . key on entry; exp(score - state.row_max) on exit, which is
///                 0 where hidden. Only `vectors` are read and written.
/// \param visible  bit i: the row sees key i of the page; all bits outside `vectors` are 0
/// \param site     the page's first key in `kv_row`
/// \returns the factor for the values that were summed before this page
///
/// A NaN among the visible scores makes the state NaN, and so the row's result. Scores of +inf do
/// so too (inf - inf), as they do in PyTorch.
template <class T, class Score>
T softmax_step(T* scores, VectorRange vectors, std::uint64_t visible, const Score& score_policy,
               ScoreSite site, SoftmaxState<T>& state) {
  constexpr Index n = simd::lanes<T>;
  const Index page_begin = site.kv_row;
  auto page_max = simd::broadcast(-std::numeric_limits<T>::infinity());
  for (Index v = vectors.begin; v < vectors.end; ++v) {
    site.kv_row = page_begin + v * n;
    const auto score = score_policy.template apply<T>(simd::load(scores + v * n), site);
    simd::store(scores + v * n, score);
    page_max = simd::max(page_max, score);
  }
  if (visible != all_visible) {
    hide(scores, visible);
    page_max = simd::broadcast(-std::numeric_limits<T>::infinity());
    for (Index v = vectors.begin; v < vectors.end; ++v)
      page_max = simd::max(page_max, simd::load(scores + v * n));
  }
  const T carry = state.rebase(std::max(state.row_max, simd::max_lanes(page_max)));
  // A row that has seen no key yet subtracts 0 from its -inf, not -inf.
  const auto reference = simd::broadcast(state.empty() ? T{0} : state.row_max);
  auto sum = simd::broadcast(T{0});
  for (Index v = vectors.begin; v < vectors.end; ++v) {
    const auto prob = simd::exp_nonpositive<T>(simd::sub(simd::load(scores + v * n), reference));
    simd::store(scores + v * n, prob);
    sum = simd::add(sum, prob);
  }
  const T page_sum = simd::sum_lanes(sum);
  state.row_sum += page_sum;
  // The maximum may have passed over a NaN; the sum did not.
  if (std::isnan(page_sum)) state.row_max = page_sum;
  return carry;
}

}  // namespace heed::detail
