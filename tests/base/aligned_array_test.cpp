// SPDX-License-Identifier: MIT
/// \file
/// Memory for caches and scratch.

#include "heed/base/aligned_array.hpp"

#include <algorithm>
#include <new>

#include <gtest/gtest.h>

namespace heed {
namespace {

// Below, at and above the size from which huge pages are asked for.
TEST(AlignedArray, LiesOnACacheLineAndHoldsItsElements) {
  constexpr Index huge = detail::huge_page_size / sizeof(float);
  for (const Index count : {Index{0}, Index{1}, Index{1000}, huge - 1, huge, huge + 1, 5 * huge}) {
    const auto array = detail::make_aligned<float>(count);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(array.get()) % detail::memory_alignment, 0u);
    std::fill_n(array.get(), count, 1.5F);
    EXPECT_EQ(std::count(array.get(), array.get() + count, 1.5F), count);
  }
}

TEST(AlignedArray, RefusesANegativeCount) {
  EXPECT_THROW(detail::make_aligned<float>(-1), std::bad_array_new_length);
}

}  // namespace
}  // namespace heed
