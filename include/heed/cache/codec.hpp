// SPDX-License-Identifier: MIT
/// \file
/// Numbers to stored elements and back. Layer 4, detail.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "heed/base/element.hpp"
#include "heed/base/views.hpp"
#include "heed/simd/narrow.hpp"
#include "heed/simd/packet.hpp"

namespace heed::detail {

/// What codes are multiplied by, so that the largest magnitude has the largest code; of zeros it is
/// 0.
template <class Stored>
float code_scale(float largest_magnitude) {
  return largest_magnitude / static_cast<float>(simd::largest_code<Stored>);
}

/// What the codes of a channel are multiplied by, and what is added then.
struct ChannelScale {
  bf16 scale;
  bf16 offset;

  /// Of a channel of a page: so that all of its numbers are in the range of the codes; rounding to
  /// bf16 is made up for here.
  template <class Stored>
  static ChannelScale of(const float* channel) {
    auto low = simd::load(channel), high = low;
    for (Index token = 0; token < page_size; token += simd::lanes<float>) {
      low = simd::min(low, simd::load(channel + token));
      high = simd::max(high, simd::load(channel + token));
    }
    const float least = simd::min_lanes(low), largest = simd::max_lanes(high);
    const float most = static_cast<float>(std::numeric_limits<bf16>::max());
    const bf16 offset(std::clamp(least / 2 + largest / 2, -most, most));
    const auto middle = static_cast<float>(offset);
    const float exact =
        std::min(code_scale<Stored>(std::max(largest - middle, middle - least)), most);
    bf16 scale(exact);
    if (static_cast<float>(scale) < exact)
      scale =
          std::bit_cast<bf16>(static_cast<std::uint16_t>(std::bit_cast<std::uint16_t>(scale) + 1));
    return {scale, offset};
  }
};

/// The largest number that elements with scales can stand for: scales, and the rope part of a
/// latent, are rounded to bf16 at most, by less than a 64th.
inline constexpr float largest_number = std::numeric_limits<float>::max() * (63.0F / 64);

/// Throws unless all elements of `heads` are finite and not too large, which elements with scales
/// must be: the scale is shared, so that one NaN or inf would spoil others.
/// \param argument    as in "key"
/// \param summed      numbers that a rotation adds up, so that their sum must be finite; else 1
inline void require_finite(std::string_view where, std::string_view argument,
                           HeadsView<const float> heads, Index summed) {
  // Read back, so many numbers of up to sqrt(summed) times the largest are added before they are
  // scaled down.
  const auto n = static_cast<float>(summed);
  const float most = largest_number / (n * std::sqrt(n));
  for (Index head = 0; head < heads.num_heads; ++head)
    for (Index row = 0; row < heads.rows; ++row) {
      if (simd::largest_magnitude(heads.row(head, row), heads.cols) <= most) continue;
      for (Index c = 0; c < heads.cols; ++c)
        if (!(std::abs(heads.row(head, row)[c]) <= most))
          throw ElementError(message(
              where, std::string(argument) + shape_text({head, row, c}) + " is " +
                         number_text(heads.row(head, row)[c]) +
                         ", which elements with scales (int8, int4) cannot stand for; only finite "
                         "numbers short of the end of float's range can be stored in them"));
    }
}

}  // namespace heed::detail
