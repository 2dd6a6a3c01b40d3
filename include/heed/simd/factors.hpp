// SPDX-License-Identifier: MIT
/// \file
/// What a page is multiplied by: queries and probabilities, in the type of the sums or in bf16.
/// Layer 1, detail.
///
/// A product goes along its depth in steps. With factors of T a step is one row of the page,
/// widened. With factors of bf16 it is two, whose columns are put side by side, and the processor
/// adds both products to a sum of float at once.
#pragma once

#include <algorithm>

#include "heed/simd/packet.hpp"
#include "heed/simd/widen.hpp"

namespace heed::simd {

/// A step along the depth with factors of the type that sums have.
template <class T, class Factor>
struct DepthStep {
  static constexpr Index rows = 1;
  static constexpr int registers = 2;  ///< beside sums and columns
  using Operand = Packet<T>;

  /// lanes<T> columns of the step's rows, from `first` on.
  template <class Element>
  static Operand columns(const Element* const (&row)[rows], Index first) {
    return load_as<T>(row[0] + first);
  }
  /// The step's factors, one for each of its rows, in all lanes.
  static Operand factor(const Factor* factors) { return broadcast(*factors); }
  static Packet<T> mul_add(const Operand& factor, const Operand& columns, const Packet<T>& sum) {
    return simd::mul_add(factor, columns, sum);
  }

  /// Elements of a row that a dot product takes in a step, and the step's that are there when
  /// `rest` of them are left.
  static constexpr Index depth = lanes<T>;
  struct Present {
    explicit Present(Index) {}
  };
  template <class Element>
  static Operand along(const Element* row, Present) {
    return load_as<T>(row);
  }
};

#if defined(__AVX512BF16__)

/// What factors for products in bf16 are kept as.
using NativeFactor = bf16;

template <>
struct DepthStep<float, bf16> {
  static constexpr Index rows = 2;
  static constexpr int registers = 3;
  using Operand = __m512bh;

  static Operand columns(const bf16* const (&row)[rows], Index first) {
    alignas(64) static constexpr std::uint16_t in_turns[32] = {
        0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
        8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
    return reinterpret_cast<Operand>(_mm512_permutex2var_epi16(
        half(row[0] + first), _mm512_load_si512(in_turns), half(row[1] + first)));
  }
  /// A code has at most 7 bits and a sign: bf16, the upper half of a float, holds it.
  static Operand columns(const int8* const (&row)[rows], Index first) {
    const __m512i even = _mm512_castps_si512(widen(row[0] + first)),
                  odd = _mm512_castps_si512(widen(row[1] + first));
    return reinterpret_cast<Operand>(_mm512_or_si512(_mm512_srli_epi32(even, 16), odd));
  }
  static Operand factor(const bf16* factors) {
    std::int32_t two;
    std::memcpy(&two, factors, sizeof(two));
    return reinterpret_cast<Operand>(_mm512_set1_epi32(two));
  }
  static Packet<float> mul_add(const Operand& factor, const Operand& columns,
                               const Packet<float>& sum) {
    return _mm512_dpbf16_ps(sum, factor, columns);
  }

  static constexpr Index depth = 2 * lanes<float>;
  struct Present {
    explicit Present(Index rest) : mask(rest >= depth ? ~__mmask32{0} : __mmask32{0xFFFF}) {}
    __mmask32 mask;
  };
  static Operand along(const bf16* row, Present present) {
    return reinterpret_cast<Operand>(_mm512_maskz_loadu_epi16(present.mask, row));
  }
  static Operand along(const int8* row, Present present) {
    const auto upper = static_cast<__mmask16>(present.mask >> 16);
    return _mm512_cvtne2ps_pbh(
        _mm512_maskz_cvtepi32_ps(
            upper, _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(upper, row + lanes<float>))),
        widen(row));
  }

 private:
  static Packet<float> widen(const int8* row) { return load_as<float>(row); }
  static __m512i half(const bf16* row) {  // the upper half is not looked at
    return _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row)));
  }
};

/// Stores what is rounded to bf16.
inline void store_rounded(bf16* to, const Packet<float>& packet) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                      reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(packet)));
}

#else

using NativeFactor = float;

/// Stores what is rounded to bf16, and widened again.
inline void store_rounded(float* to, const Packet<float>& packet) {
  store(to, packet);
  for (Index i = 0; i < lanes<float>; ++i) to[i] = static_cast<float>(static_cast<bf16>(to[i]));
}

#endif

}  // namespace heed::simd
