// SPDX-License-Identifier: MIT
/// \file
/// Register tiles for codes, against plain loops over whole numbers.

#include "heed/simd/code_product.hpp"

#include <cmath>
#include <concepts>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "heed/simd/nibbles.hpp"
#include "support/expect_attention.hpp"  // WorstError
#include "support/padded_rows.hpp"       // PaddedRows
#include "support/random.hpp"            // Random

namespace heed {
namespace {

using test::Random;

constexpr Index n = simd::lanes<float>;
template <class Factor>
inline constexpr int num_codes = 0;
template <int Codes, class Code>
inline constexpr int num_codes<simd::SplitCode<Codes, Code>> = Codes;
/// The largest whole number that a factor stands for, in units.
template <class Factor>
inline constexpr float most =
    num_codes<Factor> == 2 ? (Factor::has_sign ? 32639.0F : 65535.0F)
                           : (Factor::has_sign ? 8355584.0F : 16776960.0F);

/// What a factor may be off by, in units: half of one, and of 24 bits what three roundings of float
/// do, of the inverse, the product and the unit, each of at most a unit, with a sign half of one (a
/// quarter, of the product).
template <class Factor>
inline constexpr double units_off = num_codes<Factor> == 2 ? 0.51
                                    : Factor::has_sign     ? 1.75
                                                           : 3.5;

template <class T>
using Rows = test::PaddedRows<T>;

/// Rows of factors whose places [begin, end) hold numbers, or their magnitudes where factors have
/// no sign, and zeros up to whole blocks.
template <class Code>
struct Factors {
  Index rows, stride;
  std::vector<Code> codes;
  std::vector<simd::CodeRow> units;

  Factors(const Rows<float>& numbers, Index begin)
      : rows(numbers.rows), stride(round_up(begin + numbers.cols, Code::block)),
        codes(static_cast<std::size_t>(rows * stride)) {
    std::vector<float> row(static_cast<std::size_t>(stride));
    for (Index r = 0; r < rows; ++r) {
      for (Index c = 0; c < numbers.cols; ++c)
        row[static_cast<std::size_t>(begin + c)] = kept(numbers.view()(r, c));
      units.push_back(
          simd::encode(row.data(), 0, begin + numbers.cols, codes.data() + r * stride, stride));
    }
  }
  static float kept(float number) { return Code::has_sign ? number : std::abs(number); }
  RowsView<const Code> view() const { return {codes.data(), rows, stride}; }
  std::int64_t code(Index r, Index k) const {
    const auto* const upper = Code::upper(codes.data() + r * stride, k);
    std::int64_t number = 0;
    for (int i = 0; i < num_codes<Code>; ++i) number = 256 * number + upper[i * Code::block];
    return number;
  }
  double unit(Index r) const {
    return static_cast<double>(units[static_cast<std::size_t>(r)].unit);
  }
};

/// A product of a row of factors, worked out exactly.
struct ExactProduct {
  std::int64_t sum = 0;        ///< of whole numbers, in units
  std::int64_t magnitude = 0;  ///< of the page's codes alone

