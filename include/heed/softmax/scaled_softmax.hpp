// SPDX-License-Identifier: MIT
/// \file
/// THE scaled-softmax core: one row's scores of one page become probabilities. Layer 3, detail.
#pragma once

#include <algorithm>
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

/// A step of the online softmax is three parts, which the rows of a tile take one after another:
/// within a part rows are independent of each other and overlap, where the parts of one row wait
/// for its maximum.
///
/// First part: scores pass the score policy and the mask, and the row's maximum may grow.
///
/// \param scores   [page_size], scaled query . key on entry, what the softmax is of on exit. Only
///                 `vectors` are read and written, except that hidden keys of the whole page
///                 become -inf.
/// \param visible  bit i: the row sees key i of the page; all bits outside `vectors` are 0
/// \param site     the page's first key in `kv_row`
/// \returns the logarithm of the factor for what was summed before this page
template <class T, class Score>
T raise_row_max(T* scores, VectorRange vectors, std::uint64_t visible, const Score& score_policy,
                ScoreSite site, SoftmaxState<T>& state) {
  constexpr Index n = simd::lanes<T>;
  const Index page_begin = site.kv_row;
  auto page_max = simd::broadcast(-std::numeric_limits<T>::infinity());
  // All loads before the stores, or the policy would be read anew after each.
  const auto step = [&]<int Count>(Index v, std::integral_constant<int, Count>) {
    simd::Packet<T> score[Count];
#pragma GCC unroll 4
    for (int i = 0; i < Count; ++i) {
      site.kv_row = page_begin + (v + i) * n;
      score[i] = score_policy.template apply<T>(simd::load(scores + (v + i) * n), site);
    }
#pragma GCC unroll 4
    for (int i = 0; i < Count; ++i) {
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
  const T before = state.row_max;
  state.row_max = std::max(before, simd::max_lanes(page_max));
  return before - state.reference();
}

/// Second part: the logarithms of some rows' factors become the factors. A maximum that did not
/// grow gives exactly 1.
template <class T>
void exponentiate_carries(T* carry, Index rows) {
  constexpr Index n = simd::lanes<T>;
  Index r = 0;
  for (; r + n <= rows; r += n) {
    simd::Packet<T> some[] = {simd::load(carry + r)};
    simd::exp_nonpositive<T>(some);
    simd::store(carry + r, some[0]);
  }
  // Few rows are decoding, where all waits for them: a maximum is new on the first page, and seldom
  // grows later.
  for (; r < rows; ++r) {
    if (carry[r] == 0 || carry[r] == -std::numeric_limits<T>::infinity()) {
      carry[r] = carry[r] == 0 ? T{1} : T{0};
      continue;
    }
    simd::Packet<T> one[] = {simd::broadcast(carry[r])};
    simd::exp_nonpositive<T>(one);
    carry[r] = simd::max_lanes(one[0]);
  }
}

/// Third part: exp(score - row_max), which is 0 where hidden, is kept, and the row's sum grows by
/// it.
///
/// A NaN among the visible scores makes the state NaN, and so the row's result. Scores of +inf do
/// so too (inf - inf), as they do in PyTorch.
///
/// \param carry  the factor for what was summed before this page
/// \param keep   keep(i, packet) takes the probabilities of the keys from i on
template <class T, class Keep>
void exponentiate(const T* scores, VectorRange vectors, T carry, SoftmaxState<T>& state,
                  const Keep& keep) {
  constexpr Index n = simd::lanes<T>;
  const auto reference = simd::broadcast(state.reference());
  auto sum = simd::broadcast(T{0});
  const auto step = [&]<int Count>(Index key, std::integral_constant<int, Count>) {
    simd::Packet<T> prob[Count];
    for (int i = 0; i < Count; ++i)
      prob[i] = simd::sub(simd::load(scores + key + i * n), reference);
    simd::exp_nonpositive<T>(prob);
    for (int i = 0; i < Count; ++i) {
      keep(key + i * n, prob[i]);
      sum = simd::add(sum, prob[i]);
    }
  };
  Index v = vectors.begin;
  for (; v + 2 <= vectors.end; v += 2) step(v * n, std::integral_constant<int, 2>{});
  if (v < vectors.end) step(v * n, std::integral_constant<int, 1>{});
  const T page_sum = simd::sum_lanes(sum);
  state.row_sum = carry * state.row_sum + page_sum;
  // The maximum may have passed over a NaN; the sum did not.
  if (std::isnan(page_sum)) state.row_max = page_sum;
}

}  // namespace heed::detail
