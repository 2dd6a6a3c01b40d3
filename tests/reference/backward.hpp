// SPDX-License-Identifier: MIT
/// \file
/// The gradients of attention as the chain rule says, with plain loops. Shares no code with the
/// library.
#pragma once

#include <cmath>
#include <cstddef>
#include <functional>
#include <vector>

#include "reference/attention.hpp"  // Attention, Heads, Score

namespace heed::reference {

/// d score / d (query . key) of a Score without custom parts.
template <class T>
T slope_of(const Score<T>& score, T dot) {
  if (!score.softcap) return score.scale;
  const T bounded = std::tanh(score.scale * dot / *score.softcap);
  return score.scale * (1 - bounded * bounded);
}

template <class T>
struct Gradients {
  Heads<T> query, key, value;
  std::vector<T> sinks;  // [num_heads]
  // On the way:
  Heads<T> delta;        // [num_heads, seqlen_q, 1], the sum over out of grad_out * out
  Heads<T> grad_probs;   // [num_heads, seqlen_q, seqlen_kv], 0 where hidden
  Heads<T> slopes;       // likewise
  Heads<T> grad_scores;  // likewise, of query . key
};

/// \param forward   what `attention` gave for these operands
/// \param slope     d score / d (query . key), of query . key
/// \param sinks     as for `attention`
template <class T>
Gradients<T> backward(const Heads<T>& query, const Heads<T>& key, const Heads<T>& value,
                      const std::function<T(T dot)>& slope, const Attention<T>& forward,
                      const Heads<T>& grad_out, const std::vector<T>& sinks = {}) {
  const Heads<T> square(query.heads, query.rows, key.rows);
  Gradients<T> result{Heads<T>(query.heads, query.rows, query.cols),
                      Heads<T>(key.heads, key.rows, key.cols),
                      Heads<T>(value.heads, value.rows, value.cols),
                      std::vector<T>(sinks.size()),
                      Heads<T>(query.heads, query.rows, 1),
                      square,
                      square,
                      square};
  for (Size head = 0; head < query.heads; ++head) {
    const Size kv_head = head / (query.heads / key.heads);
    for (Size q_row = 0; q_row < query.rows; ++q_row) {
      T& delta = result.delta(head, q_row, 0);
      for (Size c = 0; c < value.cols; ++c)
        delta += grad_out(head, q_row, c) * forward.out(head, q_row, c);
      T of_keys = 0;  // what probability the sink leaves
      for (Size kv_row = 0; kv_row < key.rows; ++kv_row) {
        const T prob = forward.probs(head, q_row, kv_row);
        of_keys += prob;
        if (prob == 0) continue;  // hidden, or without weight
        T dot = 0, grad_prob = 0;
        for (Size c = 0; c < query.cols; ++c)
          dot += query(head, q_row, c) * key(kv_head, kv_row, c);
        for (Size c = 0; c < value.cols; ++c) {
          grad_prob += grad_out(head, q_row, c) * value(kv_head, kv_row, c);
          result.value(kv_head, kv_row, c) += prob * grad_out(head, q_row, c);
        }
        const T grad_score = prob * (grad_prob - delta) * slope(dot);
        for (Size c = 0; c < query.cols; ++c) {
          result.query(head, q_row, c) += grad_score * key(kv_head, kv_row, c);
          result.key(kv_head, kv_row, c) += grad_score * query(head, q_row, c);
        }
        result.grad_probs(head, q_row, kv_row) = grad_prob;
        result.slopes(head, q_row, kv_row) = slope(dot);
        result.grad_scores(head, q_row, kv_row) = grad_score;
      }
      if (!sinks.empty() && of_keys != 0)
        result.sinks[static_cast<std::size_t>(head)] -= (1 - of_keys) * delta;
    }
  }
  return result;
}

}  // namespace heed::reference
