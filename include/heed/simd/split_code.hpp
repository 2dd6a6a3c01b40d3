// SPDX-License-Identifier: MIT
/// \file
/// Factors in fixed point, for pages of codes. Layer 1, detail.
///
/// A factor is unit times a whole number, of 16 or 24 bits: two or three codes of 8, whose products
/// are summed apart, as whole numbers, of which nothing is lost. An operation takes four codes in
/// each lane where one on floats takes one: with two codes a factor this is twice the rate of
/// float, with three 4/3 of it, and a page's codes need no widening.
#pragma once

#include <array>
#include <bit>
#include <cassert>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <limits>

#include "heed/base/element.hpp"
#include "heed/simd/packet.hpp"

namespace heed::simd {

/// Storage of one factor. Factors lie in blocks: the upper codes of `block`, then the lower ones.
/// \tparam Code  int8 for queries; std::uint8_t for probabilities, which have no sign
template <int Codes, class Code>
struct SplitCode {
  static constexpr Index block = 64;
  static constexpr bool has_sign = std::same_as<Code, int8>;
  Code codes[Codes];

  /// Where the uppermost code of factor k of a row is; the next ones are `block` behind it each.
  static Code* upper(SplitCode* row, Index k) {
    return reinterpret_cast<Code*>(row) + k + (Codes - 1) * (k & ~(block - 1));
  }
  static const Code* upper(const SplitCode* row, Index k) {
    return upper(const_cast<SplitCode*>(row), k);
  }
};

template <int Codes>
using QueryCode = SplitCode<Codes, int8>;
template <int Codes>
using ProbCode = SplitCode<Codes, std::uint8_t>;

template <class Factor>
inline constexpr bool is_split_code = false;
template <int Codes, class Code>
inline constexpr bool is_split_code<SplitCode<Codes, Code>> = true;

/// Codes of a factor that is as exact as float, beside the largest of its row; and of one of Native
/// elements.
inline constexpr int exact_codes = 3, native_codes = 2;

/// What a row of factors needs beside.
struct CodeRow {
  float unit;            ///< what 1 stands for; NaN if one of the row's numbers is not finite
  std::int32_t sums[4];  ///< of its uppermost codes, of the next ones, ... if they have a sign
};

/// Keeps the numbers [begin, end) as factors in their places of a row, and zeros in all others up
/// to `width`, a multiple of `block`; begin is one of the vector width. None differs from its
/// factor by more than element.hpp says.
template <int Codes, class Code>
CodeRow encode(const float* numbers, Index begin, Index end, SplitCode<Codes, Code>* row,
               Index width);

#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__)

/// What factors for pages of codes are kept as.
template <int Codes, class Code>
using CodeFactor = SplitCode<Codes, Code>;
/// Whether these take pages of int4 as they lie.
inline constexpr bool takes_nibbles = true;

/// The sums of the lanes of four.
inline __m128i sums_of_lanes(__m512i a, __m512i b, __m512i c, __m512i d) {
  const __m512i pair01 = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b)),
                pair23 = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
  const __m512i four = _mm512_add_epi32(_mm512_unpacklo_epi64(pair01, pair23),
                                        _mm512_unpackhi_epi64(pair01, pair23));
  const __m256i two =
      _mm256_add_epi32(_mm512_castsi512_si256(four), _mm512_extracti64x4_epi64(four, 1));
  return _mm_add_epi32(_mm256_castsi256_si128(two), _mm256_extracti128_si256(two, 1));
}

/// Of a number of factors their codes, the uppermost first; or sums of products of them.
template <int Codes>
struct EachCode {
  __m512i code[Codes];
};

/// By hand: with the intrinsic, g++ keeps the sums of a large tile in memory.
/// \param unsigned_codes, signed_codes  of which products are taken
inline void add_products(const __m512i& unsigned_codes, const __m512i& signed_codes, __m512i& sum) {
  asm("vpdpbusd {%2, %1, %0|%0, %1, %2}" : "+v"(sum) : "v"(unsigned_codes), "v"(signed_codes));
}

