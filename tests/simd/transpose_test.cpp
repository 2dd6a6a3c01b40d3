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

/// Holds every small shape against its elements. `filled(rows)` of each column are written, by
/// `transposing`, with zeros beyond the rows.
template <class T>
void expect_transposed(const auto& transposing, const auto& filled) {
  constexpr T untouched = 777;
  test::Random random(1);
  for (Index rows = 0; rows <= 40; ++rows)
    for (Index cols = 0; cols <= 40; ++cols) {
      const Index written = filled(rows);
      const Index stride = cols + random.integer(0, 3), to_stride = written + random.integer(0, 3);
      const auto from = random.normals<T>(rows * stride);
      std::vector<T> to(static_cast<std::size_t>(cols * to_stride), untouched);
      transposing(RowsView<const T>(from.data(), rows, cols, stride), to.data(), to_stride);
      for (Index c = 0; c < cols; ++c)
        for (Index r = 0; r < to_stride; ++r) {
          const T expected = r < rows      ? from[static_cast<std::size_t>(r * stride + c)]
                             : r < written ? 0
                                           : untouched;
          ASSERT_EQ(to[static_cast<std::size_t>(c * to_stride + r)], expected)
              << rows << " x " << cols << ", row " << r << ", column " << c;
        }
    }
}

TYPED_TEST(Transpose, EveryShape) {
  expect_transposed<TypeParam>(simd::transpose<TypeParam>, [](Index rows) { return rows; });
}

TYPED_TEST(Transpose, PadsRowsWithZeros) {
  expect_transposed<TypeParam>(simd::transpose_padded<TypeParam>,
                               [](Index rows) { return round_up(rows, simd::lanes<TypeParam>); });
}

}  // namespace
}  // namespace heed
