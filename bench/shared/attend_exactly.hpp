// SPDX-License-Identifier: MIT
/// \file
/// Attention of one query in float64, and how far a result is from it; shares nothing with heed.
#pragma once

#include <cmath>

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

/// The largest difference of a row from what is expected, in largest elements of that; NaN if there
/// is one.
template <class Row>
double relative_error(const Row& found, const Row& expected) {
  return (found - expected).cwiseAbs().template maxCoeff<Eigen::PropagateNaN>() /
         expected.cwiseAbs().maxCoeff();
}
/// The larger one, or a NaN: of errors, of which none may be lost.
inline double larger_or_nan(double a, double b) { return std::isnan(a) || a >= b ? a : b; }

}  // namespace heed::bench
