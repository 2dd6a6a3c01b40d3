// SPDX-License-Identifier: MIT
/// \file
/// The check of a result of attention against the formula in a wider type.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "reference/attention.hpp"     // attention, Score, Visible
#include "support/attention_case.hpp"  // AttentionInputs, AttentionResult, Exact
#include "support/tolerance.hpp"       // score_bound, attention_bound, dot_bound

namespace heed::test {

/// The worst of many comparisons, as a part of what was allowed there.
class WorstError {
 public:
  /// A number that is not finite must be met exactly.
  /// \param place  writes where the two numbers stand
  template <class Place>
  void compare(long double found, long double exact, double bound, const Place& place) {
    if (found == exact || (std::isnan(found) && std::isnan(exact))) return;
    const long double error = std::abs(found - exact);
    if (error <= bound * part_) return;
    part_ = error <= bound ? static_cast<double>(error) / bound : infinity;
    std::ostringstream words;
    words.precision(12);
    place(words);
    words << ": found " << found << ", exact " << exact << ", error " << error << ", bound "
          << bound;
    text_ = words.str();
  }
  void expect_within_bounds() const { EXPECT_LE(part_, 1) << text_; }

 private:
  static constexpr double infinity = std::numeric_limits<double>::infinity();
  double part_ = 0;
  std::string text_;
};

/// Bound of the rounding error of the sum of `products`, independent and of either sign, in any
/// order.
///
/// Partial sums are then a random walk to the final sum: that of k terms has the square
/// k mean(products^2) + (k/n sum)^2 in the mean. Each is rounded once, and errors of either sign,
/// each at most u s_k, add up to more than lambda u sqrt(sum s_k^2) with probability 2
/// exp(-lambda^2 / 2) (Hoeffding 1963): lambda = 6 as in dot_bound. Of few terms n u sum |products|
/// is less, and certain.
template <class T, class E>
double walk_bound(std::span<const E> products) {
  constexpr double lambda = 6;
  double sum = 0, magnitudes = 0, squares = 0;
  for (const E exact : products) {
    const auto product = static_cast<double>(exact);
    sum += product;
    magnitudes += std::abs(product);
    squares += product * product;
  }
  const auto n = static_cast<double>(products.size());
  const double walk = lambda * std::sqrt((n / 2 + 1) * squares + n / 3 * sum * sum);
  return unit_roundoff<T> * std::min(n * magnitudes, walk);
}

/// The magnitudes of all terms of a score, none of which rounding may exceed by much: no policy
/// magnifies an error, since tanh has a slope of at most 1, and so has every custom function of
/// these tests.
/// \param scaled  the scaled dot product
template <class E>
double score_terms(const reference::Score<E>& score, E scaled, Index head, Index q_row, Index k,
                   Index position) {
  E terms = std::abs(scaled);
  if (!score.alibi_slopes.empty())
    terms +=
        std::abs(score.alibi_slopes[static_cast<std::size_t>(head)] * static_cast<E>(k - position));
  if (score.bias) terms += std::abs((*score.bias)(score.bias->heads == 1 ? 0 : head, q_row, k));
  if (score.custom) terms += std::abs(score.custom(0, head, position, k));
  return static_cast<double>(terms);
}

/// By how much a probability may be off before values are multiplied: beside T's own rounding.
struct ProbError {
  double of_itself = 0;
  double of_page = 0;  ///< of the largest in its page, each times its largest value
};

/// The bounds of one row of a result: what rounding in T may do to its lse and to its elements.
template <class T>
class RowBounds {
 public:
  using E = Exact<T>;

  RowBounds(const AttentionInputs<E>& inputs, const reference::Score<E>& score,
            const reference::Attention<E>& exact, Index head, Index q_row)
      : kv_head_(head / (inputs.query.heads / inputs.key.heads)) {
    const auto lse = static_cast<double>(exact.lse(head, q_row, 0));
    double row_max = -std::numeric_limits<double>::infinity();
    for (Index k = 0; k < inputs.key.rows; ++k)
      row_max = std::max(row_max, static_cast<double>(exact.scores(head, q_row, k)));
    double mean_score_bound = 0;
    for (Index k = 0; k < inputs.key.rows; ++k) {
      const auto s = static_cast<double>(exact.scores(head, q_row, k));
      const bool seen = s != -std::numeric_limits<double>::infinity();
      probs_.push_back(static_cast<double>(exact.probs(head, q_row, k)));
      score_bounds_.push_back(seen ? bound_of_score(inputs, score, head, q_row, k, row_max) : 0);
      if (seen) mean_score_bound += std::exp(s - lse) * score_bounds_.back();
    }
    if (!inputs.sinks.empty()) {  // one more key, whose value is 0
      const auto sink = static_cast<double>(inputs.sinks[static_cast<std::size_t>(head)]);
      probs_.push_back(1 - std::accumulate(probs_.begin(), probs_.end(), 0.0));
      score_bounds_.push_back(score_bound<T>(0, std::abs(sink), row_max));
    }
    values_.resize(probs_.size());
    // exp and the row's sum as in attention_bound; then the logarithm, two units in the last place,
    // and its sum with row_max.
    lse_bound_ = mean_score_bound + dot_bound<T>(inputs.key.rows) +
                 unit_roundoff<T> * (4 + 4 * std::abs(lse - row_max) + std::abs(lse));
  }

