// SPDX-License-Identifier: MIT
/// \file
/// Loads of narrow elements, widened in the register. Layer 1, extension.
#pragma once

#include <cstring>
#include <type_traits>

#include "heed/base/element.hpp"
#include "heed/simd/packet.hpp"

#if defined(__SSE4_1__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace heed::simd {
namespace detail {

/// One lane after the other: where the target has nothing better.
template <class T, class Element>
Packet<T> widen_lanes(const Element* from) {
  T lane[lanes<T>];
  for (Index i = 0; i < lanes<T>; ++i) lane[i] = static_cast<T>(from[i]);
  return load(lane);
}

// Of bf16, one shuffle brings 16 bits to the upper half of a lane each; to widen integers and shift
// them are two operations of the same ports.
#if defined(__AVX512F__)
#if defined(__AVX512BW__)
inline Packet<float> widen(const bf16* from) {
  alignas(64) static constexpr std::uint16_t places[32] = {0, 0,  0, 1,  0, 2,  0, 3,  0, 4, 0,
                                                           5, 0,  6, 0,  7, 0,  8, 0,  9, 0, 10,
                                                           0, 11, 0, 12, 0, 13, 0, 14, 0, 15};
  constexpr __mmask32 upper_halves = 0xAAAAAAAA;
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return _mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(upper_halves, _mm512_load_si512(places),
                                                            _mm512_castsi256_si512(bits)));
}
#else
inline Packet<float> widen(const bf16* from) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}
#endif
inline Packet<float> widen(const f16* from) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}
inline Packet<float> widen(const int8* from) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bits));
}
#elif defined(__AVX2__)
inline Packet<float> widen(const bf16* from) {
  const __m256i twice =
      _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  const __m256i places = _mm256_setr_epi8(  // of the lower four to the lower half; -1 is a 0
      -1, -1, 0, 1, -1, -1, 2, 3, -1, -1, 4, 5, -1, -1, 6, 7, -1, -1, 8, 9, -1, -1, 10, 11, -1, -1,
      12, 13, -1, -1, 14, 15);
  return _mm256_castsi256_ps(_mm256_shuffle_epi8(twice, places));
}
#if defined(__F16C__)
inline Packet<float> widen(const f16* from) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
#else
inline Packet<float> widen(const f16* from) { return widen_lanes<float>(from); }
#endif
inline Packet<float> widen(const int8* from) {
  const __m128i bits = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bits));
}
#elif defined(__SSE4_1__) && !defined(__AVX__)
inline Packet<float> widen(const bf16* from) {
  const __m128i bits = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
  return _mm_castsi128_ps(_mm_slli_epi32(_mm_cvtepu16_epi32(bits), 16));
}
inline Packet<float> widen(const f16* from) {
  const __m128i bits = _mm_cvtepu16_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
  const __m128i magnitude = _mm_and_si128(bits, _mm_set1_epi32(0x7FFF));
  // An exponent of f16 is 112 less than float's, that of inf and NaN twice as much. What is
  // subnormal are whole numbers of 2^-24; as subnormal floats on the way they might count as 0.
  const __m128i is_special = _mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x7BFF));
  const __m128i is_normal = _mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x03FF));
  const __m128i less = _mm_set1_epi32(112 << 23);
  const __m128i exponent = _mm_add_epi32(less, _mm_and_si128(is_special, less));
  const __m128 normal = _mm_castsi128_ps(_mm_add_epi32(_mm_slli_epi32(magnitude, 13), exponent));
  const __m128 subnormal = _mm_mul_ps(_mm_cvtepi32_ps(magnitude), _mm_set1_ps(0x1p-24F));
  const __m128i sign = _mm_slli_epi32(_mm_and_si128(bits, _mm_set1_epi32(0x8000)), 16);
  return _mm_or_ps(_mm_blendv_ps(subnormal, normal, _mm_castsi128_ps(is_normal)),
                   _mm_castsi128_ps(sign));
}
inline Packet<float> widen(const int8* from) {
  std::int32_t four;
  std::memcpy(&four, from, sizeof(four));
  return _mm_cvtepi32_ps(_mm_cvtepi8_epi32(_mm_cvtsi32_si128(four)));
}
#elif defined(__aarch64__)
inline Packet<float> widen(const bf16* from) {
  const uint16x4_t bits = vld1_u16(reinterpret_cast<const std::uint16_t*>(from));
  return vreinterpretq_f32_u32(vshll_n_u16(bits, 15) << 1);
}
inline Packet<float> widen(const f16* from) {
  const uint16x4_t bits = vld1_u16(reinterpret_cast<const std::uint16_t*>(from));
  return vcvt_f32_f16(vreinterpret_f16_u16(bits));
}
inline Packet<float> widen(const int8* from) {
  std::int32_t four;
  std::memcpy(&four, from, sizeof(four));
  const int16x8_t wide = vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four)));
  return vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
}
#else
template <class Element>
Packet<float> widen(const Element* from) {
  return widen_lanes<float>(from);
}
#endif

}  // namespace detail

/// A Packet<T> of the lanes<T> elements at `from`.
template <class T, class Element>
Packet<T> load_as(const Element* from) {
  if constexpr (std::is_same_v<T, Element>)
    return load(from);
  else if constexpr (std::is_same_v<T, float>)
    return detail::widen(from);
  else
    return detail::widen_lanes<T>(from);
}

/// The same for tiles that have no register left for a constant, such as the places of a shuffle:
/// one of their sums would be in memory.
template <class T, class Element>
Packet<T> load_as_without_constants(const Element* from) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float> && std::is_same_v<Element, bf16>) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
#endif
  return load_as<T>(from);
}

}  // namespace heed::simd
