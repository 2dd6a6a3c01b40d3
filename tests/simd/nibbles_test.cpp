// SPDX-License-Identifier: MIT
/// \file
/// Codes of 4 bits: kept one by one, and unpacked row by row.

#include "heed/simd/nibbles.hpp"

#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

#include "support/random.hpp"  // Random

namespace heed {
namespace {

using simd::code_of;

void set_code(int4& element, Index row, int code) {
  const auto nibble = static_cast<std::uint8_t>((code + 15) / 2);
  simd::set_nibbles(&nibble, 1, row, &element);
}

TEST(Nibbles, HoldEveryPairOfCodes) {
  for (int even = -15; even <= 15; even += 2)
    for (int odd = -15; odd <= 15; odd += 2)
      for (const int4 before : {int4{0x00}, int4{0xFF}, int4{0x5A}}) {
        int4 element = before;
        set_code(element, 6, even);
        set_code(element, 7, odd);
        EXPECT_EQ(code_of(element, 6), even);
        EXPECT_EQ(code_of(element, 7), odd);
      }
}

TEST(Nibbles, OfTheOtherRowStay) {
  int4 element{};
  set_code(element, 0, 9);
  set_code(element, 1, -7);
  set_code(element, 1, 15);
  EXPECT_EQ(code_of(element, 0), 9);
  set_code(element, 0, -15);
  EXPECT_EQ(code_of(element, 1), 15);
  element.pair = 0x5A;
  simd::clear_code(element, 4);
  EXPECT_EQ(element.pair, 0x50);
  element.pair = 0x5A;
  simd::clear_code(element, 3);
  EXPECT_EQ(element.pair, 0x0A);
}

TEST(Nibbles, AreSetInARowOfAnyLengthAndNotBehindIt) {
  test::Random random(2);
  for (const Index row : {2, 3})
    for (Index count = 0; count <= 70; ++count) {
      std::vector<std::uint8_t> nibbles;
      for (Index c = 0; c < count; ++c)
        nibbles.push_back(static_cast<std::uint8_t>(random.integer(0, 15)));
      std::vector<int4> elements(nibbles.size() + 1, int4{0x6C});
      simd::set_nibbles(nibbles.data(), count, row, elements.data());
      for (std::size_t c = 0; c < nibbles.size(); ++c)
        EXPECT_EQ(elements[c].pair, row == 2 ? 0x60 | nibbles[c] : nibbles[c] << 4 | 0x0C);
      EXPECT_EQ(elements.back().pair, 0x6C);
    }
}

// Widths of which 64 leave every remainder in steps of 16.
TEST(Nibbles, UnpackToTheCodesThatWereKept) {
  test::Random random(1);
  for (const Index width : {16, 32, 48, 64, 80, 96, 112, 128, 192, 208})
    for (const Index rows : {2, 4, 64}) {
      const auto size = static_cast<std::size_t>(rows * width);
      std::vector<int4> elements(size / 2);
      std::vector<int8> codes(size), found(size + 1, int8{77});
      for (Index r = 0; r < rows; ++r)
        for (Index c = 0; c < width; ++c) {
          const auto code = static_cast<int>(2 * random.integer(0, 15) - 15);
          codes[static_cast<std::size_t>(r * width + c)] = static_cast<int8>(code);
          set_code(elements[static_cast<std::size_t>(r / 2 * width + c)], r, code);
        }
      simd::unpack_codes(elements.data(), rows / 2, width, found.data());
      codes.push_back(77);  // nothing is written behind the last row
      EXPECT_EQ(found, codes) << rows << " rows of " << width;
    }
}

}  // namespace
}  // namespace heed
