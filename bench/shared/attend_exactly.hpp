// SPDX-License-Identifier: MIT
/// \file
/// Attention of one query in float64; shares nothing with heed.
#pragma once

#include <Eigen/Core>

namespace heed::bench {

/// softmax(scale query key^T) value, of one query that sees all keys.
/// \param query  [1, head_dim] of double; \param key  [seqlen_kv, head_dim]
/// \param value  [seqlen_kv, head_dim_v]
template <class Query, class Key, class Value>
Eigen::RowVectorXd attend_exactly(const Query& query, const Key& key, const Value& value,
                                  double scale) {
  Eigen::RowVectorXd prob = scale * query * key.transpose();
  prob = (prob.array() - prob.maxCoeff()).exp().matrix().eval();
  return prob * value / prob.sum();
}

}  // namespace heed::bench
