// SPDX-License-Identifier: MIT
/// \file
/// Products of any shape with a weight, either way round, against their formula; what a row gets
/// does not depend on the rows beside it, nor on what a weight's numbers are stored as.

#include "heed/simd/projection.hpp"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "support/expect_attention.hpp"  // WorstError, walk_bound
#include "support/layer_case.hpp"        // normal_matrix

namespace heed {
namespace {

using simd::WeightLayout;
using test::Exact;
using test::Matrix;
using test::Random;
using test::view;

template <class T>
class Projections : public testing::Test {
 protected:
  using E = Exact<T>;

  /// Calls f(x, weight, y) for many shapes. Operands are columns of wider matrices.
  template <WeightLayout layout, class F>
  static void for_each_shape(const F& f) {
    Random random(1);
    for (const Index in : {0, 1, 5, 16, 67, 130, 2100, 4100})
      for (const Index out : {1, 3, 4, 8, 9, 40})
        for (const Index rows : {1, 2, 3, 6, 11, 26, 70}) {
          if (in > 200 && out > 9) continue;  // for time
          SCOPED_TRACE(std::to_string(rows) + " rows, " + std::to_string(in) + " to " +
                       std::to_string(out));
          constexpr bool out_in = layout == WeightLayout::out_in;
          const auto x = test::normal_matrix<T>(rows, in + 3, random);
          const auto weight =
              test::normal_matrix<T>(out_in ? out : in, (out_in ? in : out) + 5, random);
          Matrix<T> y(rows, out + 2);
          y.data.assign(y.data.size(), std::numeric_limits<T>::quiet_NaN());
          const RowsView<const T> x_view = view(x).middle_cols(3, in);
          const RowsView<const T> weight_view = view(weight).middle_cols(5, out_in ? in : out);
          const RowsView<T> y_view = view(y).middle_cols(1, out);
          simd::multiply<layout>(x_view, weight_view, y_view);
          f(x_view, weight_view, y_view);
          for (Index r = 0; r < rows; ++r)
            EXPECT_TRUE(y(r, 0) != y(r, 0) && y(r, out + 1) != y(r, out + 1));
        }
  }

  template <WeightLayout layout>
  static void expect_formula() {
    for_each_shape<layout>([](auto x, auto weight, auto y) {
      test::WorstError worst;
      std::vector<E> terms;
      for (Index r = 0; r < y.rows; ++r)
        for (Index o = 0; o < y.cols; ++o) {
          terms.clear();
          E exact = 0;
          for (Index k = 0; k < x.cols; ++k) {
            terms.push_back(E{x(r, k)} *
                            E{layout == WeightLayout::out_in ? weight(o, k) : weight(k, o)});
            exact += terms.back();
          }
          worst.compare(y(r, o), exact, test::walk_bound<T, E>(terms),
                        [&](auto& words) { words << "row " << r << ", output " << o; });
        }
      worst.expect_within_bounds();
    });
  }

  template <WeightLayout layout>
  static void expect_bits_of_each_row() {
    for_each_shape<layout>([](auto x, auto weight, auto y) {
      if (y.rows > simd::detail::most_rows) return;
      std::vector<T> alone(static_cast<std::size_t>(y.cols));
      for (Index r = 0; r < y.rows; ++r) {
        simd::multiply<layout>(x.middle_rows(r, 1), weight,
                               RowsView<T>(alone.data(), 1, y.cols, y.cols));
        EXPECT_TRUE(std::equal(alone.begin(), alone.end(), y.row(r))) << "row " << r;
      }
    });
  }

  /// With weights of E16 a result has the bits that it has with the same numbers in T.
  template <WeightLayout layout, class E16>
  static void expect_bits_of_widened(RowsView<const T> x, RowsView<const T> weight, RowsView<T> y) {
    const Index stride = weight.cols + 3;
    std::vector<E16> narrow(static_cast<std::size_t>(weight.rows * stride));
    Matrix<T> widened(weight.rows, weight.cols);
    for (Index r = 0; r < weight.rows; ++r)
      for (Index c = 0; c < weight.cols; ++c) {
        E16& number = narrow[static_cast<std::size_t>(r * stride + c)];
        number = static_cast<E16>(weight(r, c));
        widened(r, c) = static_cast<T>(number);
      }
    simd::multiply<layout>(x, RowsView<const E16>(narrow.data(), weight.rows, weight.cols, stride),
                           y);
    Matrix<T> expected(y.rows, y.cols);
    simd::multiply<layout>(x, view(std::as_const(widened)), view(expected));
    for (Index r = 0; r < y.rows; ++r)
      EXPECT_TRUE(std::equal(y.row(r), y.row(r) + y.cols, view(expected).row(r))) << "row " << r;
  }
  template <WeightLayout layout>
  static void expect_bits_of_widened() {
    for_each_shape<layout>([](auto x, auto weight, auto y) {
      if (y.rows > 26) return;  // for time; whatever the target, no row is Eigen's
      expect_bits_of_widened<layout, bf16>(x, weight, y);
      expect_bits_of_widened<layout, f16>(x, weight, y);
    });
  }
};
using Elements = testing::Types<float, double>;
TYPED_TEST_SUITE(Projections, Elements);

TYPED_TEST(Projections, AreTheirFormula) {
  this->template expect_formula<WeightLayout::out_in>();
  this->template expect_formula<WeightLayout::in_out>();
}

TYPED_TEST(Projections, GiveARowTheBitsThatItGetsAlone) {
  this->template expect_bits_of_each_row<WeightLayout::out_in>();
  this->template expect_bits_of_each_row<WeightLayout::in_out>();
}

TYPED_TEST(Projections, TakeWeightsOf16BitsAsIfTheyWereWidened) {
  this->template expect_bits_of_widened<WeightLayout::out_in>();
  this->template expect_bits_of_widened<WeightLayout::in_out>();
}

}  // namespace
}  // namespace heed
