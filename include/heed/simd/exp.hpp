// SPDX-License-Identifier: MIT
/// \file
/// The vectorised exponential of the softmax. Layer 1, detail.
#pragma once

#include <type_traits>

#include "heed/simd/packet.hpp"

namespace heed::simd {

/// exp(x) for x <= 0, as a softmax needs it. Exactly 0 below the smallest normal number's
/// logarithm, -inf included; NaN stays NaN; exp(0) is exactly 1.
///
/// float: relative error below 1e-7 (0.84 units in the last place); tests/simd/exp_test.cpp
/// measures it over every exponent. Range reduction x = n ln2 + r, then a polynomial of degree 6
/// whose own relative error on |r| <= ln2 / 2 is 3.7e-9 (minimax, with 1 + r held fixed). 2^n is
/// made in the exponent bits; the rounding to n comes from adding 1.5 * 2^23, whose unit in the
/// last place is 1. double: Eigen's pexp.
template <class T>
Packet<T> exp_nonpositive(const Packet<T>& x) {
  namespace ei = Eigen::internal;
  if constexpr (lanes<T> == 1) {
    return std::exp(x);
  } else if constexpr (std::is_same_v<T, float>) {
    using Integers = IntegerPacket<float>;
    const auto constant = [](float value) { return broadcast(value); };
    const auto rounder = constant(12582912.0F);
    const auto biased = mul_add(x, constant(1.44269504088896341F), rounder);
    const auto n = sub(biased, rounder);
    auto r = mul_add(n, constant(-0.693359375F), x);  // ln2's leading bits: n times it is exact
    r = mul_add(n, constant(2.12194440e-4F), r);
    auto p = constant(1.3814540580e-3F);
    p = mul_add(p, r, constant(8.3687454462e-3F));
    p = mul_add(p, r, constant(4.1668388993e-2F));
    p = mul_add(p, r, constant(1.6666521132e-1F));
    p = mul_add(p, r, constant(4.9999994040e-1F));
    p = mul_add(p, r, constant(1.0F));
    p = mul_add(p, r, constant(1.0F));
    const auto exponent = ei::plogical_shift_left<23>(ei::preinterpret<Integers>(biased));
    const auto two_to_n =
        ei::preinterpret<Packet<float>>(ei::padd(exponent, ei::pset1<Integers>(0x3F800000)));
    return zero_where_less(mul(p, two_to_n), x, constant(-87.3365447F));
  } else {
    // Eigen's pexp clamps its argument, which would turn -inf and NaN into numbers: x - x brings
    // the NaN back, and the limit makes the zero.
    const auto value = add(ei::pexp(x), sub(x, x));
    return zero_where_less(value, x, broadcast(T{-708.396418532264}));
  }
}

}  // namespace heed::simd
