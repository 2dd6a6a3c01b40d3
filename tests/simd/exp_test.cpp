// SPDX-License-Identifier: MIT
/// \file
/// The exponential of the softmax against the standard library's in a wider type.

#include "heed/simd/exp.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace heed {
namespace {

/// exp of one vector. Others beside it must not matter.
template <class T>
simd::Packet<T> exp_of_vector(simd::Packet<T> x) {
  simd::Packet<T> in_step[2] = {simd::broadcast(T{-1}), x};
  simd::exp<T>(in_step);
  return in_step[1];
}
template <class T>
T exp_of(T x) {
  T lane[simd::lanes<T>];
  simd::store(lane, exp_of_vector<T>(simd::broadcast(x)));
  return lane[simd::lanes<T> - 1];
}

template <class T>
class Exp : public testing::Test {
 protected:
  static constexpr T infinity = std::numeric_limits<T>::infinity();
  static constexpr T smallest = std::numeric_limits<T>::min();
  static constexpr T largest = 88;  // of the arguments

  /// Relative error as stated; double is allowed two units in the last place.
  static double bound(T x) {
    return std::is_same_v<T, float> ? 1e-7 + 7e-8 * std::abs(static_cast<double>(x))
                                    : 2 * static_cast<double>(std::numeric_limits<T>::epsilon());
  }

  void check(T x) {
    const long double exact = std::exp(static_cast<long double>(x));
    const T found = exp_of(x);
    const auto error = static_cast<double>(std::abs(found - exact) / exact);
    if (!(error <= bound(x)))  // NaN too
      ADD_FAILURE() << "exp(" << x << ") = " << found << ", relative error " << error;
    if (error > worst_) worst_ = error;
  }
  double worst_ = 0;
};
using Elements = testing::Types<float, double>;
TYPED_TEST_SUITE(Exp, Elements);

// Evenly spread within every power of two, both ends included.
TYPED_TEST(Exp, EveryExponent) {
  constexpr int steps = 2000;
  const auto limit = static_cast<TypeParam>(std::log(static_cast<long double>(this->smallest)));
  for (int exponent = std::numeric_limits<TypeParam>::min_exponent - 1;
       std::ldexp(1.0, exponent) < -limit; ++exponent)
    for (int step = 0; step <= steps; ++step) {
      const TypeParam size = std::ldexp(1 + static_cast<TypeParam>(step) / steps, exponent);
      if (-size > limit) this->check(-size);
      if (size <= this->largest) this->check(size);
    }
  // The test measures something: no exponential in so few instructions is exact throughout.
  EXPECT_GT(this->worst_, static_cast<double>(std::numeric_limits<TypeParam>::epsilon()) / 4);
}

// Where the reduction x = n ln2 + r goes over from one n to the next, the remainder is largest.
TYPED_TEST(Exp, AroundEveryStepOfTheReduction) {
  const long double ln2 = std::log(2.0L);
  for (int n = 0; n < -std::numeric_limits<TypeParam>::min_exponent; ++n)
    for (const long double centre : {-n * ln2, -(n + 0.5L) * ln2, n * ln2, (n + 0.5L) * ln2}) {
      TypeParam x = static_cast<TypeParam>(centre);
      for (int step = 0; step < 20; ++step) x = std::nextafter(x, -this->infinity);
      for (int step = 0; step < 40 && x <= this->largest;
           ++step, x = std::nextafter(x, this->infinity))
        this->check(x);
    }
}

TYPED_TEST(Exp, OfZeroIsOne) {
  EXPECT_EQ(exp_of(TypeParam(0)), TypeParam(1));
  EXPECT_EQ(exp_of(-TypeParam(0)), TypeParam(1));
  EXPECT_EQ(exp_of(-this->smallest), TypeParam(1));
  EXPECT_EQ(exp_of(-std::numeric_limits<TypeParam>::denorm_min()), TypeParam(1));
}

TYPED_TEST(Exp, VanishesBelowTheSmallestNormalNumber) {
  const auto limit = static_cast<TypeParam>(std::log(static_cast<long double>(this->smallest)));
  for (const TypeParam x : {limit - 1, TypeParam(-1e3), TypeParam(-1e4), TypeParam(-1e30),
                            std::numeric_limits<TypeParam>::lowest(), -this->infinity})
    EXPECT_EQ(exp_of(x), TypeParam(0)) << x;
  EXPECT_GE(exp_of(limit / 2), this->smallest);
  EXPECT_GT(exp_of(limit + TypeParam(0.01)), TypeParam(0));
}

TYPED_TEST(Exp, KeepsNan) {
  EXPECT_TRUE(std::isnan(exp_of(std::numeric_limits<TypeParam>::quiet_NaN())));
  EXPECT_TRUE(std::isnan(exp_of(-std::numeric_limits<TypeParam>::quiet_NaN())));
}

// Lanes do not look at each other.
TYPED_TEST(Exp, EveryLaneByItself) {
  constexpr Index n = simd::lanes<TypeParam>;
  TypeParam x[n], found[n];
  for (Index i = 0; i < n; ++i) x[i] = -static_cast<TypeParam>(i) * TypeParam(1.7);
  for (Index special = 0; special < n; ++special)
    for (const TypeParam value : {std::numeric_limits<TypeParam>::quiet_NaN(), -this->infinity}) {
      TypeParam input[n];
      std::copy(x, x + n, input);
      input[special] = value;
      simd::store(found, exp_of_vector<TypeParam>(simd::load(input)));
      for (Index i = 0; i < n; ++i)
        if (i != special) {
          EXPECT_EQ(found[i], exp_of(x[i])) << i;
        }
    }
}

}  // namespace
}  // namespace heed
