// SPDX-License-Identifier: MIT
/// \file
/// attend_backward against the chain rule, and against differences of attend itself.

#include "heed/attention/backward.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "support/expect_gradients.hpp"  // backward_matrices, expect_gradients
#include "support/mask_cases.hpp"        // for_each_mask

namespace heed {
namespace {

using test::AttentionInputs;
using test::AttentionShape;
using test::GradientsResult;
using test::Heads;
using test::Random;

template <class T>
struct Case {
  AttentionInputs<T> inputs;
  Heads<T> grad_out;

  Case(const AttentionShape& shape, Random& random)
      : inputs(test::normal_inputs<T>(shape, random)),
        grad_out(test::normal_heads<T>(shape.num_heads, shape.seqlen_q, shape.head_dim_v, random)) {
  }
};

template <class T>
class AttendBackward : public testing::Test {};
using Elements = testing::Types<float, double>;
TYPED_TEST_SUITE(AttendBackward, Elements);

/// Lengths on both sides of pages, tiles and tasks; heads in groups; widths that fill no vector.
TYPED_TEST(AttendBackward, FollowsTheChainRule) {
  Random random(1);
  for (const AttentionShape& shape : std::vector<AttentionShape>{
           {},
           {.seqlen_q = 1, .seqlen_kv = 130},
           {.seqlen_q = 130, .seqlen_kv = 1},
           {.num_heads = 4, .num_kv_heads = 2, .seqlen_q = 70, .seqlen_kv = 70},
           {.num_heads = 3, .seqlen_q = 64, .seqlen_kv = 64, .head_dim = 1, .head_dim_v = 1},
           {.num_heads = 6,
            .num_kv_heads = 2,
            .seqlen_q = 33,
            .seqlen_kv = 100,
            .head_dim = 20,
            .head_dim_v = 36},
           {.num_heads = 2,
            .num_kv_heads = 2,
            .seqlen_q = 100,
            .seqlen_kv = 30,
            .head_dim = 9,
            .head_dim_v = 5},
           {.seqlen_q = 40, .seqlen_kv = 1100, .head_dim = 7, .head_dim_v = 3},
           {.seqlen_q = 5, .seqlen_kv = 20, .head_dim = 130, .head_dim_v = 70},
           {.num_heads = 2, .seqlen_q = 30, .seqlen_kv = 70, .head_dim = 300, .head_dim_v = 290}}) {
    SCOPED_TRACE(shape.text());
    const Case<TypeParam> of(shape, random);
    const double scale = shape.softmax_scale();
    using E = test::Exact<TypeParam>;
    test::expect_gradients(test::backward_matrices(of.inputs, NoMask{}, scale, of.grad_out),
                           of.inputs, {.scale = static_cast<E>(scale)}, {}, of.grad_out);
    test::expect_gradients(test::backward_matrices(of.inputs, CausalMask{}, scale, of.grad_out),
                           of.inputs, {.scale = static_cast<E>(scale)}, test::causal_on(shape),
                           of.grad_out);
  }
}

// A sink's gradient is a sum over all rows, which must not get worse as they get more.
TYPED_TEST(AttendBackward, OfSinks) {
  for (const Index seqlen_q : {1, 40, 10000}) {
    const AttentionShape shape{
        .num_heads = 2, .seqlen_q = seqlen_q, .seqlen_kv = 20, .head_dim = 4, .head_dim_v = 4};
    SCOPED_TRACE(shape.text());
    Random random(7);
    Case<TypeParam> of(shape, random);
    of.inputs.sinks = {TypeParam(-1), TypeParam(2)};
    for (auto* numbers : {&of.grad_out.data, &of.inputs.value.data})
      for (TypeParam& number : *numbers) number = 1 + number / 10;  // so that all terms have a sign
    test::expect_gradients(test::backward_matrices(of.inputs, NoMask{}, 0.5, of.grad_out),
                           of.inputs, {.scale = 0.5}, {}, of.grad_out);
  }
}

// In float alone, for the time that it takes to compile; the chain rule above is in both.
TEST(AttendBackwardPolicies, UnderEveryMask) {
  Random random(2);
  const AttentionShape shape{.num_heads = 4,
                             .num_kv_heads = 2,
                             .seqlen_q = 90,
                             .seqlen_kv = 150,
                             .head_dim = 4,
                             .head_dim_v = 4};
  const Case<float> of(shape, random);
  test::for_each_mask({shape.seqlen_q, shape.seqlen_kv}, shape.num_heads, random,
                      [&](const char* name, const auto& mask, const auto& visible) {
                        SCOPED_TRACE(name);
                        test::expect_gradients(
                            test::backward_matrices(of.inputs, mask, 0.5, of.grad_out), of.inputs,
                            {.scale = 0.5}, visible, of.grad_out);
                      });
}

TEST(AttendBackwardPolicies, UnderEveryScoreThatHasASlope) {
  using T = float;
  Random random(3);
  const AttentionShape shape{.num_heads = 4, .num_kv_heads = 2, .seqlen_q = 50, .seqlen_kv = 80};
  const Case<T> of(shape, random);
  const auto slopes = alibi_slopes<T>(4);
  const auto bias = test::normal_heads<T>(4, shape.seqlen_q, shape.seqlen_kv, random);
  using Score = reference::Score<test::Exact<T>>;
  const auto check = [&](const auto& score, const Score& formula) {
    test::expect_gradients(test::backward_matrices(of.inputs, CausalMask{}, score, of.grad_out),
                           of.inputs, formula, test::causal_on(shape), of.grad_out);
  };
  check(Scale{0.25}, {.scale = 0.25});
  check(-0.5, {.scale = -0.5});
  check(chain(0.25, Softcap{2}), {.scale = 0.25, .softcap = 2});
  check(chain(0.5, 0.5, Softcap{1}), {.scale = 0.25, .softcap = 1});
  check(chain(0.25, Alibi<T>{slopes}),
        {.scale = 0.25, .alibi_slopes = {slopes.begin(), slopes.end()}});
  check(chain(0.25, Softcap{3}, Bias<T>{test::view(bias)}),
        {.scale = 0.25, .softcap = 3, .bias = test::converted<test::Exact<T>>(bias)});
  check(Bias<T>{test::view(bias)}, {.scale = 1, .bias = test::converted<test::Exact<T>>(bias)});
}

/// A user's own policy: score / sqrt(1 + score^2).
struct Squashed {
  template <class T>
  simd::Packet<T> apply(const simd::Packet<T>& score, const ScoreSite&) const {
    return simd::div(score, root(score));
  }
  template <class T>
  simd::Packet<T> slope(const simd::Packet<T>& score, const ScoreSite&) const {
    const auto r = root(score);
    return simd::div(simd::broadcast(T{1}), simd::mul(r, simd::mul(r, r)));
  }
  void check(std::string_view, Index, const MaskExtent&) const {}

