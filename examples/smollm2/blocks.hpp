// SPDX-License-Identifier: MIT
/// \file
/// How GGUF files store the elements of a tensor, and rows of them as floats.
///
/// A row is a sequence of blocks. A block has a scale, sometimes an offset, and a code of few bits
/// for each element: element = scale * code + offset. The K types share one scale among more
/// elements, and have small whole factors of it for parts of the block.
/// Source: ggml, https://github.com/ggml-org/ggml, src/ggml-common.h and src/ggml-quants.c.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "heed/base/element.hpp"  // f16, bf16
#include "heed/base/index.hpp"    // Index

namespace smollm2 {

using heed::Index;

/// GGUF's numbers for the types of tensors, those that can be read.
enum class TensorType : std::uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  bf16 = 30,
};

/// 4 bits, from -8 to 7 times the scale.
struct BlockQ4_0 {
  static constexpr Index size = 32;  ///< elements
  heed::f16 scale;
  std::array<std::uint8_t, 16> codes;  ///< of elements i (lower half) and 16 + i (upper half)

  void widen(std::span<float, size> out) const;
};

/// 4 bits, from 0 to 15 times the scale, plus the offset.
struct BlockQ4_1 {
  static constexpr Index size = 32;
  heed::f16 scale, offset;
  std::array<std::uint8_t, 16> codes;  ///< as in BlockQ4_0

  void widen(std::span<float, size> out) const;
};

/// 5 bits, from -16 to 15 times the scale.
struct BlockQ5_0 {
  static constexpr Index size = 32;
  heed::f16 scale;
  std::array<std::uint8_t, 4> fifth_bits;  ///< bit i % 8 of byte i / 8 belongs to element i
  std::array<std::uint8_t, 16> codes;      ///< the lower bits, as in BlockQ4_0

  void widen(std::span<float, size> out) const;
};

/// 5 bits, from 0 to 31 times the scale, plus the offset.
struct BlockQ5_1 {
  static constexpr Index size = 32;
  heed::f16 scale, offset;
  std::array<std::uint8_t, 4> fifth_bits;  ///< as in BlockQ5_0
  std::array<std::uint8_t, 16> codes;

  void widen(std::span<float, size> out) const;
};

/// 8 bits, signed.
struct BlockQ8_0 {
  static constexpr Index size = 32;
  heed::f16 scale;
  std::array<std::int8_t, 32> codes;

  void widen(std::span<float, size> out) const;
};

/// 8 parts of 32 elements of 4 bits. Each part has a factor of the scale and one of the offset, of
/// 6 bits each: element = scale * factor * code - offset * factor.
struct BlockQ4_K {
  static constexpr Index size = 256;
  heed::f16 scale, offset;
  std::array<std::uint8_t, 12> factors;  ///< 16 numbers of 6 bits
  std::array<std::uint8_t, 128> codes;   ///< 32 bytes for two parts: lower half, upper half

  void widen(std::span<float, size> out) const;
};

/// As BlockQ4_K, with codes of 5 bits.
struct BlockQ5_K {
  static constexpr Index size = 256;
  heed::f16 scale, offset;
  std::array<std::uint8_t, 12> factors;
  std::array<std::uint8_t, 32> fifth_bits;  ///< bit p of byte i belongs to element i of part p
  std::array<std::uint8_t, 128> codes;

  void widen(std::span<float, size> out) const;
};

/// 16 parts of 16 elements of 6 bits, from -32 to 31 times the scale and the part's factor.
struct BlockQ6_K {
  static constexpr Index size = 256;
  std::array<std::uint8_t, 128> codes;      ///< the lower 4 bits
  std::array<std::uint8_t, 64> upper_bits;  ///< 2 bits per element
  std::array<std::int8_t, 16> factors;
  heed::f16 scale;

  void widen(std::span<float, size> out) const;
};

static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20);
static_assert(sizeof(BlockQ5_0) == 22 && sizeof(BlockQ5_1) == 24 && sizeof(BlockQ8_0) == 34);
static_assert(sizeof(BlockQ4_K) == 144 && sizeof(BlockQ5_K) == 176 && sizeof(BlockQ6_K) == 210);

/// What a type's blocks are. The floats are blocks of one element.
struct BlockLayout {
  std::string_view name;  ///< "Q4_0"
  Index elements, bytes;  ///< of one block
};

/// \throws FormatError if the number is not one of TensorType's: files may have any.
BlockLayout block_layout(TensorType type);

/// Bytes of a row of `cols` elements.
/// \throws FormatError if the row does not end with a block, is negative or too large to count.
Index row_bytes(TensorType type, Index cols);

/// Converts a row to float, to the same bits that ggml gives.
/// \param row  row_bytes(type, out.size()) bytes, at an even address as in a file's tensors
/// \param out  [cols]
/// \throws FormatError as row_bytes
void widen_row(TensorType type, const std::byte* row, std::span<float> out);

/// Whether dot_row takes rows of the type: Q4_0, Q4_1 and Q8_0, which models are stored in for
/// speed.
bool has_dot_row(TensorType type);

/// The product of a row and a vector, without writing the row's elements anywhere.
/// \param row   as in widen_row, of a type that has_dot_row
/// \param x     [cols], whole blocks
/// \param sums  [cols / 32], the sums of x's parts of 32 elements
float dot_row(TensorType type, const std::byte* row, std::span<const float> x,
              std::span<const float> sums);

/// Stores floats as F32, F16 or Q8_0, to the nearest that these hold, and to the same bits that
/// ggml gives. Numbers that are too large for F16 become infinite.
/// \param row  [cols]
/// \param out  row_bytes(type, row.size()) bytes; need not be aligned
/// \throws FormatError as row_bytes; if it is another type; if Q8_0 cannot hold a number, as it
///         is not finite or its block's scale is too large for f16
void narrow_row(TensorType type, std::span<const float> row, std::byte* out);

/// A tensor as it lies in a file, [rows, cols], row-major: a view.
struct StoredMatrix {
  TensorType type = TensorType::f32;
  Index rows = 0, cols = 0;
  const std::byte* data = nullptr;

  /// Where row i begins. \throws FormatError as row_bytes
  const std::byte* row(Index i) const { return data + i * row_bytes(type, cols); }
  /// All rows. \throws FormatError as row_bytes
  std::span<const std::byte> bytes() const {
    return {data, static_cast<std::size_t>(rows * row_bytes(type, cols))};
  }
};

}  // namespace smollm2
