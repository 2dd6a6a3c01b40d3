// SPDX-License-Identifier: MIT
/// \file
/// A matrix whose rows do not follow one another.
#pragma once

#include <type_traits>
#include <vector>

#include "heed/base/element.hpp"
#include "heed/base/views.hpp"
#include "support/random.hpp"  // Random

namespace heed::test {

/// Random numbers, of int8 all its codes, with up to 3 unused ones behind each row.
template <class T>
struct PaddedRows {
  Index rows, cols, stride;
  std::vector<T> data;

  PaddedRows(Index rows_, Index cols_, Random& random)
      : rows(rows_), cols(cols_), stride(cols + random.integer(0, 3)) {
    if constexpr (std::is_same_v<T, int8>)
      for (Index i = 0; i < rows * stride; ++i)
        data.push_back(static_cast<int8>(random.integer(-127, 127)));
    else
      data = random.normals<T>(rows * stride);
  }
  RowsView<const T> view() const { return {data.data(), rows, cols, stride}; }
  RowsView<T> view() { return {data.data(), rows, cols, stride}; }
};

}  // namespace heed::test