 private:
  template <class P>
  static P root(const P& score) {
    return Eigen::internal::psqrt(simd::mul_add(score, score, Eigen::internal::pset1<P>(1)));
  }
};

/// Along a random direction, the loss sum(out * grad_out) must rise as the gradients say. Central
/// differences err by a term in the square of their step, which is a third of how those of one and
/// of two steps differ, and by the rounding of the loss over the step.
template <class Mask, class Score>
void check_differences(const AttentionShape& shape, const Mask& mask, const Score& score,
                       const std::vector<double>& sinks) {
  Random random(4);
  Case<double> of(shape, random);
  of.inputs.sinks = sinks;
  Case<double> direction(shape, random);
  direction.inputs.sinks = random.normals<double>(std::ssize(sinks));
  double magnitude = 0;  // of the terms of the loss
  const auto loss = [&](double step) {
    AttentionInputs<double> moved = of.inputs;
    const auto move = [&](std::vector<double>& to, const std::vector<double>& by) {
      for (std::size_t i = 0; i < to.size(); ++i) to[i] += step * by[i];
    };
    move(moved.query.data, direction.inputs.query.data);
    move(moved.key.data, direction.inputs.key.data);
    move(moved.value.data, direction.inputs.value.data);
    move(moved.sinks, direction.inputs.sinks);
    const auto out = test::attend_matrices(moved, mask, score).out.data;
    double sum = magnitude = 0;
    for (std::size_t i = 0; i < out.size(); ++i) {
      sum += out[i] * of.grad_out.data[i];
      magnitude += std::abs(out[i] * of.grad_out.data[i]);
    }
    return sum;
  };
  const auto difference = [&](double step) { return (loss(step) - loss(-step)) / (2 * step); };
  constexpr double step = 1e-4;
  const double once = difference(step), twice = difference(2 * step);
  const double rounding = 100 * test::unit_roundoff<double> * magnitude / step;

  const auto gradients = test::backward_matrices(of.inputs, mask, score, of.grad_out);
  double rise = 0;
  const auto add = [&](const std::vector<double>& gradient, const std::vector<double>& by) {
    for (std::size_t i = 0; i < by.size(); ++i) rise += gradient[i] * by[i];
  };
  add(gradients.query.data, direction.inputs.query.data);
  add(gradients.key.data, direction.inputs.key.data);
  add(gradients.value.data, direction.inputs.value.data);
  add(gradients.sinks, direction.inputs.sinks);
  EXPECT_NEAR(rise, once, std::abs(twice - once) + rounding);
  EXPECT_LT(std::abs(twice - once) + rounding, 1e-5 * std::abs(rise));  // it does tell something
}

TEST(AttendBackwardDifferences, AreTheGradients) {
  const AttentionShape shape{.num_heads = 4,
                             .num_kv_heads = 2,
                             .seqlen_q = 30,
                             .seqlen_kv = 70,
                             .head_dim = 8,
                             .head_dim_v = 5};
  check_differences(shape, CausalMask{}, 0.3, {});
  check_differences(shape, NoMask{}, 0.3, {-1, 0, 1, 2});
  check_differences(shape, SlidingWindowMask{.window_left = 20}, chain(0.3, Softcap{2}),
                    {0.5, 1, -2, 0});
  check_differences(shape, CausalMask{}, Squashed{}, {});
  check_differences(shape, CausalMask{}, chain(Softcap{3}, 0.7, Squashed{}), {});
}

// Rows that see no key, and keys that no row sees, have a gradient of zero, never NaN.
TYPED_TEST(AttendBackward, WhereNothingIsSeenIsZero) {
  using T = TypeParam;
  Random random(5);
  const AttentionShape shape{.num_heads = 2, .seqlen_q = 100, .seqlen_kv = 70, .head_dim = 3};
  Case<T> of(shape, random);
  of.inputs.sinks = {T(1), T(-1)};
  const auto result = test::backward_matrices(of.inputs, CausalMask{}, 0.5, of.grad_out);
  for (Index head = 0; head < 2; ++head)
    for (Index q_row = 0; q_row < 30; ++q_row)
      for (Index c = 0; c < 3; ++c) EXPECT_EQ(result.query(head, q_row, c), 0);
  const auto one = CustomMask([](Index position, Index k) { return position == 10 && k == 65; });
  const auto few = test::backward_matrices(of.inputs, one, 0.5, of.grad_out);
  for (Index k = 0; k < 70; ++k)
    for (Index c = 0; c < shape.head_dim_v; ++c) EXPECT_EQ(few.value(0, k, c) != 0, k == 65) << k;
  // A score of -inf is no weight, even if no key has another: the row's lse is -inf, too.
  Heads<T> bias(1, 100, 70);
  for (Index k = 0; k < 70; ++k) bias(0, 50, k) = -std::numeric_limits<T>::infinity();
  const auto biased = test::backward_matrices(of.inputs, CausalMask{},
                                              chain(0.5, Bias<T>{test::view(bias)}), of.grad_out);
  for (Index c = 0; c < 3; ++c) {
    EXPECT_EQ(biased.query(0, 50, c), 0);
    EXPECT_EQ(biased.query(1, 49, c), result.query(1, 49, c));
    EXPECT_TRUE(std::isfinite(biased.key(0, 3, c)));
  }
  // Without keys or without queries there is nothing to sum.
  for (const auto& [seqlen_q, seqlen_kv] : {std::pair<Index, Index>{5, 0}, {0, 5}, {0, 0}}) {
    Case<T> none({.num_heads = 2, .seqlen_q = seqlen_q, .seqlen_kv = seqlen_kv}, random);
    none.inputs.sinks = {T(1), T(2)};
    const auto nothing = test::backward_matrices(none.inputs, NoMask{}, 0.5, none.grad_out);
    for (const auto* numbers :
         {&nothing.query.data, &nothing.key.data, &nothing.value.data, &nothing.sinks})
      for (const T number : *numbers) EXPECT_EQ(number, 0);
  }
}

/// Which elements are not those of `clean`, NaN included.
template <class T>
std::vector<bool> changed(const Heads<T>& clean, const Heads<T>& now) {
  std::vector<bool> rows;
  for (Index head = 0; head < now.heads; ++head)
    for (Index row = 0; row < now.rows; ++row) {
      bool any = false;
      for (Index c = 0; c < now.cols; ++c) any |= now(head, row, c) != clean(head, row, c);
      rows.push_back(any);
    }
  return rows;
}

// A NaN reaches the rows that see it, the keys that these see, and no others, which keep their
// bits.
TEST(AttendBackwardNan, StaysAmongThoseWhoSeeIt) {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  const AttentionShape shape{
      .num_heads = 2, .seqlen_q = 90, .seqlen_kv = 90, .head_dim = 5, .head_dim_v = 6};
  Random random(6);
  const Case<float> clean(shape, random);
  const SlidingWindowMask mask{.window_left = 20};
  const auto sees = [](Index q_row, Index k) { return q_row - 20 <= k && k <= q_row; };
  const auto before = test::backward_matrices(clean.inputs, mask, 0.5, clean.grad_out);
  for (const Index place : {0, 30, 63, 64, 89}) {
    const auto check = [&](const Case<float>& poisoned, const auto& is_row_hit) {
      SCOPED_TRACE(place);
      const auto now = test::backward_matrices(poisoned.inputs, mask, 0.5, poisoned.grad_out);
      const auto query = changed(before.query, now.query), key = changed(before.key, now.key),
                 value = changed(before.value, now.value);
      for (Index row = 0; row < 90; ++row) {
        const auto at = static_cast<std::size_t>(row);
        EXPECT_EQ(query[at], is_row_hit(row)) << row;
        EXPECT_FALSE(query[90 + at] && !is_row_hit(row)) << "the other head's row " << row;
        bool is_key_hit = false;
        for (Index r = 0; r < 90; ++r) is_key_hit |= is_row_hit(r) && sees(r, row);
        EXPECT_EQ(key[at], is_key_hit) << row;
        EXPECT_FALSE(value[at] && !is_key_hit) << row;
      }
    };
    const auto is_place = [&](Index row) { return row == place; };
    const auto sees_place = [&](Index row) { return sees(row, place); };
    Case<float> poisoned = clean;
    poisoned.inputs.query(0, place, 2) = nan;
    check(poisoned, is_place);
    poisoned = clean;
    poisoned.grad_out(0, place, 3) = nan;
    check(poisoned, is_place);
    poisoned = clean;
    poisoned.inputs.key(0, place, 4) = nan;
    check(poisoned, sees_place);
    poisoned = clean;
    poisoned.inputs.value(0, place, 5) = std::numeric_limits<float>::infinity();
    check(poisoned, sees_place);
  }
}

}  // namespace
}  // namespace heed
