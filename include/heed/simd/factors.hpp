// SPDX-License-Identifier: MIT
/// \file
/// What a page is multiplied by: queries and probabilities, in the type of the sums or in bf16.
/// (In fixed point: split_code.hpp.) Layer 1, detail.
///
/// A product goes along its depth in steps. With factors of T a step is one row of the page,
/// widened. With factors of bf16 it is two, whose columns are put side by side, and the processor
/// adds both products to a sum of float at once.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "heed/simd/packet.hpp"
#include "heed/simd/widen.hpp"

namespace heed::simd {

/// Rows of the largest tile. Six rows by two vectors keep 12 accumulators, 2 loads and a broadcast
/// in 16 registers; six by four do so with 24 + 4 + 1 of 32. Two FMA ports of latency 4 need 8 or
/// more independent sums, and 12 FMAs on 8 loads leave the load ports idle a third of the time.
inline constexpr int max_tile_rows = 6;

/// Vectors beside each other in a tile of so many rows, at most (a strip may have fewer): few rows
/// take many, to have enough sums.
/// Each vector needs a sum per row and a register to be loaded to; the step, the broadcast and the
/// compiler have some of their own. A single row needs no loads of its own (they fold into the
/// FMA).
constexpr int tile_vectors(int rows, int other_registers) {
  return rows == 1 ? 8 : std::min((num_registers - other_registers) / (rows + 1), 8);
}

/// A step along the depth with factors of the type that sums have.
template <class T, class Factor>
struct DepthStep {
  static constexpr Index rows = 1;
  using Operand = Packet<T>;
  using Sum = Packet<T>;
  static constexpr int most_rows = max_tile_rows;
  static constexpr int vectors(int tile_rows) { return tile_vectors(tile_rows, 2); }

  /// The step's rows, lanes<T> columns of them in each operand.
  template <class Element, int Vectors>
  static void columns(const Element* const (&row)[rows], Operand (&to)[Vectors]) {
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) to[v] = load_as<T>(row[0] + v * lanes<T>);
  }
  /// The step's factors, which are those from k on, one for each of its rows, in all lanes.
  static Operand factor(const Factor* row, Index k) { return broadcast(row[k]); }
  static Sum zero() { return broadcast(T{0}); }
  static Packet<T> mul_add(const Operand& factor, const Operand& columns, const Packet<T>& sum) {
    return simd::mul_add(factor, columns, sum);
  }
  template <int Vectors>
  static void values(const Sum (&sum)[Vectors], Packet<T> (&to)[Vectors]) {
    std::copy_n(sum, Vectors, to);
  }

  /// Elements of a row that a dot product takes in a step.
  static constexpr Index depth = lanes<T>;
  template <class Element>
  static Operand along(const Element* row) {
    return load_as_without_constants<T>(row);
  }
};

#if defined(__AVX512BF16__)

template <>
struct DepthStep<float, bf16> {
  static constexpr Index rows = 2;
  using Operand = __m512bh;
  using Sum = Packet<float>;
  static constexpr int most_rows = max_tile_rows;
  static constexpr int vectors(int tile_rows) { return tile_vectors(tile_rows, 3); }

  template <int Vectors>
  static void columns(const bf16* const (&row)[rows], Operand (&to)[Vectors]) {
    alignas(64) static constexpr std::uint16_t in_turns[32] = {
        0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
        8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v)
      to[v] = reinterpret_cast<Operand>(_mm512_permutex2var_epi16(half(row[0] + v * lanes<float>),
                                                                  _mm512_load_si512(in_turns),
                                                                  half(row[1] + v * lanes<float>)));
  }
  static Operand factor(const bf16* row, Index k) {
    std::int32_t two;
    std::memcpy(&two, row + k, sizeof(two));
    return reinterpret_cast<Operand>(_mm512_set1_epi32(two));
  }
  static Sum zero() { return broadcast(0.0F); }
  static Packet<float> mul_add(const Operand& factor, const Operand& columns,
                               const Packet<float>& sum) {
    return _mm512_dpbf16_ps(sum, factor, columns);
  }
  template <int Vectors>
  static void values(const Sum (&sum)[Vectors], Packet<float> (&to)[Vectors]) {
    std::copy_n(sum, Vectors, to);
  }

  static constexpr Index depth = 2 * lanes<float>;
  static Operand along(const bf16* row) {
    return reinterpret_cast<Operand>(_mm512_loadu_si512(row));
  }
  /// The same if only half of a step is left, the rest of which is 0.
  static Operand half_along(const bf16* row) {
    return reinterpret_cast<Operand>(
        _mm512_zextsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row))));
  }

 private:
  static __m512i half(const bf16* row) {  // the upper half is not looked at
    return _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row)));
  }
};

/// What factors for products in bf16 are kept as.
using RoundedFactor = bf16;

/// Stores what is rounded to bf16.
inline void store_rounded(bf16* to, const Packet<float>& packet) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                      reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(packet)));
}

#else

using RoundedFactor = float;

/// Stores what is rounded to bf16, and widened again.
inline void store_rounded(float* to, const Packet<float>& packet) {
  store(to, packet);
  for (Index i = 0; i < lanes<float>; ++i) to[i] = static_cast<float>(static_cast<bf16>(to[i]));
}

#endif

/// Keeps some numbers as factors, rounded to bf16.
inline void round_factors(const float* from, Index count, RoundedFactor* to) {
  constexpr Index n = lanes<float>;
  Index i = 0;
  for (; i + n <= count; i += n) store_rounded(to + i, load(from + i));
  for (; i < count; ++i) to[i] = static_cast<RoundedFactor>(static_cast<bf16>(from[i]));
}

/// to[i] = scale * from[i].
template <class T>
void copy_scaled(const T* from, Index count, T scale, T* to) {
  constexpr Index n = lanes<T>;
  Index i = 0;
  for (; i + n <= count; i += n) store(to + i, mul(load(from + i), broadcast(scale)));
  for (; i < count; ++i) to[i] = scale * from[i];
}

/// Copies a row, and zeros up to the next multiple of row_padding.
template <class T>
void copy_padded(const T* from, Index count, T* to) {
  constexpr Index n = lanes<T>;
  Index i = 0;
  for (; i + n <= count; i += n) store(to + i, load(from + i));
  if (i < count) {
    store(to + i, load_some(from + i, count - i));
    i += n;
  }
  for (; i < padded(count); i += n) store(to + i, broadcast(T{0}));
}

}  // namespace heed::simd
