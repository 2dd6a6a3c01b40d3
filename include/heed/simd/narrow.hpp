// SPDX-License-Identifier: MIT
/// \file
/// Numbers to narrow elements and to codes: the way back of widen.hpp. Layer 1, detail.
///
/// A number at the end of a row goes through the same instructions as those before it, so an
/// element does not depend on its place.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "heed/base/element.hpp"
#include "heed/simd/nibbles.hpp"
#include "heed/simd/packet.hpp"

#if defined(__SSE4_1__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace heed::simd {
namespace detail {

/// As many integers as a Packet<float> has lanes: a type of g++ and clang for every target.
template <class Integer>
using Integers [[gnu::vector_size(static_cast<int>(lanes<float>) * sizeof(Integer))]] = Integer;

/// Stores the lower bits of each lane, as many as an Integer has: 8 or 16. By hand, since g++ 12
/// takes a __builtin_convertvector apart lane by lane.
template <class Integer, class Element, class Wide>
void store_lower(Element* to, const Wide& wide) {
  static_assert(sizeof(Element) == sizeof(Integer) && sizeof(Integer) <= 2);
#if defined(__AVX512F__)
  const auto bits = std::bit_cast<__m512i>(wide);
  if constexpr (sizeof(Integer) == 1)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(bits));
  else
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(bits));
#elif defined(__SSE4_1__)
  const __m128i places =
      sizeof(Integer) == 1 ? _mm_set1_epi32(0x0C080400) : _mm_set1_epi64x(0x0D0C090805040100);
  for (Index i = 0; i < lanes<float>; i += 4) {
    __m128i four;
    std::memcpy(&four, reinterpret_cast<const std::int32_t*>(&wide) + i, sizeof(four));
    four = _mm_shuffle_epi8(four, places);
    std::memcpy(static_cast<void*>(to + i), &four, 4 * sizeof(Integer));
  }
#else
  Integer lane[lanes<float>];
  for (Index i = 0; i < lanes<float>; ++i) lane[i] = static_cast<Integer>(wide[i]);
  std::memcpy(static_cast<void*>(to), lane, sizeof(lane));
#endif
}

/// Stores a vector of numbers, each as the element nearest to it.
template <class T, class Element>
void store_as(Element* to, const Packet<T>& packet) {
  if constexpr (std::is_same_v<T, Element>) {
    store(to, packet);
  } else {
    T lane[lanes<T>];
    store(lane, packet);
    for (Index i = 0; i < lanes<T>; ++i) to[i] = static_cast<Element>(lane[i]);
  }
}
template <>
inline void store_as<float>(bf16* to, const Packet<float>& packet) {
  const auto bits = std::bit_cast<Integers<std::uint32_t>>(packet);
  const auto upper = bits >> 16;
  const auto rounded = (bits + 0x7FFF + (upper & 1)) >> 16;
  const auto quiet_nan = (upper & 0x8000) | 0x7FC0;
  store_lower<std::uint16_t>(to, (bits & 0x7FFFFFFF) > 0x7F800000 ? quiet_nan : rounded);
}
#if defined(__AVX512F__)
template <>
inline void store_as<float>(f16* to, const Packet<float>& packet) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                      _mm512_cvtps_ph(packet, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
#elif defined(__F16C__)
template <>
inline void store_as<float>(f16* to, const Packet<float>& packet) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                   _mm256_cvtps_ph(packet, _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__aarch64__)
template <>
inline void store_as<float>(f16* to, const Packet<float>& packet) {
  vst1_u16(reinterpret_cast<std::uint16_t*>(to), vreinterpret_u16_f16(vcvt_f16_f32(packet)));
}
#endif

/// Stores the nearest whole numbers, of which none is more than 127 either way.
template <class Element>
void store_whole(Element* to, const Packet<float>& packet) {
  // Added to 1.5 * 2^23, a number is rounded to a whole one, whose bits are the lowest of the sum.
  store_lower<std::int8_t>(
      to, std::bit_cast<Integers<std::int32_t>>(add(packet, broadcast(0x1.8p23F))));
}

/// Calls store(packet, to + i) for vectors of numbers from the i-th on; what a last one has too
/// many is not kept.
template <class T, class Element, class Store>
[[gnu::always_inline]] inline void store_row(const T* from, Index count, Element* to,
                                             const Store& store) {
  constexpr Index n = lanes<T>;
  Index i = 0;
  for (; i + n <= count; i += n) store(load(from + i), to + i);
  if (i == count) return;
  T numbers[n] = {};
  Element elements[n];
  std::copy_n(from + i, count - i, numbers);
  store(load(numbers), elements);
  std::copy_n(elements, count - i, to + i);
}

}  // namespace detail

