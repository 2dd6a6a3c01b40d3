// SPDX-License-Identifier: MIT
/// \file
/// Rows into columns, over every small shape.

#include "heed/simd/transpose.hpp"

#include <vector>

#include <gtest/gtest.h>

#include "support/random.hpp"  // Random

namespace heed {
namespace {

template <class T>
class Transpose : public testing::Test {};
using Elements = testing::Types<float, double>;
TYPED_TEST_SUITE(Transpose, Elements);

TYPED_TEST(Transpose, EveryShape) {
  constexpr TypeParam untouched = 777;
  test::Random random(1);
  for (Index rows = 0; rows <= 40; ++rows)
    for (Index cols = 0; cols <= 40; ++cols) {
      const Index stride = cols + random.integer(0, 3), to_stride = rows + random.integer(0, 3);
      const auto from = random.normals<TypeParam>(rows * stride);
      std::vector<TypeParam> to(static_cast<std::size_t>(cols * to_stride), untouched);
      simd::transpose(RowsView<const TypeParam>(from.data(), rows, cols, stride), to.data(),
                      to_stride);
      for (Index c = 0; c < cols; ++c)
        for (Index r = 0; r < to_stride; ++r) {
          const TypeParam expected =
              r < rows ? from[static_cast<std::size_t>(r * stride + c)] : untouched;
          ASSERT_EQ(to[static_cast<std::size_t>(c * to_stride + r)], expected)
              << rows << " x " << cols << ", row " << r << ", column " << c;
        }
    }
}

// As `transpose`, but that rows are filled up to whole vectors with zeros.
TYPED_TEST(Transpose, PadsRowsWithZeros) {
  constexpr TypeParam untouched = 777;
  test::Random random(2);
  for (Index rows = 1; rows <= 33; ++rows)
    for (Index cols = 1; cols <= 33; ++cols) {
      const Index filled = round_up(rows, simd::lanes<TypeParam>), to_stride = filled + 3;
      const auto from = random.normals<TypeParam>(rows * cols);
      std::vector<TypeParam> to(static_cast<std::size_t>(cols * to_stride), untouched);
      simd::transpose_padded(RowsView<const TypeParam>(from.data(), rows, cols, cols), to.data(),
                             to_stride);
      for (Index c = 0; c < cols; ++c)
        for (Index r = 0; r < to_stride; ++r) {
          const TypeParam expected = r < rows     ? from[static_cast<std::size_t>(r * cols + c)]
                                     : r < filled ? 0
                                                  : untouched;
          ASSERT_EQ(to[static_cast<std::size_t>(c * to_stride + r)], expected)
              << rows << " x " << cols << ", row " << r << ", column " << c;
        }
    }
}

}  // namespace
}  // namespace heed
