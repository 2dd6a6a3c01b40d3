// SPDX-License-Identifier: MIT
/// \file
/// Where the parts of a page lie. Layer 4, detail.
#pragma once

#include <cstddef>

#include "heed/base/index.hpp"

namespace heed::detail {

/// A page is as many parts as there are key/value heads, `stride` bytes from each other.
struct PagePlace {
  std::byte* first;
  Index stride;

  std::byte* head(Index kv_head) const noexcept { return first + kv_head * stride; }
};

}  // namespace heed::detail
