// SPDX-License-Identifier: MIT
/// \file
/// The one seam to the vector unit: Eigen's packets under names of our own. Layer 1, extension.
///
/// The kernel speaks to the processor through this folder only; to change over to another vector
/// library is to rewrite it and nothing of the kernel. Score policies and pages of one's own see
/// `Packet` and `row_padding` of it, and may use the rest.
///
/// Loops over the registers of a tile carry `#pragma GCC unroll`, which clang knows too: at -O2,
/// g++ would otherwise keep the loop, and with it the registers in memory.
#pragma once

#include <cmath>
#include <cstdint>

#include <Eigen/Core>

#include "heed/base/index.hpp"

namespace heed::simd {

#ifndef EIGEN_VECTORIZE
#error "heed: needs Eigen's vectors: no EIGEN_DONT_VECTORIZE, no EIGEN_MAX_ALIGN_BYTES=0"
#endif
// Packets are internal to Eigen.
static_assert(EIGEN_VERSION_AT_LEAST(3, 4, 0), "heed: needs Eigen 3.4");

/// The widest vector of T that the target has.
template <class T>
using Packet = typename Eigen::internal::packet_traits<T>::type;

/// Elements in a Packet<T>.
template <class T>
inline constexpr Index lanes = Eigen::internal::unpacket_traits<Packet<T>>::size;

// g++ warns that a template argument's alignment attribute is dropped; Eigen's traits do not need
// it.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wignored-attributes"
#endif
/// Integers as wide as the lanes of a Packet<T>.
template <class T>
using IntegerPacket = typename Eigen::internal::unpacket_traits<Packet<T>>::integer_packet;

/// As many packets as one has lanes: a square to transpose.
template <class T>
using PacketSquare = Eigen::internal::PacketBlock<Packet<T>, static_cast<int>(lanes<T>)>;
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

/// Vector registers of the target.
inline constexpr int num_registers = EIGEN_ARCH_DEFAULT_NUMBER_OF_REGISTERS;

/// Rows of values and of latents are padded to a multiple of this many elements, so that every load
/// of a row is a whole vector. 16 floats are the widest vector there is and a cache line. It does
/// not depend on the target, so neither does the layout of a cache.
inline constexpr Index row_padding = 16;
constexpr Index padded(Index width) noexcept { return round_up(width, row_padding); }

template <class T>
Packet<T> load(const T* from) {
  return Eigen::internal::ploadu<Packet<T>>(from);
}
/// The first elements, fewer than there are lanes; 0 in the others.
template <class T>
Packet<T> load_some(const T* from, Index count) {
  T some[lanes<T>]{};
  for (Index i = 0; i < count; ++i) some[i] = from[i];
  return load(some);
}
#if defined(__AVX512F__)
template <>
inline Packet<float> load_some(const float* from, Index count) {
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1U << count) - 1), from);
}
#endif
/// The same value, which g++ must keep in a register: it otherwise folds one load into each FMA
/// that uses it, and the load ports become the limit. Clang does so by itself.
template <class P>
P keep_in_register(P packet) {
#if defined(__GNUC__) && !defined(__clang__)
  EIGEN_OPTIMIZATION_BARRIER(packet)
#endif
  return packet;
}
template <class T, class P>
void store(T* to, const P& packet) {
  Eigen::internal::pstoreu(to, packet);
}
/// Asks for the cache lines of so many elements, into the L2 cache: in the L1 cache, half a page
/// ahead, they would take the place of what is being read. Inlined always: g++ takes a function
/// that does nothing else for one without effects, and leaves out calls of it.
template <Index Count, class Element>
[[gnu::always_inline]] inline void prefetch(const Element* from) {
  constexpr Index line = 64 / static_cast<Index>(sizeof(Element));
  for (Index i = 0; i < Count; i += line) __builtin_prefetch(from + i, 0, 2);
}
template <class T>
Packet<T> broadcast(T value) {
  return Eigen::internal::pset1<Packet<T>>(value);
}
/// first, first + 1, ...
template <class T>
Packet<T> iota(T first) {
  return Eigen::internal::plset<Packet<T>>(first);
}

