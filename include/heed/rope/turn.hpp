// SPDX-License-Identifier: MIT
/// \file
/// Turning the pairs of one row: the innermost loop of RoPE. Layer 2, detail.
#pragma once

#include "heed/base/index.hpp"    // Index
#include "heed/rope/cos_sin.hpp"  // CosSin
#include "heed/rope/pairing.hpp"  // RopePairing

namespace heed::detail {

/// By the angle, or back by the angle, which is the transpose.
enum class Turn { forward, backward };

template <Turn turn, class T>
void turn_pair(T& first, T& second, T cosine, T sine) noexcept {
  if constexpr (turn == Turn::backward) sine = -sine;
  const T old_first = first;
  first = old_first * cosine - second * sine;
  second = old_first * sine + second * cosine;
}

/// Turns the pairs begin .. begin + count of a row; `turns` are given from pair `begin` on.
/// Both loops are plain so that compilers make vectors of them.
template <Turn turn, class T>
void turn_pairs(T* row, RopePairing pairing, Index rope_dim, Index begin, Index count,
                const CosSin<T>& turns) noexcept {
  const auto [cosine, sine] = turns;
  if (pairing == RopePairing::half_split) {
    T* first = row + begin;
    T* second = row + rope_dim / 2 + begin;
    for (Index pair = 0; pair < count; ++pair)
      turn_pair<turn>(first[pair], second[pair], cosine[pair], sine[pair]);
  } else {
    T* columns = row + 2 * begin;
    for (Index pair = 0; pair < count; ++pair)
      turn_pair<turn>(columns[2 * pair], columns[2 * pair + 1], cosine[pair], sine[pair]);
  }
}

}  // namespace heed::detail
