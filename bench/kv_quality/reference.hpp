// SPDX-License-Identifier: MIT
/// \file
/// Attention in float64, from its formula: shares no code with the kernel.
#pragma once

#include <cmath>

#include "kv_quality/inputs.hpp"

namespace heed::bench::quality {

/// Attention of one head. Row r sees the keys 0 .. seqlen - num_queries + r; what it does not see
/// has the probability 0.
struct HeadAttention {
  MatrixD scores;  ///< [num_queries, seqlen], scaled
  MatrixD probs;   ///< [num_queries, seqlen]
  MatrixD out;     ///< [num_queries, head_dim_v]
};

inline Index num_visible(const HeadAttention& head, Index q_row) {
  return head.scores.cols() - head.scores.rows() + q_row + 1;
}

/// Softmax of the visible scores of each row.
inline void set_probs(HeadAttention& head) {
  head.probs = MatrixD::Zero(head.scores.rows(), head.scores.cols());
  for (Index q_row = 0; q_row < head.scores.rows(); ++q_row) {
    const auto scores = head.scores.row(q_row).head(num_visible(head, q_row)).array();
    auto probs = head.probs.row(q_row).head(num_visible(head, q_row)).array();
    probs = (scores - scores.maxCoeff()).exp();
    probs /= probs.sum();
  }
}

/// \param query  [num_queries, head_dim] \param key  [seqlen, head_dim]
/// \param value  [seqlen, head_dim_v]
inline HeadAttention attend_head(const MatrixD& query, const MatrixD& key, const MatrixD& value,
                                 double softmax_scale) {
  HeadAttention head;
  head.scores.noalias() = softmax_scale * query * key.transpose();
  set_probs(head);
  head.out.noalias() = head.probs * value;
  return head;
}

/// Entropy of a row's probabilities in bits: as if it looked at 2^bits keys alike.
inline double entropy_bits(const HeadAttention& head, Index q_row) {
  double nats = 0;
  for (Index k = 0; k < num_visible(head, q_row); ++k)
    if (const double prob = head.probs(q_row, k); prob > 0) nats -= prob * std::log(prob);
  return nats / std::log(2.0);
}

}  // namespace heed::bench::quality
