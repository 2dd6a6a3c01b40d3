// SPDX-License-Identifier: MIT
/// \file
/// The processor's own products of codes of 8 bits (VNNI): factors in fixed point times a page of
/// codes. Layer 1, detail.
#pragma once

#include <cstdint>
#include <cstring>

#include "heed/simd/factors.hpp"
#include "heed/simd/nibbles.hpp"
#include "heed/simd/split_code.hpp"

namespace heed::simd {

#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__)

/// Added to a page's codes, so that none is negative.
template <class Element>
inline constexpr int code_bias = 128;
template <>
inline constexpr int code_bias<int4> = largest_code<int4>;

template <int Codes, class Code>
struct DepthStep<float, SplitCode<Codes, Code>> {
  static constexpr Index rows = 4;
  using Factor = SplitCode<Codes, Code>;
  using Operand = __m512i;  // four codes of 8 bits in each lane, from the step's four rows
  using Each = EachCode<Codes>;
  using Sum = Each;
  /// Two rows by four vectors are 16 or 24 sums: more would be too many for the registers, or a
  /// strip narrower than a cache line.
  static constexpr int most_rows = 2;
  static constexpr int vectors(int) { return 4; }

  template <class Element, int Vectors>
  static void columns(const Element* const (&row)[rows], Operand (&to)[Vectors]) {
    if constexpr (Vectors == 4) {
      line(row, to);
    } else {
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v) to[v] = column(row, v);
    }
  }
  static Each factor(const Factor* row, Index k) {
    return each([upper = Factor::upper(row, k)](int i) {
      std::int32_t four;
      std::memcpy(&four, upper + i * Factor::block, sizeof(four));
      return _mm512_set1_epi32(four);
    });
  }
  static Sum zero() {
    return each([](int) { return _mm512_setzero_si512(); });
  }
  static Sum mul_add(const Each& factor, const Operand& columns, Sum sum) {
#pragma GCC unroll 3
    for (int i = 0; i < Codes; ++i)
      if constexpr (Factor::has_sign)
        add_products(columns, factor.code[i], sum.code[i]);
      else
        add_products(factor.code[i], columns, sum.code[i]);
    return sum;
  }
  /// The sums in units, in the order of the columns. Up to 1024 products are exact in float.
  template <int Vectors>
  static void values(const Sum (&sum)[Vectors], Packet<float> (&to)[Vectors]) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      to[v] = _mm512_cvtepi32_ps(sum[v].code[Codes - 1]);
#pragma GCC unroll 2
      for (int i = Codes - 2; i >= 0; --i)
        to[v] = simd::mul_add(_mm512_cvtepi32_ps(sum[v].code[i]), broadcast(place_value(i)), to[v]);
    }
    if constexpr (Vectors == 4) in_order(to[0], to[1], to[2], to[3]);
  }
  /// What 1 in a factor's i-th code counts.
  static constexpr float place_value(int i) { return static_cast<float>(1 << 8 * (Codes - 1 - i)); }
  /// What a sum starts from where factors have a sign, as the codes of a page have `code_bias` more
  /// then. \param sum_of_codes  of a row of factors
  template <class Element>
  static constexpr std::int32_t start(std::int32_t sum_of_codes) {
    return -code_bias<Element> * sum_of_codes;
  }
  template <class Element>
  static Sum start(const CodeRow& row) {
    return each([&](int i) { return _mm512_set1_epi32(start<Element>(row.sums[i])); });
  }

  static constexpr Index depth = Factor::block;
  /// The codes of a token that a dot product takes in a step, or the `rest` that is left of them.
  template <class Element>
  static Operand along(const Element* row, Index token) {
    return page_codes<Element>(_mm512_loadu_si512(row), token);
  }
  template <class Element>
  static Operand along(const Element* row, Index token, Index rest) {
    return page_codes<Element>(_mm512_maskz_loadu_epi8((__mmask64{1} << rest) - 1, row), token);
  }
  static Each factors_along(const Factor* row, Index k) {
    return each([upper = Factor::upper(row, k)](int i) {
      return _mm512_loadu_si512(upper + i * Factor::block);
    });
  }

 private:
  static Each each(const auto& code) {
    Each all;
#pragma GCC unroll 3
    for (int i = 0; i < Codes; ++i) all.code[i] = code(i);
    return all;
  }
  /// The instruction multiplies bytes without a sign by bytes with one. So where factors have one,
  /// a page's codes lose theirs: what is added to each, `start` takes off the sum.
  /// \param row  of a page, which says which half of int4 it is
  template <class Element>
  static __m512i page_codes(__m512i elements, Index row) {
    if constexpr (std::same_as<Element, int8>) {
      return Factor::has_sign
                 ? _mm512_add_epi8(elements, _mm512_set1_epi8(static_cast<char>(code_bias<int8>)))
                 : elements;
    } else {
      const __m512i doubled = _mm512_and_si512(
          row % 2 == 0 ? _mm512_add_epi8(elements, elements) : _mm512_srli_epi16(elements, 3),
          _mm512_set1_epi8(30));
      return Factor::has_sign ? doubled
                              : _mm512_sub_epi8(doubled, _mm512_set1_epi8(code_bias<int4>));
    }
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
      codes = _mm512_mask_blend_epi64(0b11001100, page_codes<Element>(codes, 0),
                                      page_codes<Element>(codes, 1));
    else
      codes = page_codes<Element>(codes, 0);
    return _mm512_permutexvar_epi8(_mm512_load_si512(in_turns), codes);
  }
  /// Cache lines of four rows, in turns within each 16 columns: a fourth of these to each operand.
  template <class Element>
  static void line(const Element* const (&row)[rows], Operand (&to)[4]) {
    const auto codes = [&](Index i) { return page_codes<Element>(_mm512_loadu_si512(row[i]), i); };
    const __m512i low01 = _mm512_unpacklo_epi8(codes(0), codes(1)),
                  high01 = _mm512_unpackhi_epi8(codes(0), codes(1)),
                  low23 = _mm512_unpacklo_epi8(codes(2), codes(3)),
                  high23 = _mm512_unpackhi_epi8(codes(2), codes(3));
    to[0] = _mm512_unpacklo_epi16(low01, low23);
    to[1] = _mm512_unpackhi_epi16(low01, low23);
    to[2] = _mm512_unpacklo_epi16(high01, high23);
    to[3] = _mm512_unpackhi_epi16(high01, high23);
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

#endif

}  // namespace heed::simd