  double lse_bound() const { return lse_bound_; }
  double score_bound_of(Index key) const { return score_bounds_[static_cast<std::size_t>(key)]; }
  /// Of the element that column `col` of `value` makes.
  /// \param prob_error  as in expect_attention
  double out_bound(const Heads<E>& value, Index col, const ProbError& prob_error) {
    for (Index k = 0; k < value.rows; ++k) {
      const auto at = static_cast<std::size_t>(k);
      values_[at] = probs_[at] == 0 ? 0 : static_cast<double>(value(kv_head_, k, col));
    }
    double sum = 0;
    for (std::size_t k = 0; k < probs_.size(); ++k) sum += probs_[k] * std::abs(values_[k]);
    return attention_bound<T>(probs_, score_bounds_, values_) + prob_error.of_itself * sum +
           (prob_error.of_page > 0 ? prob_error.of_page * page_terms(value) : 0);
  }

 private:
  /// Errors of all keys of a page are as large as its largest term, and of either sign: as in
  /// walk_bound, with 6 sqrt(n) of them in place of n where that is less.
  double page_terms(const Heads<E>& value) const {
    double sum = 0, squares = 0;
    for (Index begin = 0; begin < value.rows; begin += page_size) {
      const Index count = std::min(page_size, value.rows - begin);
      double largest = 0;
      for (Index k = begin; k < begin + count; ++k)
        for (Index c = 0; c < value.cols; ++c)
          largest = std::max(largest, probs_[static_cast<std::size_t>(k)] *
                                          std::abs(static_cast<double>(value(kv_head_, k, c))));
      sum += static_cast<double>(count) * largest;
      squares += static_cast<double>(count) * largest * largest;
    }
    return std::min(sum, 6 * std::sqrt(squares));
  }
  double bound_of_score(const AttentionInputs<E>& inputs, const reference::Score<E>& score,
                        Index head, Index q_row, Index k, double row_max) {
    products_.clear();
    for (Index c = 0; c < inputs.query.cols; ++c)
      products_.push_back(score.scale * inputs.query(head, q_row, c) * inputs.key(kv_head_, k, c));
    const E dot = std::accumulate(products_.begin(), products_.end(), E{0});
    const double terms =
        score_terms(score, dot, head, q_row, k, inputs.key.rows - inputs.query.rows + q_row);
    return walk_bound<T, E>(products_) + score_bound<T>(0, terms, row_max);
  }

  Index kv_head_;
  std::vector<double> probs_, score_bounds_, values_;
  std::vector<E> products_;
  double lse_bound_ = 0;
};

/// Fails unless every element of `result` is as close to the formula as its derivation promises.
template <class T>
void expect_attention(const AttentionResult<T>& result, const AttentionInputs<T>& inputs,
                      const reference::Score<Exact<T>>& score,
                      const reference::Visible& visible = {}, const ProbError& prob_error = {}) {
  using E = Exact<T>;
  const AttentionInputs<E> wide{converted<E>(inputs.query),
                                converted<E>(inputs.key),
                                converted<E>(inputs.value),
                                {inputs.sinks.begin(), inputs.sinks.end()}};
  const auto exact =
      reference::attention(wide.query, wide.key, wide.value, score, visible, wide.sinks);
  WorstError worst;
  for (Index head = 0; head < wide.query.heads; ++head)
    for (Index q_row = 0; q_row < wide.query.rows; ++q_row) {
      RowBounds<T> bounds(wide, score, exact, head, q_row);
      worst.compare(result.lse(head, q_row, 0), exact.lse(head, q_row, 0), bounds.lse_bound(),
                    [&](auto& words) { words << "lse(" << head << ", " << q_row << ")"; });
      for (Index c = 0; c < wide.value.cols; ++c)
        worst.compare(result.out(head, q_row, c), exact.out(head, q_row, c),
                      bounds.out_bound(wide.value, c, prob_error), [&](auto& words) {
                        words << "out(" << head << ", " << q_row << ", " << c << ")";
                      });
    }
  worst.expect_within_bounds();
}

}  // namespace heed::test
