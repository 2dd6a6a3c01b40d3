// SPDX-License-Identifier: MIT
/// \file
/// Numbers become the elements and the codes that are nearest to them, in every place of a row.

#include "heed/simd/narrow.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "support/random.hpp"  // Random

namespace heed {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

template <class Element>
class Narrow : public testing::Test {};
using Elements = testing::Types<f16, bf16>;
TYPED_TEST_SUITE(Narrow, Elements);

/// Every element, and the numbers around those and around the middle of two.
template <class Element>
std::vector<float> numbers_to_round() {
  std::vector<float> numbers{1e-45F, -1e-45F, 3e38F, -3e38F, std::bit_cast<float>(0x7F800001)};
  for (std::uint32_t bits = 0; bits < 0xFFFF; ++bits) {
    const auto element = [](std::uint32_t b) {
      return static_cast<float>(std::bit_cast<Element>(static_cast<std::uint16_t>(b)));
    };
    const float x = element(bits), middle = x / 2 + element(bits + 1) / 2;
    for (const float at : {x, middle})
      numbers.insert(numbers.end(), {at, std::nextafter(at, infinity), std::nextafter(at, 0.0F)});
  }
  return numbers;
}

TYPED_TEST(Narrow, IsWhatACastGives) {
  const auto numbers = numbers_to_round<TypeParam>();
  std::vector<TypeParam> found(numbers.size());
  simd::narrow(numbers.data(), std::ssize(numbers), found.data());
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const TypeParam expected(numbers[i]);
    const bool same =
        std::bit_cast<std::uint16_t>(found[i]) == std::bit_cast<std::uint16_t>(expected);
    ASSERT_TRUE(std::isnan(numbers[i]) ? std::isnan(static_cast<float>(found[i])) : same)
        << numbers[i];
  }
}

TYPED_TEST(Narrow, WritesARowOfAnyLengthAndNothingBehindIt) {
  test::Random random(1);
  for (Index count = 0; count <= 70; ++count) {
    const auto numbers = random.normals<float>(count);
    std::vector<TypeParam> found(static_cast<std::size_t>(count) + 1, TypeParam(777));
    simd::narrow(numbers.data(), count, found.data());
    for (std::size_t i = 0; i < numbers.size(); ++i) EXPECT_EQ(found[i], TypeParam(numbers[i]));
    EXPECT_EQ(found.back(), TypeParam(777)) << count;
  }
}

TEST(LargestMagnitude, IsFoundInAnyPlace) {
  EXPECT_EQ(simd::largest_magnitude(nullptr, 0), 0);
  test::Random random(1);
  for (Index count = 1; count <= 70; ++count)
    for (Index at = 0; at < count; ++at) {
      auto numbers = random.normals<float>(count);
      for (const float most : {100.0F, -100.0F, infinity, -infinity, 1e38F}) {
        numbers[static_cast<std::size_t>(at)] = most;
        EXPECT_EQ(simd::largest_magnitude(numbers.data(), count), std::abs(most)) << count;
      }
      for (const float none : {nan, -nan}) {
        numbers[static_cast<std::size_t>(at)] = none;
        EXPECT_TRUE(std::isnan(simd::largest_magnitude(numbers.data(), count))) << count;
      }
    }
}

template <class Element>
class EncodeRowOf : public testing::Test {};
using Codes = testing::Types<int8, int4>;
TYPED_TEST_SUITE(EncodeRowOf, Codes);

/// The codes of a row of a page, whose elements held all ones before.
template <class Element>
std::vector<int> encoded(const std::vector<float>& numbers, float scale, float offset, Index row) {
  std::vector<Element> elements(numbers.size() + 1, std::bit_cast<Element>(std::uint8_t{0xFF}));
  simd::encode_row(numbers.data(), std::ssize(numbers), scale, offset, row, elements.data());
  EXPECT_EQ(std::bit_cast<std::uint8_t>(elements.back()), 0xFF) << "written behind the row";
  elements.pop_back();
  std::vector<int> codes;
  for (const Element element : elements) {
    codes.push_back(simd::code_of(element, row));
    // What lies there of the other row is as it was.
    const bool is_shared = std::same_as<Element, int4>;
    EXPECT_EQ(simd::code_of(element, row + 1), is_shared ? 15 : codes.back());
  }
  return codes;
}

TYPED_TEST(EncodeRowOf, TakesTheNearestCode) {
  constexpr int most = std::same_as<TypeParam, int4> ? 15 : 127;
  constexpr int step = std::same_as<TypeParam, int4> ? 2 : 1;
  test::Random random(1);
  for (Index count = 1; count <= 140; count += 3)
    for (const Index row : {4, 7})
      for (const auto& [scale, offset] : {std::pair(0.03F, 0.0F), {0.4F, -2.5F}, {1e-3F, 1.0F}}) {
        const auto numbers = random.normals<float>(count);
        const auto codes = encoded<TypeParam>(numbers, scale, offset, row);
        for (std::size_t i = 0; i < numbers.size(); ++i) {
          // Two roundings of float are made on the way to the code.
          const double exact = (double{numbers[i]} - double{offset}) / double{scale};
          const double slack = 2 * std::numeric_limits<float>::epsilon() *
                               (std::abs(exact) + std::abs(double{offset} / double{scale}));
          EXPECT_LE(std::abs(codes[i]), most);
          EXPECT_EQ((codes[i] + most) % step, 0);
          const double inside = std::clamp(exact, -double{most}, double{most});
          EXPECT_LE(std::abs(codes[i] - inside), step / 2.0 + slack) << numbers[i];
        }
      }
}

TEST(EncodeRow, OfInt8TakesTheEvenOneOfTwo) {
  EXPECT_EQ(encoded<int8>({0.5F, 1.5F, -0.5F, -2.5F, 126.5F, 127.5F, -127.5F, 1e30F}, 1, 0, 0),
            (std::vector{0, 2, 0, -2, 126, 127, -127, 127}));
}

// So errors of zeros do not add up along a row of values, nor over the tokens of a column.
TEST(EncodeRow, OfInt4TakesBothCodesBesideZeroInTurns) {
  const std::vector<float> zeros(70, 0.0F);
  for (const Index row : {4, 7}) {
    const std::vector<int> codes = encoded<int4>(zeros, 1, 0, row);
    for (std::size_t i = 0; i < codes.size(); ++i)
      EXPECT_EQ(codes[i], (static_cast<std::size_t>(row) + i) % 2 == 0 ? 1 : -1)
          << row << ", " << i;
  }
  EXPECT_EQ(encoded<int4>({2.0F, 2.0F, -14.0F, 16.0F, -1e30F}, 1, 0, 0),
            (std::vector{3, 1, -13, 15, -15}));
}

TYPED_TEST(EncodeRowOf, WithoutAScaleTakesTheCodeNearestToZero) {
  const auto expected =
      std::same_as<TypeParam, int4> ? std::vector{1, -1, 1} : std::vector{0, 0, 0};
  EXPECT_EQ(encoded<TypeParam>({3.0F, 3.0F, 3.0F}, 0, 3, 2), expected);
}

}  // namespace
}  // namespace heed
