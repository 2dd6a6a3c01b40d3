// SPDX-License-Identifier: MIT
/// \file
/// Factors in fixed point, for pages of codes, and the processor's own products of codes of 8 bits
/// (VNNI). Layer 1, detail.
///
/// A factor is unit * (256 * upper + lower): 16 bits as two codes of 8, whose products are summed
/// apart, as whole numbers, of which nothing is lost. An operation takes four codes in each lane
/// where one on floats takes one: with two codes a factor this is twice the rate of float, and a
/// page's codes need no widening.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>

#include "heed/base/element.hpp"
#include "heed/simd/factors.hpp"

namespace heed::simd {

/// Storage of one factor. Factors lie in blocks: the upper codes of `block`, then the lower ones.
struct SplitCode {
  static constexpr Index block = 64;
  int8 bytes[2];

  /// Where a row's upper code k is; the lower one is `block` behind it.
  static int8* upper(SplitCode* row, Index k) {
    return reinterpret_cast<int8*>(row) + k + (k & ~(block - 1));
  }
  static const int8* upper(const SplitCode* row, Index k) {
    return upper(const_cast<SplitCode*>(row), k);
  }
};

/// What a row of factors needs beside.
struct CodeRow {
  float unit;                 ///< what 1 stands for; NaN if one of the row's numbers is not finite
  std::int32_t upper, lower;  ///< the sums of its codes
};

#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__)

/// What factors for pages of codes are kept as, if the processor's own products are asked for.
using CodeFactor = SplitCode;
/// Whether these take pages of int4 as they lie.
inline constexpr bool takes_nibbles = true;

template <>
struct DepthStep<float, SplitCode> {
  static constexpr Index rows = 4;
  using Operand = __m512i;  // four codes of 8 bits in each lane, from the step's four rows
  struct Pair {
    __m512i upper, lower;
  };
  using Sum = Pair;
  /// Two rows by four vectors are 16 sums: more would be too many for the registers, or a strip
  /// narrower than a cache line.
  static constexpr int most_rows = 2;
  static constexpr int vectors(int tile_rows) { return tile_rows == 1 ? 8 : 4; }

