// SPDX-License-Identifier: MIT
/// \file
/// Every tensor type against numbers by hand, from bytes as they stand in a file.

#include "blocks.hpp"

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "format_error.hpp"

namespace smollm2 {
namespace {

using ::testing::ElementsAre;
using ::testing::ThrowsMessage;

/// An f16: its number, and its bits as IEEE 754 has them.
struct Half {
  float number;
  std::uint16_t bits;
};

constexpr float smallest = 1.0f / (1 << 24);
constexpr Half one{1, 0x3c00};
/// Of all kinds: normal, negative, the smallest subnormal, a negative subnormal, the largest,
/// zeros.
constexpr std::array<Half, 7> halves{{
    {0.5f, 0x3800},
    {-1.5f, 0xbe00},
    {smallest, 0x0001},
    {-1023 * smallest, 0x83ff},
    {65504, 0x7bff},
    {0, 0x0000},
    {-0.0f, 0x8000},
}};

/// Puts together a row as it stands in a file.
class Bytes {
 public:
  Bytes& byte(int value) {
    bytes_.push_back(static_cast<std::byte>(value));
    return *this;
  }
  Bytes& half(Half half) { return byte(half.bits & 255).byte(half.bits >> 8); }
  template <class Values>
  Bytes& all(const Values& values) {
    for (const auto value : values) byte(value);
    return *this;
  }

  /// Widens the row, at an address that no element is aligned to.
  std::vector<float> widened(TensorType type, Index cols) const {
    EXPECT_EQ(std::ssize(bytes_), row_bytes(type, cols));
    std::vector<std::byte> shifted(2);
    shifted.insert(shifted.end(), bytes_.begin(), bytes_.end());
    std::vector<float> out(static_cast<std::size_t>(cols));
    widen_row(type, shifted.data() + 2, out);
    return out;
  }

 private:
  std::vector<std::byte> bytes_;
};

/// Expects out[i] == expected(i), to the bit: the sign of zero counts.
template <class Expected>
void expect_elements(const std::vector<float>& out, const Expected& expected) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    const float should = expected(static_cast<int>(i));
    EXPECT_EQ(out[i], should) << "element " << i;
    EXPECT_EQ(std::signbit(out[i]), std::signbit(should)) << "element " << i;
  }
}

/// Code of element i of a block: all codes of `bits` bits, in an order that no permutation of the
/// places keeps.
int code(int i, int bits) { return (i * i + 5 * i + 3 + i / 16) % (1 << bits); }

/// 32 codes of 4 bits: byte i has those of elements i and 16 + i.
std::vector<int> pack_halves(int bits) {
  std::vector<int> bytes;
  for (int i = 0; i < 16; ++i) bytes.push_back(code(i, bits) % 16 + code(16 + i, bits) % 16 * 16);
  return bytes;
}
/// The fifth bits of 32 codes, the first element's lowest.
std::vector<int> pack_fifth_bits() {
  std::uint32_t word = 0;
  for (int i = 0; i < 32; ++i) word |= static_cast<std::uint32_t>(code(i, 5) / 16) << i;
  return {int(word & 255), int(word >> 8 & 255), int(word >> 16 & 255), int(word >> 24)};
}

TEST(Blocks, Floats) {
  Bytes f32;
  f32.all(std::array{0, 0, 0x80, 0x3f, 1, 0, 0, 0x80});
  EXPECT_THAT(f32.widened(TensorType::f32, 2),
              ElementsAre(1, -std::numeric_limits<float>::denorm_min()));
  Bytes bf16;
  bf16.all(std::array{0x80, 0x3f, 0x49, 0xc0, 1, 0});
  EXPECT_THAT(bf16.widened(TensorType::bf16, 3), ElementsAre(1, -3.140625f, 0x1p-133f));
  Bytes f16;
  for (const Half half : halves) f16.half(half);
  expect_elements(f16.widened(TensorType::f16, halves.size()),
                  [](int i) { return halves[static_cast<std::size_t>(i)].number; });
}

TEST(Blocks, Q4_0) {
  for (const Half scale : halves)
    expect_elements(Bytes().half(scale).all(pack_halves(4)).widened(TensorType::q4_0, 32),
                    [&](int i) { return scale.number * float(code(i, 4) - 8); });
}

TEST(Blocks, Q4_1) {
  for (const Half scale : halves)
    for (const Half offset : halves)
      expect_elements(
          Bytes().half(scale).half(offset).all(pack_halves(4)).widened(TensorType::q4_1, 32),
          [&](int i) { return scale.number * float(code(i, 4)) + offset.number; });
}

TEST(Blocks, Q5_0) {
  for (const Half scale : halves)
    expect_elements(Bytes()
                        .half(scale)
                        .all(pack_fifth_bits())
                        .all(pack_halves(5))
                        .widened(TensorType::q5_0, 32),
                    [&](int i) { return scale.number * float(code(i, 5) - 16); });
}

