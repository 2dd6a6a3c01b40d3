// SPDX-License-Identifier: MIT
/// \file
/// attend_backward on random inputs, and the check of its results against the chain rule in a wider
/// type.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>
#include <vector>

#include "heed/attention/backward.hpp"
#include "reference/backward.hpp"        // backward, slope_of
#include "support/attention_case.hpp"    // AttentionInputs, Exact, view
#include "support/expect_attention.hpp"  // RowBounds, WorstError, walk_bound

namespace heed::test {

/// What attend_backward writes. Starts as NaN, so that an element left out is seen.
template <class T>
struct GradientsResult {
  Heads<T> query, key, value;
  std::vector<T> sinks;

  explicit GradientsResult(const AttentionInputs<T>& like)
      : query(like.query), key(like.key), value(like.value), sinks(like.sinks) {
    for (std::vector<T>* numbers : {&query.data, &key.data, &value.data, &sinks})
      numbers->assign(numbers->size(), std::numeric_limits<T>::quiet_NaN());
  }
  /// The same numbers; 0 and -0 count as one.
  friend bool operator==(const GradientsResult& a, const GradientsResult& b) {
    return a.query.data == b.query.data && a.key.data == b.key.data &&
           a.value.data == b.value.data && a.sinks == b.sinks;
  }
};

/// attend and attend_backward on matrices. \param grad_out  [num_heads, seqlen_q, head_dim_v]
template <class T, class Mask, class Score>
GradientsResult<T> backward_matrices(const AttentionInputs<T>& inputs, const Mask& mask,
                                     const Score& score, const Heads<T>& grad_out,
                                     BackwardOptions<T> options = {}) {
  auto forward = attend_matrices(inputs, mask, score);
  GradientsResult<T> result(inputs);
  options.sinks = inputs.sinks;
  attend_backward(view(inputs.query), view(inputs.key), view(inputs.value), mask, score,
                  {.out = view(forward.out), .lse = forward.lse_view()}, view(grad_out),
                  {.query = view(result.query),
                   .key = view(result.key),
                   .value = view(result.value),
                   .sinks = result.sinks},
                  options);
  return result;
}

/// The bounds of all gradients: what rounding in T may do to each, to first order.
///
/// A probability errs by a part of itself: its score's bound, the lse's, and exp as in
/// attention_bound. grad_probs are dot products, delta one with a result that errs as out does.
/// Their difference, the slope and the products of these round once each; a softcap's slope is
/// 1 - tanh^2, off by some roundings of 1 and by what the score is off, over the cap. What is
/// summed over keys or rows adds up all that, and its own rounding as in walk_bound.
template <class T>
class GradientBounds {
 public:
  using E = Exact<T>;

  GradientBounds(const AttentionInputs<E>& inputs, const reference::Score<E>& score,
                 const reference::Attention<E>& forward, const reference::Gradients<E>& exact,
                 const Heads<E>& grad_out)
      : probs_(forward.probs.heads, forward.probs.rows, forward.probs.cols), grads_(probs_),
        sinks_(inputs.sinks.size()) {
    const double u = unit_roundoff<T>;
    std::vector<E> products;
    const auto dot_bound_of = [&](Index length, const auto& product) {
      products.clear();
      for (Index c = 0; c < length; ++c) products.push_back(product(c));
      return walk_bound<T, E>(products);
    };
    const Index head_dim_v = inputs.value.cols;
    for (Index head = 0; head < probs_.heads; ++head)
      for (Index q_row = 0; q_row < probs_.rows; ++q_row) {
        const Index kv_head = head / (inputs.query.heads / inputs.key.heads);
        RowBounds<T> row(inputs, score, forward, head, q_row);
        const auto lse = static_cast<double>(forward.lse(head, q_row, 0));
        // With a sink, two more exponentials and a logarithm.
        const double lse_bound = row.lse_bound() + 8 * u * (1 + std::abs(lse));
        double delta_bound = dot_bound_of(head_dim_v, [&](Index c) {
          return grad_out(head, q_row, c) * forward.out(head, q_row, c);
        });
        for (Index c = 0; c < head_dim_v; ++c)
          delta_bound += std::abs(static_cast<double>(grad_out(head, q_row, c))) *
                         row.out_bound(inputs.value, c, {});
        if (!sinks_.empty() && lse != -std::numeric_limits<double>::infinity()) {
          const auto at = static_cast<std::size_t>(head);
          const auto sink = static_cast<double>(inputs.sinks[at]);
          const double total = std::max(lse, sink) + std::log1p(std::exp(-std::abs(lse - sink)));
          const double sink_prob = std::exp(sink - total);
          const double delta = std::abs(static_cast<double>(exact.delta(head, q_row, 0)));
          const double bound =
              sink_prob * (delta_bound + delta * (lse_bound + 6 * u + u * std::abs(sink - total)));
          sinks_[at].sum += bound, sinks_[at].squares += bound * bound;
          sinks_[at].magnitudes += sink_prob * delta;
        }
        for (Index k = 0; k < probs_.cols; ++k) {
          const auto prob = static_cast<double>(forward.probs(head, q_row, k));
          if (prob == 0) continue;
          const double score_bound = row.score_bound_of(k);
          const double prob_bound = prob * (score_bound + lse_bound + 6 * u);
          const double difference = std::abs(
              static_cast<double>(exact.grad_probs(head, q_row, k) - exact.delta(head, q_row, 0)));
          const double difference_bound =
              u * difference + delta_bound + dot_bound_of(head_dim_v, [&](Index c) {
                return grad_out(head, q_row, c) * inputs.value(kv_head, k, c);
              });
          const double slope = std::abs(static_cast<double>(exact.slopes(head, q_row, k)));
          const double slope_bound =
              score.softcap ? std::abs(static_cast<double>(score.scale)) *
                                  (4 * u + score_bound / static_cast<double>(*score.softcap))
                            : u * slope;
          probs_(head, q_row, k) = prob_bound;
          grads_(head, q_row, k) = prob_bound * difference * slope +
                                   prob * difference_bound * slope +
                                   prob * difference * (slope_bound + 3 * u * slope);
        }
      }
  }
  /// Of probabilities, and of the gradients of query . key: [num_heads, seqlen_q, seqlen_kv].
  const Heads<double>& probs() const { return probs_; }
  const Heads<double>& grads() const { return grads_; }
  /// Of the gradient of a head's sink. Its terms, one a row, are summed in double; they err in
  /// either sign, so that as in walk_bound 6 sqrt(n) of their errors add up, in place of n.
  double sink(std::size_t head) const {
    const auto& [sum, squares, magnitudes] = sinks_[head];
    return std::min(sum, 6 * std::sqrt(squares)) + dot_bound<double>(probs_.rows) * magnitudes;
  }

