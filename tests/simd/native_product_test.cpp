// SPDX-License-Identifier: MIT
/// \file
/// Register tiles with factors in the page's own element, against plain loops over what was
/// rounded: sums are of float.

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "heed/simd/dot_product.hpp"
#include "heed/simd/product.hpp"
#include "support/expect_attention.hpp"  // WorstError, walk_bound
#include "support/padded_rows.hpp"       // PaddedRows
#include "support/random.hpp"            // Random

namespace heed {
namespace {

using simd::RoundedFactor;
using test::Random;

constexpr Index n = simd::lanes<float>;
constexpr Index step = simd::DepthStep<float, RoundedFactor>::rows;
const bf16 nan = std::numeric_limits<bf16>::quiet_NaN();

/// Numbers that bf16 holds, with unused elements behind each row.
template <class T>
struct Rounded : test::PaddedRows<T> {
  Rounded(Index rows_, Index cols_, Random& random) : test::PaddedRows<T>(rows_, cols_, random) {
    for (T& x : this->data) x = static_cast<T>(static_cast<bf16>(static_cast<float>(x)));
  }
};

/// The sum of the terms, and what it may be off by.
void expect_sum(test::WorstError& worst, float found, const std::vector<double>& terms,
                const std::string& place) {
  double exact = 0;
  for (const double term : terms) exact += term;
  worst.compare(found, exact, test::walk_bound<float, double>(terms),
                [&](auto& words) { words << place; });
}

// Depths that fill no whole step have a factor of 0 without a row, and a page that begins within a
// step one before its rows: what lies there in memory is not looked at.
TEST(NativeProduct, EveryShape) {
  Random random(1);
  test::WorstError worst;
  for (Index rows = 0; rows <= 13; ++rows)
    for (Index vectors = 1; vectors <= 10; ++vectors)
      for (const Index depth : {1, 2, 5, 31, 64, 130})
        for (Index first = 0; first < std::min(step, depth); ++first) {
          const Index whole = round_up(depth, step);
          Rounded<RoundedFactor> left(rows, whole, random);
          for (Index r = 0; r < rows; ++r)
            for (Index k = 0; k < whole; ++k)
              if (k < first || k >= depth) left.view()(r, k) = RoundedFactor(0);
          Rounded<bf16> right(depth, vectors * n, random);
          for (Index c = 0; c < right.cols; ++c)
            for (Index k = 0; k < first; ++k) right.view()(k, c) = nan;
          const Rounded<float> before(rows, vectors * n, random);
          Rounded<float> product = before, sum = before;
          if (first == 0)
            simd::product<float, bf16, RoundedFactor>(left.view(), right.view(), product.view(),
                                                      right.data.data());
          simd::add_product<float, bf16, RoundedFactor>(left.view(),
                                                        StripsView(std::as_const(right).view()),
                                                        sum.view(), first, right.data.data());
          for (Index r = 0; r < rows; ++r)
            for (Index c = 0; c < before.cols; ++c) {
              const std::string place = std::to_string(rows) + " rows, depth " +
                                        std::to_string(depth) + ", row " + std::to_string(r) +
                                        ", column " + std::to_string(c);
              std::vector<double> terms;
              for (Index k = first; k < depth; ++k)
                terms.push_back(static_cast<double>(left.view()(r, k)) *
                                static_cast<double>(right.view()(k, c)));
              if (first == 0) expect_sum(worst, product.view()(r, c), terms, place);
              terms.push_back(static_cast<double>(before.view()(r, c)));
              expect_sum(worst, sum.view()(r, c), terms, place + " of the sum");
            }
        }
  worst.expect_within_bounds();
}

TEST(NativeProduct, OfDotProductsEveryShape) {
  Random random(2);
  test::WorstError worst;
  for (Index rows = 0; rows <= 11; ++rows)
    for (Index tokens = 0; tokens <= 9; ++tokens)
      for (const Index depth : {1, 2, 3, 5, 36}) {
        const Rounded<RoundedFactor> left(rows, depth * simd::row_padding, random);
        const Rounded<bf16> right(tokens, depth * simd::row_padding, random);
        Rounded<float> found(rows, tokens, random);
        simd::dot_product<float, bf16, RoundedFactor>(left.view(), right.view(), found.view());
        for (Index r = 0; r < rows; ++r)
          for (Index t = 0; t < tokens; ++t) {
            std::vector<double> terms;
            for (Index k = 0; k < left.cols; ++k)
              terms.push_back(static_cast<double>(left.view()(r, k)) *
                              static_cast<double>(right.view()(t, k)));
            expect_sum(worst, found.view()(r, t), terms,
                       "row " + std::to_string(r) + ", token " + std::to_string(t));
          }
      }
  worst.expect_within_bounds();
}

TEST(NativeProduct, BitsOfARowDoNotDependOnTheOthers) {
  Random random(3);
  for (Index rows = 1; rows <= 13; ++rows)
    for (const Index vectors : {1, 3, 8, 11}) {
      const Rounded<RoundedFactor> left(rows, 48, random);
      const Rounded<bf16> right(48, vectors * n, random), tokens(vectors, 48, random);
      const Rounded<float> before(rows, vectors * n, random);
      Rounded<float> together = before, alone = before;
      Rounded<float> scores(rows, vectors, random), one = scores;
      simd::product<float, bf16, RoundedFactor>(left.view(), right.view(), together.view(),
                                                right.data.data());
      simd::dot_product<float, bf16, RoundedFactor>(left.view(), tokens.view(), scores.view());
      for (Index r = 0; r < rows; ++r) {
        const RowsView<const RoundedFactor> row = left.view().middle_rows(r, 1);
        simd::product<float, bf16, RoundedFactor>(row, right.view(), alone.view().middle_rows(r, 1),
                                                  right.data.data());
        simd::dot_product<float, bf16, RoundedFactor>(row, tokens.view(),
                                                      one.view().middle_rows(r, 1));
      }
      EXPECT_EQ(together.data, alone.data);
      EXPECT_EQ(scores.data, one.data);
    }
}

TEST(NativeProduct, FactorsAreRoundedToNearestEven) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  // bf16 has 8 bits: between 1 and 2 a 128th apart.
  std::vector<float> given(static_cast<std::size_t>(n), 0), expected = given;
  const std::vector<std::pair<float, float>> cases{{1, 1},
                                                   {1 + 1 / 256.0F, 1},
                                                   {1 + 3 / 256.0F, 1 + 2 / 128.0F},
                                                   {-1 - 1 / 255.0F, -1 - 1 / 128.0F},
                                                   {0.1F, static_cast<float>(bf16(0.1F))},
                                                   {infinity, infinity}};
  for (std::size_t i = 0; i < given.size(); ++i)
    given[i] = cases[i % cases.size()].first, expected[i] = cases[i % cases.size()].second;
  std::vector<RoundedFactor> found(given.size());
  simd::store_rounded(found.data(), simd::load(given.data()));
  for (std::size_t i = 0; i < found.size(); ++i)
    EXPECT_EQ(static_cast<float>(found[i]), expected[i]) << given[i];
  given.assign(given.size(), std::numeric_limits<float>::quiet_NaN());
  simd::store_rounded(found.data(), simd::load(given.data()));
  for (const RoundedFactor factor : found) EXPECT_TRUE(std::isnan(static_cast<float>(factor)));
}

}  // namespace
}  // namespace heed
