// SPDX-License-Identifier: MIT
/// \file
/// The vectorised exponential of the softmax. Layer 1, detail.
#pragma once

#include <type_traits>

#include "heed/simd/packet.hpp"

namespace heed::simd {

/// x[i] = exp(x[i]) for x[i] <= 0, as a softmax needs it. Exactly 0 below the smallest normal
/// number's logarithm, -inf included; NaN stays NaN; exp(0) is exactly 1. Several vectors are taken
/// in step, so that one's operations fill the time that another's wait for each other.
///
/// float: relative error below 1e-7 + 7e-8 |x|: about one unit in the last place, and more only
/// where the result is so small that it hardly counts beside the row's largest, which is 1;
/// tests/simd/exp_test.cpp measures it over every exponent. With n = x log2(e) rounded to an
/// integer and r the rest of it, exp(x) = 2^n 2^r. 2^r is a polynomial of degree 6 whose own
/// relative error on |r| <= 1/2 is 2e-9 (minimax, with the 1 held fixed). 2^n is made in the
/// exponent bits; the rounding to n comes from adding 1.5 * 2^23, whose unit in the last place
/// is 1. double: Eigen's pexp. Always inlined, or the vectors would pass through memory.
template <class T, int Count>
[[gnu::always_inline]] inline void exp_nonpositive(Packet<T> (&x)[Count]) {
  namespace ei = Eigen::internal;
  if constexpr (lanes<T> == 1) {
    for (auto& value : x) value = std::exp(value);
  } else if constexpr (std::is_same_v<T, float>) {
    using Integers = IntegerPacket<float>;
    const auto log2_e = broadcast(1.44269504088896341F), rounder = broadcast(12582912.0F);
    Packet<float> n[Count], r[Count], p[Count];
#pragma GCC unroll 8
    for (int i = 0; i < Count; ++i) n[i] = mul_add(x[i], log2_e, rounder);
#pragma GCC unroll 8
    for (int i = 0; i < Count; ++i) r[i] = mul_add(x[i], log2_e, sub(rounder, n[i]));
#pragma GCC unroll 8
    for (auto& value : p) value = broadcast(1.5353362939e-4F);
    // Horner's scheme, one coefficient a call: written as a loop over them, it is not unrolled.
    const auto next = [&p, &r](float coefficient) {
#pragma GCC unroll 8
      for (int i = 0; i < Count; ++i) p[i] = mul_add(p[i], r[i], broadcast(coefficient));
    };
    next(1.3398874427e-3F);
    next(9.6184373534e-3F);
    next(5.5503324711e-2F);
    next(2.4022647914e-1F);
    next(6.9314720286e-1F);
    next(1.0F);
#pragma GCC unroll 8
    for (int i = 0; i < Count; ++i) {
      const auto exponent = ei::plogical_shift_left<23>(ei::preinterpret<Integers>(n[i]));
      const auto two_to_n =
          ei::preinterpret<Packet<float>>(ei::padd(exponent, ei::pset1<Integers>(0x3F800000)));
      x[i] = zero_where_less(mul(p[i], two_to_n), x[i], broadcast(-87.3365447F));
    }
  } else {
    // Eigen's pexp clamps its argument, which would turn -inf and NaN into numbers: x - x brings
    // the NaN back, and the limit makes the zero.
    for (auto& value : x)
      value = zero_where_less(add(ei::pexp(value), sub(value, value)), value,
                              broadcast(T{-708.396418532264}));
  }
}

}  // namespace heed::simd