TEST(Blocks, Q5_1) {
  for (const Half scale : halves)
    for (const Half offset : halves)
      expect_elements(Bytes()
                          .half(scale)
                          .half(offset)
                          .all(pack_fifth_bits())
                          .all(pack_halves(5))
                          .widened(TensorType::q5_1, 32),
                      [&](int i) { return scale.number * float(code(i, 5)) + offset.number; });
}

TEST(Blocks, Q8_0) {
  for (const Half scale : halves) {
    Bytes row;  // of two blocks
    for (const Half block_scale : {one, scale}) {
      row.half(block_scale);
      for (int i = 0; i < 32; ++i) row.byte(i * 8 - 128);
    }
    expect_elements(row.widened(TensorType::q8_0, 64),
                    [&](int i) { return (i < 32 ? 1 : scale.number) * float(i % 32 * 8 - 128); });
  }
}

/// Factors of the parts of Q4_K and Q5_K: the lower and the upper parts differ in how they are
/// packed.
constexpr std::array<int, 8> scale_factors{1, 2, 37, 63, 17, 33, 48, 63};
constexpr std::array<int, 8> offset_factors{0, 5, 62, 7, 16, 47, 63, 34};
/// 4 * scales' + scales' upper 2 bits of a later part, and so on, by hand.
constexpr std::array<int, 12> packed_factors{
    1 + 64 * 1, 2 + 64 * 2,  37 + 64 * 3, 63 + 64 * 3,  // 17 = 16 * 1 + 1, 33 = 16 * 2 + 1, ...
    0 + 64 * 1, 5 + 64 * 2,  62 + 64 * 3, 7 + 64 * 2,   // 16 = 16 * 1 + 0, 47 = 16 * 2 + 15, ...
    1 + 16 * 0, 1 + 16 * 15, 0 + 16 * 15, 15 + 16 * 2};

/// 256 codes: of 64 elements each, 32 bytes with those of elements i and 32 + i.
std::vector<int> pack_pairs(int bits) {
  std::vector<int> bytes;
  for (int begin = 0; begin < 256; begin += 64)
    for (int i = begin; i < begin + 32; ++i)
      bytes.push_back(code(i, bits) % 16 + code(i + 32, bits) % 16 * 16);
  return bytes;
}

float element_of_parts(Half scale, Half offset, int i, int bits) {
  const auto part = static_cast<std::size_t>(i / 32);
  return scale.number * float(scale_factors[part] * code(i, bits)) -
         offset.number * float(offset_factors[part]);
}

TEST(Blocks, Q4_K) {
  for (const Half scale : halves)
    for (const Half offset : halves)
      expect_elements(Bytes()
                          .half(scale)
                          .half(offset)
                          .all(packed_factors)
                          .all(pack_pairs(4))
                          .widened(TensorType::q4_k, 256),
                      [&](int i) { return element_of_parts(scale, offset, i, 4); });
}

TEST(Blocks, Q5_K) {
  std::vector<int> fifth_bits(32);
  for (int i = 0; i < 256; ++i)
    fifth_bits[static_cast<std::size_t>(i % 32)] += code(i, 5) / 16 * (1 << i / 32);
  for (const Half scale : halves)
    for (const Half offset : halves)
      expect_elements(Bytes()
                          .half(scale)
                          .half(offset)
                          .all(packed_factors)
                          .all(fifth_bits)
                          .all(pack_pairs(5))
                          .widened(TensorType::q5_k, 256),
                      [&](int i) { return element_of_parts(scale, offset, i, 5); });
}

TEST(Blocks, Q6_K) {
  std::vector<int> codes, upper_bits, factors;
  for (int half = 0; half < 256; half += 128) {
    for (int i = half; i < half + 64; ++i)
      codes.push_back(code(i, 6) % 16 + code(i + 64, 6) % 16 * 16);
    for (int i = half; i < half + 32; ++i)
      upper_bits.push_back(code(i, 6) / 16 + code(i + 32, 6) / 16 * 4 + code(i + 64, 6) / 16 * 16 +
                           code(i + 96, 6) / 16 * 64);
  }
  for (int part = 0; part < 16; ++part) factors.push_back(part * 17 - 128);
  for (const Half scale : halves)
    expect_elements(
        Bytes().all(codes).all(upper_bits).all(factors).half(scale).widened(TensorType::q6_k, 256),
        [&](int i) {
          const float factor = scale.number * float(factors[static_cast<std::size_t>(i / 16)]);
          return factor * float(code(i, 6) - 32);
        });
}

