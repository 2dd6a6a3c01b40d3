// SPDX-License-Identifier: MIT
/// \file
/// Weights and inputs of any shape, for tests in which their numbers do not matter.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "heed/base/index.hpp"
#include "heed/base/views.hpp"

namespace heed::test {

inline const std::vector<float> same_numbers(2000, 0.5F);

/// \return [count, cols]
inline RowsView<const float> rows(Index count, Index cols) {
  return {same_numbers.data(), count, cols};
}
/// \return [count]
inline std::span<const float> some(std::size_t count) {
  return std::span(same_numbers).first(count);
}

}  // namespace heed::test