template <class P>
P add(const P& a, const P& b) {
  return Eigen::internal::padd(a, b);
}
template <class P>
P sub(const P& a, const P& b) {
  return Eigen::internal::psub(a, b);
}
template <class P>
P mul(const P& a, const P& b) {
  return Eigen::internal::pmul(a, b);
}
template <class P>
P div(const P& a, const P& b) {
  return Eigen::internal::pdiv(a, b);
}
/// a * b + c, fused where the target can.
template <class P>
P mul_add(const P& a, const P& b, const P& c) {
  return Eigen::internal::pmadd(a, b, c);
}
template <class P>
P min(const P& a, const P& b) {
  return Eigen::internal::pmin(a, b);
}
template <class P>
P max(const P& a, const P& b) {
  return Eigen::internal::pmax(a, b);
}
/// The sum of the lanes, in an order fixed by the target.
template <class P>
auto sum_lanes(const P& a) {
  return Eigen::internal::predux(a);
}
/// The halves of a vector added, and those of the sum, until four lanes are left.
template <class P>
auto fold_to_four(const P& a) {
  if constexpr (Eigen::internal::unpacket_traits<P>::size == 4)
    return a;
  else
    return fold_to_four(Eigen::internal::predux_half_dowto4(a));
}
/// to[i] = the sum of the lanes of a[i]: half the operations of four `sum_lanes`, in another order.
template <class T>
void sum_lanes_of_four(const Packet<T> (&a)[4], T* to) {
  namespace ei = Eigen::internal;
  if constexpr (lanes<T> >= 4) {
    ei::PacketBlock<decltype(fold_to_four(a[0])), 4> four;
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) four.packet[i] = fold_to_four(a[i]);
    ei::ptranspose(four);
    ei::pstoreu(to, add(add(four.packet[0], four.packet[2]), add(four.packet[1], four.packet[3])));
  } else {
    for (int i = 0; i < 4; ++i) to[i] = sum_lanes(a[i]);
  }
}
#if defined(__AVX512F__)
template <>
inline void sum_lanes_of_four<float>(const Packet<float> (&a)[4], float* to) {
  // Of each quarter: lanes 0 and 1 of x and 2 and 3 of y are where they have to be.
  const auto fold = [](const __m512& x, const __m512& y) {
    return add(_mm512_mask_blend_ps(0xCCCC, x, y), _mm512_shuffle_ps(x, y, 0x4E));
  };
  const __m512 ab = fold(a[0], a[1]), cd = fold(a[2], a[3]);
  const __m512 sums = add(_mm512_shuffle_ps(ab, cd, 0x88), _mm512_shuffle_ps(ab, cd, 0xDD));
  const __m256d upper = _mm512_extractf64x4_pd(_mm512_castps_pd(sums), 1);
  const __m256 half = add(_mm512_castps512_ps256(sums), _mm256_castpd_ps(upper));
  _mm_storeu_ps(to, add(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}
#endif
template <class P>
auto min_lanes(const P& a) {
  return Eigen::internal::predux_min(a);
}
template <class P>
auto max_lanes(const P& a) {
  return Eigen::internal::predux_max(a);
}
/// `value` where not a < limit, else 0. A NaN in `a` keeps `value`.
template <class P>
P zero_where_less(const P& value, const P& a, const P& limit) {
  return Eigen::internal::pandnot(value, Eigen::internal::pcmp_lt(a, limit));
}

/// tanh of every lane by the standard library: softcapping is rare, and an approximation's error
/// would be multiplied by the cap.
template <class T, class P>
P tanh(const P& a) {
  T lane[lanes<T>];
  store(lane, a);
  for (T& x : lane) x = std::tanh(x);
  return load(lane);
}

}  // namespace heed::simd