 private:
  Heads<double> probs_, grads_;
  struct RowErrors {
    double sum = 0, squares = 0, magnitudes = 0;
  };
  std::vector<RowErrors> sinks_;  // [num_heads]
};

/// Fails unless every element of `result` is as close to the chain rule as its derivation promises.
template <class T>
void expect_gradients(const GradientsResult<T>& result, const AttentionInputs<T>& inputs,
                      const reference::Score<Exact<T>>& score, const reference::Visible& visible,
                      const Heads<T>& grad_of_out) {
  using E = Exact<T>;
  const AttentionInputs<E> wide{converted<E>(inputs.query),
                                converted<E>(inputs.key),
                                converted<E>(inputs.value),
                                {inputs.sinks.begin(), inputs.sinks.end()}};
  const Heads<E> grad_out = converted<E>(grad_of_out);
  const auto forward =
      reference::attention(wide.query, wide.key, wide.value, score, visible, wide.sinks);
  const auto exact = reference::backward<E>(
      wide.query, wide.key, wide.value, [&](E dot) { return reference::slope_of(score, dot); },
      forward, grad_out, wide.sinks);
  const GradientBounds<T> bounds(wide, score, forward, exact, grad_out);
  WorstError worst;
  /// One element: a sum over some rows and keys of left * right, where left has a bound.
  const auto compare = [&](std::string_view name, T found, E sum, Index head, Index row, Index col,
                           const auto& for_terms) {
    std::vector<E> products;
    double bound = 0;
    for_terms([&](E left, double left_bound, E right) {
      products.push_back(left * right);
      bound += left_bound * std::abs(static_cast<double>(right));
    });
    // Sums of pages, of tasks and of what is scaled at the end are rounded once more each.
    bound += walk_bound<T, E>(products) + 4 * unit_roundoff<T> * std::abs(static_cast<double>(sum));
    worst.compare(found, sum, bound, [&](auto& words) {
      words << name << "(" << head << ", " << row << ", " << col << ")";
    });
  };
  const Index group = wide.query.heads / wide.key.heads;
  for (Index head = 0; head < wide.query.heads; ++head)
    for (Index q_row = 0; q_row < wide.query.rows; ++q_row)
      for (Index c = 0; c < wide.query.cols; ++c)
        compare("grad_query", result.query(head, q_row, c), exact.query(head, q_row, c), head,
                q_row, c, [&](const auto& term) {
                  for (Index k = 0; k < wide.key.rows; ++k)
                    if (forward.probs(head, q_row, k) != 0)
                      term(exact.grad_scores(head, q_row, k), bounds.grads()(head, q_row, k),
                           wide.key(head / group, k, c));
                });
  const auto compare_by_key = [&](std::string_view name, const Heads<T>& found,
                                  const Heads<E>& sums, const Heads<E>& left,
                                  const Heads<double>& left_bounds, const Heads<E>& right) {
    for (Index head = 0; head < found.heads; ++head)
      for (Index k = 0; k < found.rows; ++k)
        for (Index c = 0; c < found.cols; ++c)
          compare(name, found(head, k, c), sums(head, k, c), head, k, c, [&](const auto& term) {
            for (Index h = head * group; h < (head + 1) * group; ++h)
              for (Index q_row = 0; q_row < right.rows; ++q_row)
                if (forward.probs(h, q_row, k) != 0)
                  term(left(h, q_row, k), left_bounds(h, q_row, k), right(h, q_row, c));
          });
  };
  compare_by_key("grad_key", result.key, exact.key, exact.grad_scores, bounds.grads(), wide.query);
  compare_by_key("grad_value", result.value, exact.value, forward.probs, bounds.probs(), grad_out);
  for (std::size_t head = 0; head < exact.sinks.size(); ++head)
    worst.compare(
        result.sinks[head], exact.sinks[head],
        bounds.sink(head) + unit_roundoff<T> * std::abs(static_cast<double>(exact.sinks[head])),
        [&](auto& words) { words << "grad_sinks(" << head << ")"; });
  worst.expect_within_bounds();
}

}  // namespace heed::test
