// SPDX-License-Identifier: MIT
/// \file
/// The cos and sin of a token's angles, computed or looked up. Layer 2, detail.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "heed/base/index.hpp"        // Index
#include "heed/rope/frequencies.hpp"  // RopeFrequencies

namespace heed::detail {

/// cosine[i] = scaling cos(position inverse_frequency[i]), and sine likewise.
///
/// Computed in double and rounded to T once: in float an angle of 1e5 would be off by 0.004
/// already.
template <class T>
void cos_sin(Index position, const double* inverse_frequency, Index count, double scaling,
             T* cosine, T* sine) {
  for (Index pair = 0; pair < count; ++pair) {
    const double angle = static_cast<double>(position) * inverse_frequency[pair];
    cosine[pair] = static_cast<T>(scaling * std::cos(angle));
    sine[pair] = static_cast<T>(scaling * std::sin(angle));
  }
}

/// The cos and sin of a row's pairs, each [count], in a table or in a buffer.
template <class T>
struct CosSin {
  const T* cosine;
  const T* sine;
};

/// The float cos and sin of positions below num_positions, bit for bit as `cos_sin` gives them.
class CosSinTable {
 public:
  CosSinTable(const RopeFrequencies& frequencies, Index num_positions)
      : num_positions_(num_positions),
        num_pairs_(static_cast<Index>(frequencies.inverse_frequency.size())),
        cosine_(static_cast<std::size_t>(num_positions_ * num_pairs_)), sine_(cosine_.size()) {
    for (Index position = 0; position < num_positions_; ++position)
      cos_sin(position, frequencies.inverse_frequency.data(), num_pairs_,
              frequencies.attention_scaling, cosine_.data() + position * num_pairs_,
              sine_.data() + position * num_pairs_);
  }

  bool has(Index position) const noexcept { return 0 <= position && position < num_positions_; }
  /// Of the pairs from `begin` on.
  CosSin<float> at(Index position, Index begin) const noexcept {
    const Index first = position * num_pairs_ + begin;
    return {cosine_.data() + first, sine_.data() + first};
  }

 private:
  Index num_positions_, num_pairs_;
  std::vector<float> cosine_, sine_;  // [num_positions, num_pairs]
};

/// Whether the table, which may be absent, has the position; if so, `found` points into it.
inline bool look_up(const CosSinTable* table, Index position, Index begin, CosSin<float>& found) {
  if (table == nullptr || !table->has(position)) return false;
  found = table->at(position, begin);
  return true;
}
/// Tables are of float: double is for checks.
inline bool look_up(const CosSinTable*, Index, Index, CosSin<double>&) { return false; }

}  // namespace heed::detail
