// SPDX-License-Identifier: MIT
/// \file
/// The vectorised exponential of the softmax. Layer 1, detail.
#pragma once

#include <cmath>
#include <type_traits>

#include "heed/simd/packet.hpp"

namespace heed::simd {
namespace detail {

/// x log2(e) as n + rest, n a whole number and |rest| <= 1/2; and value 2^n, or 0 where 2^n is less
/// than the smallest normal number.
struct FloatExponent {
  static constexpr float log2_e = 1.44269504088896341F;
  static constexpr float least = -87.3365447F;  // the smallest normal number's logarithm
#if defined(__AVX512F__)
  static Packet<float> n(const Packet<float>& x) {
    return _mm512_roundscale_ps(mul(x, broadcast(log2_e)),
                                _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static Packet<float> rest(const Packet<float>& x, const Packet<float>& n) {
    return _mm512_fmsub_ps(x, broadcast(log2_e), n);
  }
  static Packet<float> times_two_to(const Packet<float>& n, const Packet<float>& value,
                                    const Packet<float>& x) {
    return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, broadcast(least), _CMP_NLT_UQ), value, n);
  }
#else
  // n comes as 1.5 * 2^23 + 127 + n, where the unit in the last place is 1: its last bits are the
  // exponent of 2^n.
  static constexpr float rounder = 12582912.0F + 127;
  static Packet<float> n(const Packet<float>& x) {
    return mul_add(x, broadcast(log2_e), broadcast(rounder));
  }
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  static Packet<float> rest(const Packet<float>& x, const Packet<float>& n) {
    return mul_add(x, broadcast(log2_e), sub(broadcast(rounder), n));
  }
#else
  // The product would be rounded, by more than the rest may be off. So n ln(2) is taken from x in
  // two parts, the first of so few digits that n times it is exact.
  static Packet<float> rest(const Packet<float>& x, const Packet<float>& n) {
    const auto minus_n = sub(broadcast(rounder), n);
    const auto most = add(x, mul(minus_n, broadcast(0.693359375F)));
    return mul(add(most, mul(minus_n, broadcast(-2.12194440e-4F))), broadcast(log2_e));
  }
#endif
  static Packet<float> times_two_to(const Packet<float>& n, const Packet<float>& value,
                                    const Packet<float>& x) {
    namespace ei = Eigen::internal;
    using Integers = IntegerPacket<float>;
    const auto two_to_n =
        ei::preinterpret<Packet<float>>(ei::plogical_shift_left<23>(ei::preinterpret<Integers>(n)));
    return zero_where_less(mul(value, two_to_n), x, broadcast(least));
  }
#endif
};

}  // namespace detail

/// x[i] = exp(x[i]) for x[i] <= 88, as a softmax needs it. Exactly 0 below the smallest normal
/// number's logarithm, -inf included; NaN stays NaN; exp(0) is exactly 1. Several vectors are taken
/// in step, so that one's operations fill the time that another's wait for each other.
///
/// float: relative error below 1e-7 + 7e-8 |x|: about one unit in the last place where a softmax
/// has its large probabilities, which are at most e^4, and more where they hardly count;
/// tests/simd/exp_test.cpp measures it over every exponent. With n = x log2(e) rounded to an
/// integer and r the rest of it, exp(x) = 2^n 2^r. 2^r is a polynomial of degree 6 whose own
/// relative error on |r| <= 1/2 is 2e-9 (minimax, with the 1 held fixed). 2^n is made in the
/// exponent bits. double: Eigen's pexp. Always inlined, or the vectors would pass through memory.
template <class T, int Count>
[[gnu::always_inline]] inline void exp(Packet<T> (&x)[Count]) {
  if constexpr (lanes<T> == 1) {
    for (auto& value : x) value = std::exp(value);
  } else if constexpr (std::is_same_v<T, float>) {
    using Exponent = detail::FloatExponent;
    Packet<float> n[Count], r[Count], p[Count];
#pragma GCC unroll 8
    for (int i = 0; i < Count; ++i) n[i] = Exponent::n(x[i]);
#pragma GCC unroll 8
    for (int i = 0; i < Count; ++i) r[i] = Exponent::rest(x[i], n[i]);
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
    for (int i = 0; i < Count; ++i) x[i] = Exponent::times_two_to(n[i], p[i], x[i]);
  } else {
    // Eigen's pexp clamps its argument, which would turn -inf and NaN into numbers: x - x brings
    // the NaN back, and the limit makes the zero.
    for (auto& value : x)
      value = zero_where_less(add(Eigen::internal::pexp(value), sub(value, value)), value,
                              broadcast(T{-708.396418532264}));
  }
}

}  // namespace heed::simd
