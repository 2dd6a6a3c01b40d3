// SPDX-License-Identifier: MIT
/// \file
/// The float64 gradients that those of speed are held against, and that a wrong one is seen.

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "speed/gradients.hpp"

namespace {

using heed::Index;
using heed::bench::ExactGradients;
using heed::bench::Gradients;
using heed::bench::Matrix;
using heed::bench::SpeedCase;
using heed::bench::Visible;

constexpr double scale = 0.4;

/// 4 heads of 2 groups.
SpeedCase small_case(Index seqlen_q, Index seqlen_kv, Visible visible) {
  return {"a",
          {{seqlen_q, seqlen_kv}},
          4,
          2,
          4,
          3,
          visible,
          heed::bench::Kv::full,
          heed::bench::Pass::backward};
}

struct Operands {
  Matrix query, key, value, grad_out;
  explicit Operands(const SpeedCase& c)
      : query(some(c.rows_q(), c.num_heads * c.head_dim, 1)),
        key(some(c.rows_kv(), c.num_kv_heads * c.head_dim, 2)),
        value(some(c.rows_kv(), c.num_kv_heads * c.head_dim_v, 3)),
        grad_out(some(c.rows_q(), c.num_heads * c.head_dim_v, 4)) {}

  static Matrix some(Index rows, Index cols, int seed) {
    return Matrix::NullaryExpr(rows, cols, [=](Index row, Index col) {
      return static_cast<float>(std::sin(1.7 * static_cast<double>(row * cols + col + seed * 31)));
    });
  }
};

ExactGradients exact_of(const SpeedCase& c, const Operands& at) {
  return exact_gradients(c, at.query, at.key, at.value, at.grad_out, scale);
}

/// Whose gradients they are: the sum of grad_out out.
double loss(const SpeedCase& c, const Operands& at) {
  double sum = 0;
  for (Index head = 0; head < c.num_heads; ++head)
    for (Index row = 0; row < c.rows_q(); ++row) {
      const Index kv_head = head / (c.num_heads / c.num_kv_heads);
      const Index seen = c.seen(c.sequences[0], row), d = c.head_dim, dv = c.head_dim_v;
      const Eigen::RowVectorXd out = heed::bench::attend_exactly(
          at.query.block(row, head * d, 1, d).cast<double>(),
          at.key.block(0, kv_head * d, seen, d).cast<double>(),
          at.value.block(0, kv_head * dv, seen, dv).cast<double>(), scale);
      sum += out.dot(at.grad_out.block(row, head * dv, 1, dv).cast<double>().row(0));
    }
  return sum;
}

void expect_slopes(const SpeedCase& c, Operands& at, Matrix& operand,
                   const heed::bench::ExactGradient& exact) {
  constexpr float step = 1.0F / 128;
  for (Index i = 0; i < operand.size(); ++i) {
    float& element = operand.data()[i];
    const float before = element;
    element = before + step;
    const double above = element, up = loss(c, at);
    element = before - step;
    const double below = element, down = loss(c, at);
    element = before;
    EXPECT_NEAR(exact.rows.data()[i], (up - down) / (above - below), 1e-4) << i;
  }
}

TEST(ExactGradients, AreTheSlopesOfTheLoss) {
  for (const Visible visible : {Visible::causal, Visible::full}) {
    const SpeedCase c = small_case(3, 5, visible);
    Operands at(c);
    const ExactGradients exact = exact_of(c, at);
    expect_slopes(c, at, at.query, exact.query);
    expect_slopes(c, at, at.key, exact.key);
    expect_slopes(c, at, at.value, exact.value);
  }
}

class WrongGradients : public testing::Test {
 protected:
  const SpeedCase c_ = small_case(5, 5, Visible::causal);
  const ExactGradients exact_ = exact_of(c_, Operands(c_));
  Gradients found_{exact_.query.rows.cast<float>(), exact_.key.rows.cast<float>(),
                   exact_.value.rows.cast<float>()};

  double error() const { return largest_error(exact_, found_); }
};

TEST_F(WrongGradients, AreNoneIfRounded) { EXPECT_LT(error(), 1e-6); }

TEST_F(WrongGradients, AreSeenInEachAsAShareOfTheRow) {
  const auto expect_seen = [&](Matrix& gradient, const heed::bench::ExactGradient& exact) {
    const Index last = gradient.rows() - 1, head = exact.unit.cols() - 1;
    float& element = gradient(last, gradient.cols() - 1);
    const float right = element;
    element += static_cast<float>(0.01 * exact.unit(last, head));
    EXPECT_NEAR(error(), 0.01, 1e-5);
    element = std::numeric_limits<float>::quiet_NaN();
    EXPECT_TRUE(std::isnan(error()));
    element = right;
  };
  expect_seen(found_.query, exact_.query);
  expect_seen(found_.key, exact_.key);
  expect_seen(found_.value, exact_.value);
}

/// The gradient is 0 but for rounding, and its errors are none of that.
TEST_F(WrongGradients, OfAQueryThatSeesOneKeyAreMeasuredByItsTerms) {
  EXPECT_LT(exact_.query.rows.row(0).cwiseAbs().maxCoeff(), 1e-15);
  EXPECT_GT(exact_.query.unit.row(0).minCoeff(), 0.01);
}

TEST_F(WrongGradients, AreThoseOfAnotherShape) {
  found_.key.conservativeResize(4, Eigen::NoChange);
  EXPECT_TRUE(std::isnan(error()));
}

}  // namespace