  template <class Element, int Vectors>
  static void columns(const Element* const (&row)[rows], Operand (&to)[Vectors]) {
    if constexpr (Vectors % 4 == 0) {
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; v += 4) line(row, v, to);
    } else {
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) to[v] = column(row, v);
    }
  }
  static Pair factor(const SplitCode* row, Index k) {
    const int8* const upper = SplitCode::upper(row, k);
    return {broadcast_four(upper), broadcast_four(upper + SplitCode::block)};
  }
  static Pair mul_add(const Pair& factor, const Operand& columns, Pair sum) {
    add_products(columns, factor.upper, sum.upper);
    add_products(columns, factor.lower, sum.lower);
    return sum;
  }
  /// The sums in units, in the order of the columns. Up to 1024 products are exact in float.
  template <int Vectors>
  static void values(const Pair (&sum)[Vectors], Packet<float> (&to)[Vectors]) {
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v)
      to[v] = simd::mul_add(_mm512_cvtepi32_ps(sum[v].upper), broadcast(256.0F),
                            _mm512_cvtepi32_ps(sum[v].lower));
    if constexpr (Vectors % 4 == 0)
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; v += 4) in_order(to[v], to[v + 1], to[v + 2], to[v + 3]);
  }
  /// What a sum starts from, since to the codes of a page something is added, so that none is
  /// negative. \param sum_of_codes  of the row's upper or lower ones
  template <class Element>
  static constexpr std::int32_t start(std::int32_t sum_of_codes) {
    return -(std::same_as<Element, int4> ? 15 : 128) * sum_of_codes;
  }
  template <class Element>
  static Pair start(const CodeRow& row) {
    return {_mm512_set1_epi32(start<Element>(row.upper)),
            _mm512_set1_epi32(start<Element>(row.lower))};
  }

  static constexpr Index depth = SplitCode::block;
  /// The codes of a token that a dot product takes in a step, or the `rest` that is left of them.
  template <class Element>
  static Operand along(const Element* row, Index token) {
    return unsigned_codes<Element>(_mm512_loadu_si512(row), token);
  }
  template <class Element>
  static Operand along(const Element* row, Index token, Index rest) {
    return unsigned_codes<Element>(_mm512_maskz_loadu_epi8((__mmask64{1} << rest) - 1, row), token);
  }
  static Pair factors_along(const SplitCode* row, Index k) {
    const int8* const upper = SplitCode::upper(row, k);
    return {_mm512_loadu_si512(upper), _mm512_loadu_si512(upper + SplitCode::block)};
  }

  /// Keeps `count` numbers as factors in the places [begin, end) of a row, zeros behind them; both
  /// are multiples of the vector width. None differs from its factor by more than half a unit, a
  /// 65278th of the largest. If that is below 1e-34, all are 0.
  static CodeRow encode(const float* from, Index count, SplitCode* row, Index begin, Index end) {
    constexpr Index n = lanes<float>;
    constexpr float most = 127 * 256 + 127;
    const auto some = [&](Index i) {
      const Index rest = count - i;
      return rest >= n ? load(from + i)
                       : _mm512_maskz_loadu_ps(static_cast<__mmask16>((1U << rest) - 1), from + i);
    };
    // As whole numbers: NaN and inf are more than what is finite.
    __m512i magnitudes = _mm512_setzero_si512();
    for (Index i = 0; i < count; i += n)
      magnitudes = _mm512_max_epi32(magnitudes, _mm512_castps_si512(_mm512_abs_ps(some(i))));
    const auto largest = std::bit_cast<float>(_mm512_reduce_max_epi32(magnitudes));
    const bool is_finite = largest <= std::numeric_limits<float>::max();
    const float inverse = most / largest;
    const __m512i zero = _mm512_setzero_si512();
    if (!is_finite || inverse > std::numeric_limits<float>::max()) [[unlikely]] {
      for (Index at = begin; at < end; at += n) store_codes(SplitCode::upper(row, at), zero, zero);
      return {is_finite ? 0.0F : std::numeric_limits<float>::quiet_NaN(), 0, 0};
    }
    __m512i codes = zero, uppers = zero;
    Index at = begin;
    for (Index i = 0; i < count; i += n, at += n) {
      const __m512i code = _mm512_cvtps_epi32(mul(some(i), broadcast(inverse)));
      const __m512i upper = _mm512_srai_epi32(_mm512_add_epi32(code, _mm512_set1_epi32(128)), 8);
      codes = _mm512_add_epi32(codes, code), uppers = _mm512_add_epi32(uppers, upper);
      store_codes(SplitCode::upper(row, at), upper, code);
    }
    for (; at < end; at += n) store_codes(SplitCode::upper(row, at), zero, zero);
    const std::int32_t upper = _mm512_reduce_add_epi32(uppers);
    return {largest / most, upper, _mm512_reduce_add_epi32(codes) - 256 * upper};
  }

 private:
  /// By hand: with the intrinsic, g++ keeps the sums of a large tile in memory.
  static void add_products(const __m512i& codes, const __m512i& factor, __m512i& sum) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(factor));
  }
  /// The last 8 bits of each; of a code they are what its upper part leaves, from -128 to 127.
  static void store_codes(int8* to, __m512i upper, __m512i lower) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(upper));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + SplitCode::block),
                     _mm512_cvtepi32_epi8(lower));
  }
  static __m512i broadcast_four(const int8* from) {
    std::int32_t four;
    std::memcpy(&four, from, sizeof(four));
    return _mm512_set1_epi32(four);
  }
  /// The instruction multiplies codes without a sign by codes with one. \param row  of a page,
  /// which says which half of int4 it is
  template <class Element>
  static __m512i unsigned_codes(__m512i elements, Index row) {
    if constexpr (std::same_as<Element, int8>)
      return _mm512_xor_si512(elements, _mm512_set1_epi8(-128));
    else  // a nibble, doubled on its way
      return _mm512_and_si512(
          row % 2 == 0 ? _mm512_add_epi8(elements, elements) : _mm512_srli_epi16(elements, 3),
          _mm512_set1_epi8(30));
  }
  /// A page's elements that hold rows r and r + 1 of a step are the same where they are int4.
  template <class Element>
  static Operand column(const Element* const (&row)[rows], int v) {
    alignas(64) static constexpr std::uint8_t in_turns[64] = {
        0,  16, 32, 48, 1,  17, 33, 49, 2,  18, 34, 50, 3,  19, 35, 51, 4,  20, 36, 52, 5,  21,
        37, 53, 6,  22, 38, 54, 7,  23, 39, 55, 8,  24, 40, 56, 9,  25, 41, 57, 10, 26, 42, 58,
        11, 27, 43, 59, 12, 28, 44, 60, 13, 29, 45, 61, 14, 30, 46, 62, 15, 31, 47, 63};
    const auto sixteen = [&](Index i) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(row[i] + v * lanes<float>));
    };
    __m512i codes = _mm512_castsi128_si512(sixteen(0));
    codes = _mm512_inserti32x4(codes, sixteen(1), 1);
    codes = _mm512_inserti32x4(codes, sixteen(2), 2);
    codes = _mm512_inserti32x4(codes, sixteen(3), 3);
    if constexpr (std::same_as<Element, int4>)
      codes = _mm512_mask_blend_epi64(0b11001100, unsigned_codes<Element>(codes, 0),
                                      unsigned_codes<Element>(codes, 1));
    else
      codes = unsigned_codes<Element>(codes, 0);
    return _mm512_permutexvar_epi8(_mm512_load_si512(in_turns), codes);
  }
  /// Cache lines of four rows, in turns within each 16 columns: a fourth of these to each operand.
  template <class Element>
  static void line(const Element* const (&row)[rows], int v, Operand* to) {
    const auto codes = [&](Index i) {
      return unsigned_codes<Element>(_mm512_loadu_si512(row[i] + v * lanes<float>), i);
    };
    const __m512i low01 = _mm512_unpacklo_epi8(codes(0), codes(1)),
                  high01 = _mm512_unpackhi_epi8(codes(0), codes(1)),
                  low23 = _mm512_unpacklo_epi8(codes(2), codes(3)),
                  high23 = _mm512_unpackhi_epi8(codes(2), codes(3));
    to[v] = _mm512_unpacklo_epi16(low01, low23);
    to[v + 1] = _mm512_unpackhi_epi16(low01, low23);
    to[v + 2] = _mm512_unpacklo_epi16(high01, high23);
    to[v + 3] = _mm512_unpackhi_epi16(high01, high23);
  }
  /// Sixteen columns to each again: four by four blocks, transposed.
  static void in_order(Packet<float>& a, Packet<float>& b, Packet<float>& c, Packet<float>& d) {
    const auto ab02 = _mm512_shuffle_f32x4(a, b, 0x88), ab13 = _mm512_shuffle_f32x4(a, b, 0xDD),
               cd02 = _mm512_shuffle_f32x4(c, d, 0x88), cd13 = _mm512_shuffle_f32x4(c, d, 0xDD);
    a = _mm512_shuffle_f32x4(ab02, cd02, 0x88);
    b = _mm512_shuffle_f32x4(ab13, cd13, 0x88);
    c = _mm512_shuffle_f32x4(ab02, cd02, 0xDD);
    d = _mm512_shuffle_f32x4(ab13, cd13, 0xDD);
  }
};

#else

using CodeFactor = float;
inline constexpr bool takes_nibbles = false;

#endif

}  // namespace heed::simd
