// SPDX-License-Identifier: MIT
/// \file
/// Cuts a block of memory into arrays, one after another. Layer 4, detail.
#pragma once

#include <cstddef>

#include "heed/base/aligned_array.hpp"

namespace heed::detail {

/// Where an array lies in each of many blocks.
template <class X>
struct PagePart {
  Index offset = 0;  ///< bytes from the block's begin

  X* in(std::byte* block) const noexcept { return reinterpret_cast<X*>(block + offset); }
};

/// Hands out parts. Each begins on a cache line, so that the loads of no vector cross more lines
/// than they must.
class PageParts {
 public:
  /// An array of so many X.
  template <class X>
  constexpr PagePart<X> take(Index count) noexcept {
    const PagePart<X> part{end_};
    end_ += static_cast<Index>(aligned_bytes(static_cast<std::size_t>(count) * sizeof(X)));
    return part;
  }
  /// Bytes taken so far.
  constexpr Index bytes() const noexcept { return end_; }

 private:
  Index end_ = 0;
};

}  // namespace heed::detail