/// to[i] = the element nearest to from[i], ties to even, as a cast gives it.
template <class T, class Element>
void narrow(const T* from, Index count, Element* to) {
  detail::store_row(from, count, to, [](const Packet<T>& packet, Element* elements) {
    detail::store_as<T>(elements, packet);
  });
}

/// The largest magnitude of a row, 0 if it is empty; NaN if it holds one.
inline float largest_magnitude(const float* from, Index count) {
  // Magnitudes have the same order as whole numbers, in which a NaN is the largest.
  using Whole = detail::Integers<std::int32_t>;
  constexpr Index n = lanes<float>;
  Whole largest{};
  const auto take = [&largest](const float* numbers) {
    const Whole magnitudes = std::bit_cast<Whole>(load(numbers)) & 0x7FFFFFFF;
    largest = magnitudes > largest ? magnitudes : largest;
  };
  Index i = 0;
  for (; i + n <= count; i += n) take(from + i);
  if (i < count) {
    float rest[n] = {};
    std::copy_n(from + i, count - i, rest);
    take(rest);
  }
  std::int32_t most = largest[0];
  for (Index lane = 1; lane < n; ++lane) most = std::max(most, largest[lane]);
  return std::bit_cast<float>(most);
}

/// Keeps in to[i] the code nearest to (from[i] - offset) / scale, among those there are; the one
/// nearest to 0 if the scale is 0, and any for a NaN. Of int4, 0 is between two codes, of which
/// neighbours in a row and in a column take different ones, so that zeros are right on average.
/// \param row  of a page, whose code of the element is written
template <class Element>
void encode_row(const float* from, Index count, float scale, float offset, Index row, Element* to) {
  constexpr auto largest = static_cast<float>(largest_code<Element>);
  const auto middle = broadcast(offset), low = broadcast(-largest), high = broadcast(largest);
  // Of a channel of equal numbers all are its offset.
  const auto step = broadcast(scale == 0 ? 1.0F : scale);
  const auto nearest = [&](const Packet<float>& packet) {
    return min(max(low, div(sub(packet, middle), step)), high);
  };
  if constexpr (std::is_same_v<Element, int4>) {
    constexpr Index block = 64, n = lanes<float>;
    std::uint8_t nibbles[block];
    // The middle of all nibbles, and so little more or less that it tells only between two.
    float middles[n];
    for (Index i = 0; i < n; ++i) middles[i] = 7.5F + ((row + i) % 2 == 0 ? 0x1p-19F : -0x1p-19F);
    const auto to_nibble = load(middles);
    for (Index begin = 0; begin < count; begin += block) {
      const Index some = std::min(block, count - begin);
      detail::store_row(
          from + begin, some, nibbles, [&](const Packet<float>& packet, std::uint8_t* part) {
            detail::store_whole(part, mul_add(nearest(packet), broadcast(0.5F), to_nibble));
          });
      set_nibbles(nibbles, some, row, to + begin);
    }
  } else {
    detail::store_row(from, count, to, [&](const Packet<float>& packet, Element* codes) {
      detail::store_whole(codes, nearest(packet));
    });
  }
}

}  // namespace heed::simd
