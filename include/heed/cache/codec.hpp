// SPDX-License-Identifier: MIT
/// \file
/// Numbers to stored elements and back. Layer 4, detail.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>

#include "heed/base/element.hpp"
#include "heed/base/views.hpp"

namespace heed::detail {

/// What the elements of a row are multiplied by: of int8, the largest magnitude is 127, and a row
/// of zeros has the scale 0; other elements stand for themselves.
template <class Element, class T>
float row_scale(const T* row, Index width) {
  if constexpr (!has_scales<Element>) {
    return 1;
  } else {
    T largest = 0;
    for (Index c = 0; c < width; ++c) largest = std::max(largest, std::abs(row[c]));
    return static_cast<float>(largest) / 127;
  }
}

/// Stores a row: element c at to[c * stride].
template <class Element, class T>
void encode_row(const T* row, Index width, Element* to, Index stride, float scale) {
  for (Index c = 0; c < width; ++c)
    if constexpr (!has_scales<Element>)
      to[c * stride] = static_cast<Element>(row[c]);
    else
      to[c * stride] =
          scale == 0
              ? Element{0}
              : static_cast<Element>(std::clamp(std::nearbyint(row[c] / scale), T{-127}, T{127}));
}

/// The number that an element of row `row` stands for. \param scales  of all rows, if there are any
template <class T, class Element>
T decode(Element element, const float* scales, Index row) {
  if constexpr (has_scales<Element>)
    return static_cast<T>(element) * scales[row];
  else
    return static_cast<T>(element);
}

/// Throws unless all elements of `heads` are finite, which elements with scales must be: the scale
/// is shared, so that one NaN or inf would spoil a whole row. \param argument  as in "key"
template <class T>
void require_finite(std::string_view where, std::string_view argument, HeadsView<const T> heads) {
  for (Index head = 0; head < heads.num_heads; ++head)
    for (Index row = 0; row < heads.rows; ++row)
      for (Index c = 0; c < heads.cols; ++c)
        if (!std::isfinite(heads.row(head, row)[c]))
          throw ElementError("heed::" + std::string(where) + ": " + std::string(argument) + "[" +
                             std::to_string(head) + ", " + std::to_string(row) + ", " +
                             std::to_string(c) + "] is " + std::to_string(heads.row(head, row)[c]) +
                             ", which a cache of int8 cannot store; only finite numbers can be");
}

}  // namespace heed::detail