  void add(std::int64_t factor, int8 code) {
    sum += factor * code;
    magnitude += std::abs(code);
  }
};

/// unit * sum is rounded when the sums of its codes are put together, when it is multiplied, and
/// when it is added. Of three codes the lower two are put together first, to less than
/// 2^16 * magnitude, which the third may cancel.
template <class Factor>
void expect_near(test::WorstError& worst, float found, double unit, const ExactProduct& of,
                 double added_to, const std::string& place) {
  const double product = unit * static_cast<double>(of.sum);
  const double lower =
      num_codes<Factor> == 3 ? unit * 0x1p16 * static_cast<double>(of.magnitude) : 0;
  const double bound = 0x1p-24 * (3 * std::abs(product) + lower + std::abs(added_to));
  worst.compare(found, static_cast<long double>(product) + added_to, bound,
                [&](auto& words) { words << place; });
}

template <class Factor>
class CodeProduct : public testing::Test {
 protected:
  static constexpr bool is_there = !std::same_as<Factor, float>;
  static constexpr bool is_query = num_codes<Factor> > 0 && requires { requires Factor::has_sign; };
  void SetUp() override {
    if (!is_there) GTEST_SKIP() << "the target has no products of codes";
  }
};
using CodeFactors = testing::Types<simd::CodeFactor<simd::native_codes, int8>,
                                   simd::CodeFactor<simd::exact_codes, int8>,
                                   simd::CodeFactor<simd::native_codes, std::uint8_t>,
                                   simd::CodeFactor<simd::exact_codes, std::uint8_t>>;
TYPED_TEST_SUITE(CodeProduct, CodeFactors);

/// out = left . right of queries, out += left . right of probabilities.
template <class Code, class Page, class Element>
void multiply(RowsView<const Code> left, const simd::CodeRow* units, const Page& right,
              RowsView<float> out, Index first, const Element* ahead) {
  if constexpr (Code::has_sign)
    simd::product(left, units, right, out, ahead);
  else
    simd::add_product(left, units, StripsView(right), out, first, ahead);
}

TYPED_TEST(CodeProduct, EveryShape) {
  if constexpr (TestFixture::is_there) {
    using Step = simd::DepthStep<float, TypeParam>;
    Random random(1);
    test::WorstError worst;
    for (Index rows = 0; rows <= 13; ++rows)
      for (Index vectors = 1; vectors <= 10; ++vectors)
        for (const Index depth : {1, 2, 5, 64, 67, 130})
          for (const Index first : {0, 1, 4, 62}) {
            if (first >= depth || (first > 0 && TypeParam::has_sign)) continue;
            const Factors<TypeParam> left(Rows<float>(rows, depth - first, random), first);
            const Rows<int8> right = Rows<int8>(depth, vectors * n, random);
            const Rows<float> before = Rows<float>(rows, vectors * n, random);
            Rows<float> found = before;
            multiply(left.view().middle_cols(0, round_up(depth, Step::rows)), left.units.data(),
                     right.view(), found.view(), first, right.data.data());
            for (Index r = 0; r < rows; ++r)
              for (Index c = 0; c < before.stride; ++c) {
                const auto at = static_cast<std::size_t>(r * before.stride + c);
                if (c >= before.cols) {
                  EXPECT_EQ(found.data[at], before.data[at]) << "gap";
                  continue;
                }
                ExactProduct exact;
                for (Index k = first; k < depth; ++k)
                  exact.add(left.code(r, k), right.view()(k, c));
                const double added_to =
                    TypeParam::has_sign ? 0 : static_cast<double>(before.data[at]);
                expect_near<TypeParam>(worst, found.data[at], left.unit(r), exact, added_to,
                                       std::to_string(rows) + " rows, depth " +
                                           std::to_string(depth) + ", row " + std::to_string(r) +
                                           ", column " + std::to_string(c));
              }
          }
    worst.expect_within_bounds();
  }
}

TYPED_TEST(CodeProduct, OfDotProductsEveryShape) {
  if constexpr (TestFixture::is_query) {
    Random random(2);
    test::WorstError worst;
    for (Index rows = 0; rows <= 7; ++rows)
      for (const Index tokens : {0, 4, 8, 16})
        for (const Index depth : {16, 48, 64, 80, 512}) {
          const Factors<TypeParam> left(Rows<float>(rows, depth, random), 0);
          const Rows<int8> right = Rows<int8>(tokens, depth, random);
          Rows<float> found = Rows<float>(rows, tokens, random);
          const Rows<float> before = found;
          simd::dot_product(left.view(), left.units.data(), right.view(), found.view());
          for (Index r = 0; r < rows; ++r)
            for (Index t = 0; t < found.stride; ++t) {
              const auto at = static_cast<std::size_t>(r * found.stride + t);
              if (t >= tokens) {
                EXPECT_EQ(found.data[at], before.data[at]) << "gap";
                continue;
              }
              ExactProduct exact;
              for (Index k = 0; k < depth; ++k) exact.add(left.code(r, k), right.view()(t, k));
              expect_near<TypeParam>(worst, found.data[at], left.unit(r), exact, 0,
                                     "row " + std::to_string(r) + ", token " + std::to_string(t));
            }
        }
    worst.expect_within_bounds();
  }
}

// Sums are of whole numbers either way.
TYPED_TEST(CodeProduct, OfNibblesIsThatOfTheirCodes) {
  if constexpr (TestFixture::is_there) {
    using Step = simd::DepthStep<float, TypeParam>;
    Random random(6);
    for (const Index rows : {1, 2, 3, 13})
      for (const Index vectors : {1, 2, 3, 4, 8, 11})
        for (const Index depth : {1, 2, 5, 48, 64, 67})
          for (const Index first : {0, 1, 2, 7}) {
            if (first >= depth || (first > 0 && TypeParam::has_sign)) continue;
            const Index cols = vectors * n, pairs = ceil_div(depth, 2);
            std::vector<int4> nibbles(static_cast<std::size_t>(pairs * cols));
            for (int4& element : nibbles)
              element.pair = static_cast<std::uint8_t>(random.integer(0, 255));
            std::vector<int8> codes(2 * nibbles.size());
            simd::unpack_codes(nibbles.data(), pairs, cols, codes.data());
            const RowsView<const int4> packed(nibbles.data(), pairs, cols);
            const RowsView<const int8> unpacked(codes.data(), depth, cols);
            const std::string place = std::to_string(rows) + " rows, depth " +
                                      std::to_string(depth) + " from " + std::to_string(first) +
                                      ", " + std::to_string(cols) + " columns";

            const Factors<TypeParam> left(Rows<float>(rows, depth - first, random), first);
            Rows<float> expected = Rows<float>(rows, cols, random), found = expected;
            const auto some = left.view().middle_cols(0, round_up(depth, Step::rows));
            multiply(some, left.units.data(), unpacked, expected.view(), first, unpacked.data);
            multiply(some, left.units.data(), packed, found.view(), first, packed.data);
            EXPECT_EQ(found.data, expected.data) << place;
            if constexpr (TestFixture::is_query) {
              const Index tokens = 2 * pairs / 4 * 4;
              const Factors<TypeParam> query(Rows<float>(rows, cols, random), 0);
              Rows<float> scores = Rows<float>(rows, tokens, random), of_nibbles = scores;
              simd::dot_product(query.view(), query.units.data(),
                                RowsView<const int8>(codes.data(), tokens, cols), scores.view());
              simd::dot_product(query.view(), query.units.data(),
                                RowsView<const int4>(nibbles.data(), tokens / 2, cols),
                                of_nibbles.view());
              EXPECT_EQ(of_nibbles.data, scores.data) << place << ", dot products";
            }
          }
  }
}

// The largest sums there are: of a thousand products, all of one sign.
TYPED_TEST(CodeProduct, OfTheLargestCodesIsExact) {
  if constexpr (TestFixture::is_there) {
    constexpr Index depth = 1024;
    Random random(3);
    Rows<float> numbers(1, depth, random);
    Rows<int8> keys(4, depth, random), columns(depth, n, random);
    for (const int sign : {1, -1}) {
      std::fill(numbers.data.begin(), numbers.data.end(), most<TypeParam>);
      std::fill(keys.data.begin(), keys.data.end(), static_cast<int8>(sign * 127));
      std::fill(columns.data.begin(), columns.data.end(), static_cast<int8>(sign * 127));
      const Factors<TypeParam> left(numbers, 0);
      Rows<float> score(1, 4, random), product(1, n, random);
      std::fill(product.data.begin(), product.data.end(), 0.0F);
      multiply(left.view(), left.units.data(), std::as_const(columns).view(), product.view(), 0,
               std::as_const(columns).data.data());
      const auto exact =
          static_cast<float>(sign * 127.0 * static_cast<double>(most<TypeParam>) * depth);
      if constexpr (TestFixture::is_query) {
        simd::dot_product(left.view(), left.units.data(), std::as_const(keys).view(), score.view());
        for (Index t = 0; t < 4; ++t) EXPECT_EQ(score.view()(0, t), exact);
      }
      for (Index c = 0; c < n; ++c) EXPECT_EQ(product.view()(0, c), exact);
    }
  }
}

TYPED_TEST(CodeProduct, BitsOfARowDoNotDependOnTheOthers) {
  if constexpr (TestFixture::is_there) {
    Random random(4);
    for (Index rows = 1; rows <= 13; ++rows)
      for (const Index vectors : {1, 3, 8, 11}) {
        const Factors<TypeParam> left(Rows<float>(rows, 48, random), 0);
        const Rows<int8> right = Rows<int8>(48, vectors * n, random),
                         tokens = Rows<int8>(4 * vectors, 48, random);
        const Rows<float> before = Rows<float>(rows, vectors * n, random);
        Rows<float> together = before, alone = before;
        Rows<float> scores = Rows<float>(rows, 4 * vectors, random), one = scores;
        multiply(left.view(), left.units.data(), right.view(), together.view(), 0,
                 right.data.data());
        if constexpr (TestFixture::is_query)
          simd::dot_product(left.view(), left.units.data(), tokens.view(), scores.view());
        for (Index r = 0; r < rows; ++r) {
          const RowsView<const TypeParam> row = left.view().middle_rows(r, 1);
          multiply(row, left.units.data() + r, right.view(), alone.view().middle_rows(r, 1), 0,
                   right.data.data());
          if constexpr (TestFixture::is_query)
            simd::dot_product(row, left.units.data() + r, tokens.view(),
                              one.view().middle_rows(r, 1));
        }
        EXPECT_EQ(together.data, alone.data);
        EXPECT_EQ(scores.data, one.data);
      }
  }
}

TYPED_TEST(CodeProduct, FactorsAreWithinTheirUnits) {
  if constexpr (TestFixture::is_there) {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    constexpr float nan = std::numeric_limits<float>::quiet_NaN();
    Random random(5);
    for (const Index cols : {1, 15, 16, 33, 64, 100}) {
      Rows<float> numbers = Rows<float>(1, cols, random);
      numbers.data[static_cast<std::size_t>(cols / 2)] = -40;
      const Factors<TypeParam> factors(numbers, 0);
      EXPECT_FLOAT_EQ(factors.units[0].unit, 40.0F / most<TypeParam>);
      for (Index k = 0; k < factors.stride; ++k) {
        const double number =
            k < cols ? static_cast<double>(factors.kept(numbers.view()(0, k))) : 0;
        EXPECT_NEAR(factors.unit(0) * static_cast<double>(factors.code(0, k)), number,
                    units_off<TypeParam> * factors.unit(0));
      }
      for (const float bad : {nan, infinity, -infinity}) {
        Rows<float> other = numbers;
        other.data[static_cast<std::size_t>(cols - 1)] = bad;
        EXPECT_TRUE(std::isnan(Factors<TypeParam>(other, 0).unit(0)));
      }
      for (const float small : {0.0F, 1e-36F, std::numeric_limits<float>::denorm_min()}) {
        Rows<float> other = numbers;
        std::fill(other.data.begin(), other.data.end(), small);
        const Factors<TypeParam> none(other, 0);
        EXPECT_EQ(none.unit(0), 0);
        for (Index k = 0; k < none.stride; ++k) EXPECT_EQ(none.code(0, k), 0);
      }
    }
  }
}

// It is rounded to the largest code or past it, which must not be one too many for its bits.
TYPED_TEST(CodeProduct, TheLargestFactorIsWithinItsUnits) {
  if constexpr (TestFixture::is_there) {
    Random random(7);
    for (int i = 0; i < 2000; ++i) {
      Rows<float> number(1, 1, random);
      const Factors<TypeParam> factors(number, 0);
      EXPECT_NEAR(factors.unit(0) * static_cast<double>(factors.code(0, 0)),
                  static_cast<double>(factors.kept(number.view()(0, 0))),
                  units_off<TypeParam> * factors.unit(0));
    }
  }
}

}  // namespace
}  // namespace heed
