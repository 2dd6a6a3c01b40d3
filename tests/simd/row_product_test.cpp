// SPDX-License-Identifier: MIT
/// \file
/// Products by rows that are transposed on their way, against products by those transposed before.

#include "heed/simd/row_product.hpp"

#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "support/padded_rows.hpp"  // PaddedRows
#include "support/random.hpp"       // Random

namespace heed {
namespace {

using test::Random;

template <class T>
using Rows = test::PaddedRows<T>;

template <class T>
class RowProduct : public testing::Test {};
using Elements = testing::Types<float, double>;
TYPED_TEST_SUITE(RowProduct, Elements);

TYPED_TEST(RowProduct, HasTheBitsOfAProductByColumns) {
  using T = TypeParam;
  constexpr Index n = simd::lanes<T>;
  Random random(1);
  int compared = 0;
  for (Index depth = 1; depth <= 260; depth += depth < 70 ? 1 : 6)
    for (const Index tokens : {Index{1}, n - 1, n, n + 1, Index{37}, Index{64}})
      for (Index rows = 1; rows <= simd::most_rows_of_row_product; ++rows) {
        if (tokens == 0 || !simd::has_row_product<T>(rows, depth)) continue;
        const Rows<T> left(rows, depth, random), right(tokens, depth, random);
        Rows<T> found(rows, round_up(tokens, n), random), expected = found;
        std::vector<T> columns(static_cast<std::size_t>(depth * found.cols));
        simd::transpose(right.view(), columns.data(), found.cols);
        simd::product<T, T>(left.view(), {columns.data(), depth, found.cols, found.cols},
                            expected.view(), nullptr);
        const Index fetched = compared % 2 * depth / 2;  // which changes nothing
        simd::row_product<T>(left.view(), right.view(), found.view(),
                             std::as_const(right).view().middle_cols(0, fetched));
        for (Index r = 0; r < rows; ++r)
          for (Index c = 0; c < found.stride; ++c) {
            if (c >= tokens && c < found.cols) continue;  // of no token
            ASSERT_EQ(found.view()(r, c), expected.view()(r, c))
                << rows << " rows, " << tokens << " tokens, depth " << depth << ", at " << r << ", "
                << c;
          }
        ++compared;
      }
  EXPECT_GT(compared, 100);
}

// Where chains are not of whole squares.
TYPED_TEST(RowProduct, IsOfFewRowsAndWholeSquares) {
  using T = TypeParam;
  constexpr Index n = simd::lanes<T>;
  EXPECT_TRUE(simd::has_row_product<T>(simd::most_rows_of_row_product, 4 * n));
  EXPECT_FALSE(simd::has_row_product<T>(simd::most_rows_of_row_product + 1, 4 * n));
  EXPECT_FALSE(simd::has_row_product<T>(1, 0));
  EXPECT_EQ(simd::has_row_product<T>(1, 4 * n + 1), n == 1);
  // Three blocks, of 44, 44 and 42.
  EXPECT_EQ(simd::has_row_product<T>(1, 130), n <= 2);
}

}  // namespace
}  // namespace heed
