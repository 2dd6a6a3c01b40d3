// SPDX-License-Identifier: MIT
/// \file
/// Cuts a block of memory into arrays, one after another. Layer 4, detail.
#pragma once

#include <cstddef>

#include "heed/base/aligned_array.hpp"

namespace heed::detail {

/// Hands out offsets. Each array begins on a cache line, so that the loads of no vector cross more
/// lines than they must.
class PageParts {
 public:
  /// The offset of an array of so many bytes.
  constexpr Index take(Index bytes) noexcept {
    const Index begin = end_;
    end_ += static_cast<Index>(aligned_bytes(static_cast<std::size_t>(bytes)));
    return begin;
  }
  /// Bytes taken so far.
  constexpr Index bytes() const noexcept { return end_; }

 private:
  Index end_ = 0;
};

}  // namespace heed::detail
