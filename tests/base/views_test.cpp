#include "heed/base/views.hpp"

#include <numeric>
#include <vector>

#include <gmock/gmock.h>

namespace heed {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// [rows, cols] with 0, 1, 2, ... row by row.
Rows counted(Index rows, Index cols) {
  Rows matrix(rows, cols);
  std::iota(matrix.data(), matrix.data() + matrix.size(), 0.0F);
  return matrix;
}

/// The view shows exactly what the Eigen object holds, in its memory.
template <class T, class M>
void expect_same(RowsView<T> view, const M& matrix) {
  ASSERT_EQ(view.rows, matrix.rows());
  ASSERT_EQ(view.cols, matrix.cols());
  for (Index r = 0; r < view.rows; ++r)
    for (Index c = 0; c < view.cols; ++c) EXPECT_EQ(&view(r, c), &matrix.coeffRef(r, c));
}

TEST(RowsView, SeesMatricesMapsAndBlocksInPlace) {
  Rows matrix = counted(4, 6);
  expect_same(RowsView<float>(matrix), matrix);
  expect_same(RowsView<const float>(matrix), matrix);

  auto block = matrix.block(1, 2, 3, 2);
  expect_same(RowsView<float>(block), block);
  EXPECT_EQ(RowsView<float>(block).stride, 6);

  Eigen::Map<Rows, 0, Eigen::OuterStride<>> map(matrix.data(), 3, 4, Eigen::OuterStride<>(8));
  expect_same(RowsView<float>(map), map);
  EXPECT_EQ(RowsView<float>(map).stride, 8);
}

TEST(RowsView, SeesVectorsAsOneRow) {
  Eigen::RowVectorXf vector(5);
  const RowsView<float> view(vector);
  expect_same(view, vector);
  EXPECT_EQ(view.stride, 5);
  Rows matrix = counted(4, 6);
  EXPECT_EQ(RowsView<float>(matrix.block(1, 2, 1, 3)).stride, 3);

  auto segment = vector.segment(1, 3);
  expect_same(RowsView<float>(segment), segment);
  EXPECT_EQ(RowsView<float>(vector.head(4)).data, vector.data());
  EXPECT_EQ(split_heads(vector.tail(4), 2).data, vector.data() + 1);

  std::vector<float> numbers(3);
  const RowsView<float> row{std::span<float>(numbers)};
  EXPECT_EQ(row.rows, 1);
  EXPECT_EQ(row.cols, 3);
  EXPECT_EQ(row.data, numbers.data());
}

/// A matrix with more to it.
struct Named : Rows {
  using Matrix::Matrix;
  int name = 7;
};

TEST(RowsView, SeesWhatInheritsFromAMatrix) {
  Named matrix(3, 4);
  expect_same(RowsView<float>(matrix), matrix);
  static_assert(detail::EigenPlain<Named> && detail::EigenPlain<Rows>);
  static_assert(!detail::EigenPlain<Eigen::Map<Rows>> && !detail::EigenDense<int>);
}

TEST(RowsView, DeducesItsElement) {
  Rows matrix(1, 1);
  const Rows constant(1, 1);
  static_assert(std::is_same_v<decltype(RowsView(matrix)), RowsView<float>>);
  static_assert(std::is_same_v<decltype(RowsView(constant)), RowsView<const float>>);
  static_assert(std::is_same_v<decltype(RowsView(constant.topRows(1))), RowsView<const float>>);
}

TEST(RowsView, NeverDropsConst) {
  static_assert(std::is_convertible_v<RowsView<float>, RowsView<const float>>);
  static_assert(!std::is_convertible_v<RowsView<const float>, RowsView<float>>);
  static_assert(std::is_convertible_v<RowsView<float>, HeadsView<const float>>);
  static_assert(!std::is_convertible_v<RowsView<const float>, HeadsView<float>>);
  static_assert(std::is_convertible_v<HeadsView<float>, HeadsView<const float>>);
  static_assert(!std::is_convertible_v<HeadsView<const float>, HeadsView<float>>);
}

TEST(RowsView, TakesMatricesWithoutRowsOrColumns) {
  Rows no_rows(0, 4);
  EXPECT_EQ(RowsView<float>(no_rows).rows, 0);
  EXPECT_EQ(RowsView<float>(no_rows).cols, 4);
  Rows no_cols(4, 0);
  EXPECT_EQ(RowsView<float>(no_cols).rows, 4);
  EXPECT_EQ(RowsView<float>(no_cols).cols, 0);
}

TEST(RowsView, RefusesAnInnerStride) {
  Rows matrix = counted(2, 6);
  using Spread = Eigen::Map<Rows, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>>;
  Spread every_second(matrix.data(), 2, 3, {6, 2});
  EXPECT_THAT([&] { RowsView<float>{every_second}; },
              ThrowsMessage<ShapeError>(HasSubstr("inner stride other than 1")));
  Spread one_column(matrix.data(), 2, 1, {6, 2});  // with one column there is no inner step
  expect_same(RowsView<float>(one_column), one_column);
}

TEST(RowsView, CutsRowsAndColumns) {
  Rows matrix = counted(4, 6);
  const RowsView<float> view(matrix);
  expect_same(view.middle_rows(1, 2), matrix.middleRows(1, 2));
  expect_same(view.middle_cols(2, 3), matrix.middleCols(2, 3));
  EXPECT_EQ(view.row(3), matrix.row(3).data());
}

TEST(HeadsView, AddressesHeadsRowsAndColumns) {
  std::vector<float> numbers(2 * 3 * 4);
  const HeadsView<float> dense(numbers.data(), 2, 3, 4);
  EXPECT_EQ(&dense(1, 2, 3), &numbers[1 * 12 + 2 * 4 + 3]);
  const HeadsView<float> strided(numbers.data(), 2, 3, 2, 2, 8);
  EXPECT_EQ(&strided(1, 2, 1), &numbers[1 * 2 + 2 * 8 + 1]);
  EXPECT_EQ(strided.row(1, 2), &strided(1, 2, 0));
  EXPECT_EQ(&strided.head(1)(2, 1), &strided(1, 2, 1));

  const auto rows = strided.middle_rows(1, 2);
  EXPECT_EQ(rows.rows, 2);
  EXPECT_EQ(&rows(1, 0, 1), &strided(1, 1, 1));
  const auto cols = strided.middle_cols(1, 1);
  EXPECT_EQ(cols.cols, 1);
  EXPECT_EQ(&cols(1, 2, 0), &strided(1, 2, 1));
}

TEST(HeadsView, SeesAMatrixAsOneHead) {
  Rows matrix = counted(4, 6);
  const HeadsView<const float> view(matrix.middleCols(2, 3));
  EXPECT_EQ(view.num_heads, 1);
  expect_same(view.head(0), matrix.middleCols(2, 3));
}

TEST(SplitHeads, CutsTheColumns) {
  Rows matrix = counted(5, 6);
  const auto heads = split_heads(matrix, 3);
  ASSERT_EQ(heads.num_heads, 3);
  for (Index h = 0; h < 3; ++h) expect_same(heads.head(h), matrix.middleCols(2 * h, 2));

  const Rows& constant = matrix;
  static_assert(std::is_same_v<decltype(split_heads(constant, 3)), HeadsView<const float>>);
}

TEST(SplitHeads, RefusesHeadsThatDoNotDivideTheColumns) {
  Rows matrix(5, 6);
  for (const Index num_heads : {4, 0, -1})
    EXPECT_THAT(
        [&] { (void)split_heads(matrix, num_heads); },
        ThrowsMessage<ShapeError>("heed::split_heads: num_heads, " + std::to_string(num_heads) +
                                  ", must be positive and divide the 6 columns"));
}

}  // namespace
}  // namespace heed