TEST(Blocks, RowsAreMadeOfBlocks) {
  EXPECT_EQ(row_bytes(TensorType::f32, 3), 12);
  EXPECT_EQ(row_bytes(TensorType::q4_1, 64), 40);
  EXPECT_EQ(row_bytes(TensorType::q6_k, 0), 0);
  EXPECT_EQ(block_layout(TensorType::q5_k).name, "Q5_K");
  const auto refuses = [](TensorType type, Index cols, const std::string& message) {
    EXPECT_THAT([&] { row_bytes(type, cols); }, ThrowsMessage<FormatError>(message));
  };
  refuses(TensorType::q4_0, 33,
          "a row of 33 elements is not made of blocks of 32 as Q4_0 has them");
  refuses(TensorType::f32, -1, "a row of -1 elements is not made of blocks of 1 as F32 has them");
  refuses(TensorType::f32, std::numeric_limits<Index>::max() / 2,
          "a row of 4611686018427387903 elements is too large");
  refuses(TensorType{4}, 32,
          "type 4 is none of those that can be read: F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K "
          "Q5_K Q6_K");
  std::vector<float> row(31);
  EXPECT_THROW(widen_row(TensorType::q8_0, nullptr, row), FormatError);
  EXPECT_THROW(narrow_row(TensorType::q8_0, row, nullptr), FormatError);
}

std::vector<float> narrowed_and_widened(TensorType type, const std::vector<float>& row) {
  std::vector<std::byte> stored(static_cast<std::size_t>(row_bytes(type, std::ssize(row))));
  narrow_row(type, row, stored.data());
  std::vector<float> out(row.size());
  widen_row(type, stored.data(), out);
  return out;
}

TEST(Blocks, NarrowFloats) {
  const std::vector<float> row{1, -0.1f, 65504, 1e-30f, 65536, 1 + 0x1p-11f, 1 + 0x3p-11f};
  EXPECT_EQ(narrowed_and_widened(TensorType::f32, row), row);
  EXPECT_THAT(narrowed_and_widened(TensorType::f16, row),
              ElementsAre(1, -0.0999755859375f, 65504, 0, std::numeric_limits<float>::infinity(), 1,
                          1 + 0x1p-9f));  // ties to even
}

TEST(Blocks, NarrowToQ8_0) {
  std::vector<float> row(96);  // of three blocks, the second of zeros
  for (std::size_t i = 0; i < 32; ++i) row[i] = 2 * (float(i) - 16) + 0.5f * float(i % 3);
  row[5] = -127;
  row[64] = 1e-40f;  // less than any scale
  std::vector<float> expected(96);
  for (std::size_t i = 0; i < 32; ++i) expected[i] = std::round(row[i]);  // the scale is 1
  EXPECT_EQ(narrowed_and_widened(TensorType::q8_0, row), expected);

  const auto refuses = [&](float number, const std::string& message) {
    row[3] = number;
    EXPECT_THAT([&] { narrowed_and_widened(TensorType::q8_0, row); },
                ThrowsMessage<FormatError>(message));
  };
  refuses(std::numeric_limits<float>::quiet_NaN(), "Q8_0 holds finite numbers alone");
  refuses(-std::numeric_limits<float>::infinity(), "Q8_0 holds finite numbers alone");
  refuses(-1e9f, "Q8_0 cannot hold 1000000000.000000");
  EXPECT_THAT([&] { narrowed_and_widened(TensorType::q4_0, row); },
              ThrowsMessage<FormatError>("rows are stored as F32, F16 or Q8_0, not as Q4_0"));
}

TEST(Blocks, DotRowIsTheProductOfWhatWidenRowGives) {
  constexpr Index cols = 96;
  std::vector<float> x(cols), sums(cols / 32);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<float>(i % 7) - 2.5F;
    sums[i / 32] += x[i];
  }
  for (const TensorType type : {TensorType::q4_0, TensorType::q4_1, TensorType::q8_0}) {
    ASSERT_TRUE(has_dot_row(type));
    const auto block_bytes = static_cast<std::size_t>(row_bytes(type, 32));
    std::vector<std::byte> row(3 * block_bytes);
    for (std::size_t i = 0; i < row.size(); ++i) row[i] = std::byte(i * 37 % 251);
    // A scale and an offset, or codes in their place, that are neither large nor NaN.
    const heed::f16 scale(0.25F), offset(-1.5F);
    for (std::size_t block = 0; block < 3; ++block) {
      std::memcpy(row.data() + block * block_bytes, &scale, 2);
      std::memcpy(row.data() + block * block_bytes + 2, &offset, 2);
    }
    std::vector<float> wide(cols);
    widen_row(type, row.data(), wide);
    double expected = 0, size = 0;
    for (std::size_t i = 0; i < wide.size(); ++i) {
      expected += double{wide[i]} * x[i];
      size += std::abs(double{wide[i]} * x[i]);
    }
    ASSERT_GT(std::abs(expected), 1e-3 * size);
    EXPECT_NEAR(dot_row(type, row.data(), x, sums), expected, 1e-6 * size)
        << block_layout(type).name;
  }
  EXPECT_FALSE(has_dot_row(TensorType::f32));
  EXPECT_THROW(dot_row(TensorType::f32, nullptr, x, sums), FormatError);
}

}  // namespace
}  // namespace smollm2
