// SPDX-License-Identifier: MIT
/// \file
/// Register tiles against plain loops, over every number of rows, widths, depths and strides.

#include "heed/simd/product.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "heed/simd/dot_product.hpp"
#include "support/expect_attention.hpp"  // Exact, WorstError, walk_bound
#include "support/padded_rows.hpp"       // PaddedRows
#include "support/random.hpp"            // Random

namespace heed {
namespace {

using test::Exact;
using test::Random;

constexpr Index most_rows = 17;

template <class T>
using Rows = test::PaddedRows<T>;

/// What a product does with the result that is there.
enum class Result { overwritten, added_to };

/// Holds found(r, c) against sum_k left(r, k) * factor(k, c), and before(r, c) if that was added
/// to; what lies between the rows must not have changed.
template <class T, class Factor>
void expect_product(const Rows<T>& found, const Rows<T>& before, const Rows<T>& left, Result result,
                    const Factor& factor) {
  using E = Exact<T>;
  test::WorstError worst;
  std::vector<E> products;
  for (Index r = 0; r < found.rows; ++r) {
    for (Index c = 0; c < found.cols; ++c) {
      products.clear();
      for (Index k = 0; k < left.cols; ++k)
        products.push_back(E{left.view()(r, k)} * E{factor(k, c)});
      if (result == Result::added_to) products.push_back(E{before.view()(r, c)});
      E exact = 0;
      for (const E product : products) exact += product;
      worst.compare(found.view()(r, c), exact, test::walk_bound<T, E>(products),
                    [&](auto& words) { words << "row " << r << ", column " << c; });
    }
    for (Index c = found.cols; c < found.stride; ++c)
      EXPECT_EQ(found.view()(r, c), before.view()(r, c)) << "gap";
  }
  worst.expect_within_bounds();
}

template <class T>
std::string text(const Rows<T>& left, const Rows<T>& out) {
  return std::to_string(left.rows) + " rows, depth " + std::to_string(left.cols) + ", " +
         std::to_string(out.cols) + " columns";
}

template <class T>
class Product : public testing::Test {
 protected:
  static constexpr Index n = simd::lanes<T>;
};
using Elements = testing::Types<float, double>;
TYPED_TEST_SUITE(Product, Elements);

TYPED_TEST(Product, EveryShape) {
  Random random(1);
  for (Index rows = 0; rows <= most_rows; ++rows)
    for (Index vectors = 1; vectors <= 18; ++vectors)
      for (const Index depth : {0, 1, 2, 5, 31, 32, 33, 64, 130}) {
        const Rows<TypeParam> left(rows, depth, random), right(depth, vectors * this->n, random);
        const Rows<TypeParam> before(rows, vectors * this->n, random);
        SCOPED_TRACE(text(left, before));
        const auto factor = [&](Index k, Index c) { return right.view()(k, c); };
        Rows<TypeParam> found = before;
        simd::product(left.view(), right.view(), found.view(), right.data.data());
        expect_product(found, before, left, Result::overwritten, factor);
        found = before;
        simd::add_product(left.view(), StripsView(right.view()), found.view(), 0,
                          right.data.data());
        expect_product(found, before, left, Result::added_to, factor);
      }
}

TYPED_TEST(Product, OfDotProductsEveryShape) {
  Random random(2);
  for (Index rows = 0; rows <= most_rows; ++rows)
    for (Index tokens = 0; tokens <= 20; ++tokens)
      for (const Index vectors : {1, 2, 3, 7, 12}) {
        const Rows<TypeParam> left(rows, vectors * this->n, random),
            right(tokens, vectors * this->n, random);
        const Rows<TypeParam> before(rows, tokens, random);
        SCOPED_TRACE(text(left, before));
        Rows<TypeParam> found = before;
        simd::dot_product(left.view(), right.view(), found.view());
        expect_product(found, before, left, Result::overwritten,
                       [&](Index k, Index c) { return right.view()(c, k); });
      }
}

/// Calls multiply(left, out) on all rows and on each row alone: the bits must agree.
template <class T, class Multiply>
void expect_rows_alone(const Rows<T>& left, const Rows<T>& before, const Multiply& multiply) {
  SCOPED_TRACE(text(left, before));
  Rows<T> together = before, alone = before;
  multiply(left.view(), together.view());
  for (Index r = 0; r < left.rows; ++r)
    multiply(left.view().middle_rows(r, 1), alone.view().middle_rows(r, 1));
  EXPECT_EQ(together.data, alone.data);
}

TYPED_TEST(Product, BitsOfARowDoNotDependOnTheOthers) {
  using In = RowsView<const TypeParam>;
  using Out = RowsView<TypeParam>;
  Random random(3);
  for (Index rows = 1; rows <= most_rows; ++rows)
    for (const Index vectors : {1, 3, 4, 8, 11})
      for (const Index depth : {1, 32, 64, 129}) {
        const Index cols = vectors * this->n;
        const Rows<TypeParam> left(rows, depth, random), right(depth, cols, random),
            out(rows, cols, random);
        expect_rows_alone(left, out, [&](In some, Out to) {
          simd::product(some, right.view(), to, right.data.data());
        });
        expect_rows_alone(left, out, [&](In some, Out to) {
          simd::add_product(some, StripsView(right.view()), to, 0, right.data.data());
        });
        const Rows<TypeParam> wide(rows, cols, random), tokens(depth, cols, random),
            scores(rows, depth, random);
        expect_rows_alone(wide, scores,
                          [&](In some, Out to) { simd::dot_product(some, tokens.view(), to); });
      }
}

// Nor do the bits of a column depend on how wide the product is.
TYPED_TEST(Product, BitsOfAColumnDoNotDependOnTheOthers) {
  Random random(4);
  for (const Index rows : {1, 2, 6, 7})
    for (Index vectors = 1; vectors <= 12; ++vectors) {
      const Rows<TypeParam> left(rows, 40, random), right(40, vectors * this->n, random);
      const Rows<TypeParam> before(rows, vectors * this->n, random);
      Rows<TypeParam> together = before, alone = before;
      simd::product(left.view(), right.view(), together.view(), right.data.data());
      for (Index v = 0; v < vectors; ++v)
        simd::product(left.view(), right.view().middle_cols(v * this->n, this->n),
                      alone.view().middle_cols(v * this->n, this->n), right.data.data());
      EXPECT_EQ(together.data, alone.data);
    }
}

// Nor on whether rows lie in one piece or in strips.
TYPED_TEST(Product, BitsOfStripsAreThoseOfRows) {
  Random random(7);
  for (Index rows = 1; rows <= most_rows; ++rows)
    for (const Index cols : {strip_width, 3 * strip_width, 3 * strip_width - this->n}) {
      constexpr Index depth = page_size;
      const Rows<TypeParam> left(rows, depth, random), right(depth, cols, random);
      const Rows<TypeParam> before(rows, cols, random);
      SCOPED_TRACE(text(left, before));
      std::vector<TypeParam> memory(3 * depth * strip_width);
      const StripsView<TypeParam> strips(memory.data(), depth, cols, strip_width,
                                         depth * strip_width);
      for (Index k = 0; k < depth; ++k)
        for (Index c = 0; c < cols; ++c) *strips.at(k, c) = right.view()(k, c);
      Rows<TypeParam> of_rows = before, of_strips = before;
      simd::add_product(left.view(), StripsView(right.view()), of_rows.view(), 3,
                        right.data.data());
      simd::add_product(
          left.view(),
          StripsView<const TypeParam>(memory.data(), depth, cols, strip_width, depth * strip_width),
          of_strips.view(), 3, std::as_const(memory).data());
      EXPECT_EQ(of_rows.data, of_strips.data);
    }
}

// A row with a NaN leaves the others as they are.
TYPED_TEST(Product, NanStaysInItsRow) {
  Random random(5);
  Rows<TypeParam> left(13, 20, random);
  const Rows<TypeParam> right(20, 2 * this->n, random), before(13, 2 * this->n, random);
  const auto multiply = [&] {
    Rows<TypeParam> out = before;
    simd::product(std::as_const(left).view(), right.view(), out.view(), right.data.data());
    return out;
  };
  const auto clean = multiply();
  for (Index bad = 0; bad < left.rows; ++bad) {
    const TypeParam kept =
        std::exchange(left.view()(bad, 7), std::numeric_limits<TypeParam>::quiet_NaN());
    const auto found = multiply();
    left.view()(bad, 7) = kept;
    for (Index r = 0; r < found.rows; ++r)
      for (Index c = 0; c < found.cols; ++c) {
        const TypeParam element = found.view()(r, c);
        EXPECT_TRUE(r == bad ? std::isnan(element) : element == clean.view()(r, c))
            << "row " << r << ", bad row " << bad;
      }
  }
}

}  // namespace
}  // namespace heed