/// The codes of 64 whole numbers.
template <int Codes, class Code>
EachCode<Codes> taken_apart(const __m512i (&numbers)[4]) {
  // A code is a byte. Of one with a sign it is if 128 is added to each: then none borrows from the
  // one above it.
  constexpr bool has_sign = SplitCode<Codes, Code>::has_sign;
  const __m512i ahead = _mm512_set1_epi32(!has_sign ? 0 : Codes == 2 ? 0x8080 : 0x808080);
  const __m512i flip = _mm512_set1_epi8(has_sign ? -128 : 0);
  // Of 32 numbers: bytes 1, then bytes 0; or bytes 2.
  alignas(64) static constexpr auto places = [] {
    std::array<std::array<std::uint8_t, 64>, 2> of{};
    for (std::size_t i = 0; i < 32; ++i) {
      const auto number = static_cast<std::uint8_t>(4 * i);
      of[0][i] = number | 1, of[0][32 + i] = number;
      of[1][i] = number | 2;
    }
    return of;
  }();
  const auto bytes = [&](int from, const auto& which) {
    return _mm512_permutex2var_epi8(_mm512_add_epi32(numbers[from], ahead),
                                    _mm512_load_si512(which.data()),
                                    _mm512_add_epi32(numbers[from + 1], ahead));
  };
  const __m512i first = bytes(0, places[0]), last = bytes(2, places[0]);
  EachCode<Codes> codes;
  codes.code[Codes - 2] = _mm512_xor_si512(_mm512_shuffle_i64x2(first, last, 0x44), flip);
  codes.code[Codes - 1] = _mm512_xor_si512(_mm512_shuffle_i64x2(first, last, 0xEE), flip);
  if constexpr (Codes == 3)
    codes.code[0] = _mm512_xor_si512(
        _mm512_shuffle_i64x2(bytes(0, places[1]), bytes(2, places[1]), 0x44), flip);
  return codes;
}

template <int Codes, class Code>
CodeRow encode(const float* numbers, Index begin, Index end, SplitCode<Codes, Code>* row,
               Index width) {
  using Factor = SplitCode<Codes, Code>;
  constexpr Index n = lanes<float>;
  assert(begin % n == 0 && width % Factor::block == 0);
  // The largest codes there are; of 24 bits a little less, as the largest may be rounded up.
  constexpr float most_of[] = {0x7F7F, 0x7F7F00, 0xFFFF, 0xFFFF00};
  constexpr float most = most_of[(Factor::has_sign ? 0 : 2) + Codes - 2];
  const auto some = [&](Index i) {
    if (i < begin || i >= end) return _mm512_setzero_ps();
    const Index rest = end - i;
    return rest >= n ? load(numbers + i) : load_some(numbers + i, rest);
  };
  // As whole numbers: NaN and inf are more than what is finite.
  __m512i magnitudes = _mm512_setzero_si512();
  for (Index i = begin; i < end; i += n)
    magnitudes = _mm512_max_epi32(magnitudes, _mm512_castps_si512(_mm512_abs_ps(some(i))));
  const auto largest = std::bit_cast<float>(_mm512_reduce_max_epi32(magnitudes));
  const bool is_finite = largest <= std::numeric_limits<float>::max();
  const float inverse = most / largest;
  if (!is_finite || inverse > std::numeric_limits<float>::max()) [[unlikely]] {
    std::memset(row, 0, static_cast<std::size_t>(width) * sizeof(Factor));
    return {is_finite ? 0.0F : std::numeric_limits<float>::quiet_NaN(), {}};
  }
  __m512i sums[4] = {};
  for (Index block = 0; block < width; block += Factor::block) {
    __m512i whole[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v)
      whole[v] = _mm512_cvtps_epi32(mul(some(block + v * n), broadcast(inverse)));
    const EachCode<Codes> codes = taken_apart<Codes, Code>(whole);
#pragma GCC unroll 3
    for (int i = 0; i < Codes; ++i) {
      _mm512_storeu_si512(Factor::upper(row, block) + i * Factor::block, codes.code[i]);
      if constexpr (Factor::has_sign) add_products(_mm512_set1_epi8(1), codes.code[i], sums[i]);
    }
  }
  CodeRow result{largest / most, {}};
  if constexpr (Factor::has_sign)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(result.sums),
                     sums_of_lanes(sums[0], sums[1], sums[2], sums[3]));
  return result;
}

#else

template <int, class>
using CodeFactor = float;
inline constexpr bool takes_nibbles = false;

#endif

}  // namespace heed::simd
