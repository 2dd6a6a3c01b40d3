// SPDX-License-Identifier: MIT
/// \file
/// The gradients of attention in float64, by the formulas as they stand in books, and how far a
/// result is from them; shares nothing with heed.
///
///     d value = P^T d out      d P = d out value^T      d S = P (d P - rowsum(d out out))
///     d query = scale d S key  d key = scale d S^T query
#pragma once

#include <limits>

#include "shared/attend_exactly.hpp"
#include "shared/matrix.hpp"
#include "speed/case.hpp"

namespace heed::bench {

using Matrix = MatrixOf<float>;

/// Of the shapes of queries, keys and values: rows are tokens, heads lie side by side.
struct Gradients {
  Matrix query, key, value;
};

/// A gradient, and what its errors are measured in.
struct ExactGradient {
  MatrixOf<double> rows;
  /// Of each row and head: its largest element, or, where that is larger, the largest term of what
  /// it sums up, with |d P| + |rowsum| in place of the difference. A causal mask leaves the first
  /// query one key, so that its difference is of equal numbers: 0, or what they were rounded by.
  MatrixOf<double> unit;
};

struct ExactGradients {
  ExactGradient query, key, value;
};

namespace detail {

inline ExactGradient zero_gradient(Index rows, Index num_heads, Index width) {
  return {MatrixOf<double>::Zero(rows, num_heads * width), MatrixOf<double>::Zero(rows, num_heads)};
}

/// Takes the rows' largest elements into their units.
inline void finish(ExactGradient& gradient) {
  const Index num_heads = gradient.unit.cols(), width = gradient.rows.cols() / num_heads;
  for (Index head = 0; head < num_heads; ++head) {
    const auto of_head = gradient.rows.middleCols(head * width, width);
    gradient.unit.col(head) =
        gradient.unit.col(head).cwiseMax(of_head.cwiseAbs().rowwise().maxCoeff());
  }
}

inline double largest_error(const ExactGradient& exact, const Matrix& found) {
  if (found.rows() != exact.rows.rows() || found.cols() != exact.rows.cols())
    return std::numeric_limits<double>::quiet_NaN();
  const Index num_heads = exact.unit.cols(), width = found.cols() / num_heads;
  double largest = 0;
  for (Index head = 0; head < num_heads; ++head) {
    const MatrixOf<double> difference = found.middleCols(head * width, width).cast<double>() -
                                        exact.rows.middleCols(head * width, width);
    for (Index row = 0; row < found.rows(); ++row)
      largest =
          larger_or_nan(largest, difference.row(row).cwiseAbs().maxCoeff<Eigen::PropagateNaN>() /
                                     exact.unit(row, head));
  }
  return largest;
}

}  // namespace detail

/// \param c         of one sequence
/// \param query, key, value  as of Inputs
/// \param grad_out  [rows_q, num_heads * head_dim_v]
inline ExactGradients exact_gradients(const SpeedCase& c, const Matrix& query, const Matrix& key,
                                      const Matrix& value, const Matrix& grad_out, double scale) {
  using Double = MatrixOf<double>;
  const Index d = c.head_dim, dv = c.head_dim_v;
  ExactGradients exact{detail::zero_gradient(c.rows_q(), c.num_heads, d),
                       detail::zero_gradient(c.rows_kv(), c.num_kv_heads, d),
                       detail::zero_gradient(c.rows_kv(), c.num_kv_heads, dv)};
  for (Index head = 0; head < c.num_heads; ++head) {
    const Index kv_head = head / (c.num_heads / c.num_kv_heads);
    const Double q = query.middleCols(head * d, d).cast<double>();
    const Double k = key.middleCols(kv_head * d, d).cast<double>();
    const Double v = value.middleCols(kv_head * dv, dv).cast<double>();
    const Double g = grad_out.middleCols(head * dv, dv).cast<double>();
    Double prob = scale * q * k.transpose();
    for (Index row = 0; row < prob.rows(); ++row) {
      const Index seen = c.seen(c.sequences[0], row);
      auto visible = prob.row(row).head(seen);
      visible = (visible.array() - visible.maxCoeff()).exp().matrix();
      visible /= visible.sum();
      prob.row(row).tail(prob.cols() - seen).setZero();
    }
    const Double grad_prob = g * v.transpose();
    const Eigen::VectorXd delta = g.cwiseProduct(prob * v).rowwise().sum();
    const Double grad_score = scale * prob.cwiseProduct(grad_prob.colwise() - delta);
    // What the difference is made of, to which rounding is in proportion.
    const Double terms =
        scale * prob.cwiseProduct(grad_prob.cwiseAbs().colwise() + delta.cwiseAbs());
    exact.query.rows.middleCols(head * d, d) = grad_score * k;
    exact.key.rows.middleCols(kv_head * d, d) += grad_score.transpose() * q;
    exact.value.rows.middleCols(kv_head * dv, dv) += prob.transpose() * g;
    const auto take = [](auto unit, const Eigen::VectorXd& largest) {
      unit = unit.cwiseMax(largest);
    };
    take(exact.query.unit.col(head), terms.rowwise().maxCoeff() * k.cwiseAbs().maxCoeff());
    take(exact.key.unit.col(kv_head),
         terms.colwise().maxCoeff().transpose() * q.cwiseAbs().maxCoeff());
  }
  for (ExactGradient* const one : {&exact.query, &exact.key, &exact.value}) detail::finish(*one);
  return exact;
}

/// The largest difference between all elements of `found` and the exact gradients, in units of
/// their rows. NaN if an element is, or for another shape: compare it as !(error <= limit).
inline double largest_error(const ExactGradients& exact, const Gradients& found) {
  return larger_or_nan(detail::largest_error(exact.query, found.query),
                       larger_or_nan(detail::largest_error(exact.key, found.key),
                                     detail::largest_error(exact.value, found.value)));
}

}  // namespace heed::bench
