// SPDX-License-Identifier: MIT
/// \file
/// The orthonormal Walsh-Hadamard transform of a row, in place. Layer 1, detail.
///
/// It spreads a channel that outweighs all others over a whole block, so that elements which share
/// a scale lose less of the others; and it keeps dot products, so that <Hq, Hk> = <q, k>.
///
/// Source: Ashkboos et al. 2024, QuaRot, arXiv:2404.00456, section 3 and 4.
#pragma once

#include <algorithm>
#include <cmath>

#include "heed/base/index.hpp"
#include "heed/simd/packet.hpp"

namespace heed::simd {

/// The largest power of two that divides `width`, at least 1: how many columns are mixed.
constexpr Index hadamard_block(Index width) { return width == 0 ? 1 : width & -width; }

namespace detail {

/// (a, b) -> (a + b, a - b) for all columns `half` apart, within groups of 2 half columns.
/// \param half  a multiple of lanes<T>
template <class T>
void mix_far(T* row, Index width, Index half) {
  for (Index begin = 0; begin < width; begin += 2 * half)
    for (Index c = begin; c < begin + half; c += lanes<T>) {
      const auto a = load(row + c), b = load(row + c + half);
      store(row + c, add(a, b));
      store(row + c + half, sub(a, b));
    }
}

/// The same for columns less than a packet apart, half a packet first, in `count` packets; then
/// the scale. In a transposed square, columns of one packet are packets of their own.
template <class T>
void mix_near(T* row, Index count, T scale) {
  constexpr Index n = lanes<T>;
  PacketSquare<T> square;
  for (Index i = 0; i < n; ++i) square.packet[i] = i < count ? load(row + i * n) : broadcast(T{0});
  if constexpr (n > 1) Eigen::internal::ptranspose(square);
#pragma GCC unroll 4
  for (Index half = n / 2; half > 0; half /= 2)
#pragma GCC unroll 16
    for (Index pair = 0; pair < n / 2; ++pair) {
      const Index i = pair / half * half + pair;
      const auto a = square.packet[i], b = square.packet[i + half];
      square.packet[i] = add(a, b);
      square.packet[i + half] = sub(a, b);
    }
  if constexpr (n > 1) Eigen::internal::ptranspose(square);
  for (Index i = 0; i < count; ++i) store(row + i * n, mul(square.packet[i], broadcast(scale)));
}

/// Blocks that are narrower than a packet.
template <class T>
void mix_narrow(T* row, Index width, Index block, T scale) {
  for (Index half = block / 2; half > 0; half /= 2)
    for (Index begin = 0; begin < width; begin += 2 * half)
      for (Index c = begin; c < begin + half; ++c) {
        const T a = row[c], b = row[c + half];
        row[c] = a + b;
        row[c + half] = a - b;
      }
  for (Index c = 0; c < width; ++c) row[c] *= scale;
}

}  // namespace detail

/// row = row H, where H is block-diagonal: blocks of hadamard_block(width) columns with elements
/// (-1)^popcount(i & j) / sqrt(block). A width of 96 has three blocks of 32; an odd width stays as
/// it is. H is its own inverse.
///
/// An element is the same tree of sums on every target, scaled last, so its bits are the same, too.
/// The sums reach sqrt(block) times the result, and only then may overflow.
///
/// \param row  [width] of float or double, of any alignment
/// Cost: width (log2(block) + 1) flops; allocates nothing.
template <class T>
void rotate_hadamard(T* row, Index width) {
  constexpr Index n = lanes<T>;
  const Index block = hadamard_block(width);
  if (block == 1) return;
  const T scale = 1 / std::sqrt(static_cast<T>(block));
  if (block < n) return detail::mix_narrow(row, width, block, scale);
  for (Index half = block / 2; half >= n; half /= 2) detail::mix_far(row, width, half);
  for (Index c = 0; c < width; c += n * n)
    detail::mix_near(row + c, std::min(n, (width - c) / n), scale);
}

}  // namespace heed::simd
