// SPDX-License-Identifier: MIT
/// \file
/// Rows of blocks to floats and back.
///
/// All products but Q6_K's last are exact in float: an f16 has 11 bits, factors and codes together
/// have 13 at most. So it makes no difference to the result whether the compiler fuses a product
/// with the sum that follows.

#include "blocks.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "format_error.hpp"
#include "heed/simd/widen.hpp"  // load_as

namespace smollm2 {
namespace {

using heed::bf16;
using heed::f16;

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

struct KnownType {
  TensorType type;
  BlockLayout layout;
};

template <class Block>
constexpr KnownType block_type(TensorType type, std::string_view name) {
  return {type, {name, Block::size, sizeof(Block)}};
}

constexpr std::array known_types{
    KnownType{TensorType::f32, {"F32", 1, sizeof(float)}},
    KnownType{TensorType::f16, {"F16", 1, sizeof(f16)}},
    KnownType{TensorType::bf16, {"BF16", 1, sizeof(bf16)}},
    block_type<BlockQ4_0>(TensorType::q4_0, "Q4_0"),
    block_type<BlockQ4_1>(TensorType::q4_1, "Q4_1"),
    block_type<BlockQ5_0>(TensorType::q5_0, "Q5_0"),
    block_type<BlockQ5_1>(TensorType::q5_1, "Q5_1"),
    block_type<BlockQ8_0>(TensorType::q8_0, "Q8_0"),
    block_type<BlockQ4_K>(TensorType::q4_k, "Q4_K"),
    block_type<BlockQ5_K>(TensorType::q5_k, "Q5_K"),
    block_type<BlockQ6_K>(TensorType::q6_k, "Q6_K"),
};

/// The 4 bits of element i, where a byte has those of elements i and size / 2 + i.
template <std::size_t Bytes>
int half_byte(const std::array<std::uint8_t, Bytes>& codes, std::size_t i) {
  return i < Bytes ? codes[i] & 15 : codes[i - Bytes] >> 4;
}

int bit(std::uint8_t byte, std::size_t place) { return byte >> place & 1; }

template <class Block>
int five_bits(const Block& block, std::size_t i) {
  return half_byte(block.codes, i) | bit(block.fifth_bits[i / 8], i % 8) << 4;
}

/// The two factors of a part of BlockQ4_K or BlockQ5_K.
struct PartFactors {
  int scale, offset;
};

/// The first 4 bytes have the scales' factors of parts 0 to 3, the next 4 the offsets'. The last 4
/// have the lower 4 bits of parts 4 to 7, the scales' below the offsets'; their upper 2 bits are
/// those that 6 bits leave free in the first 8 bytes.
PartFactors part_factors(const std::array<std::uint8_t, 12>& factors, std::size_t part) {
  if (part < 4) return {factors[part] & 63, factors[part + 4] & 63};
  return {(factors[part + 4] & 15) | (factors[part - 4] >> 6) << 4,
          factors[part + 4] >> 4 | (factors[part] >> 6) << 4};
}

/// Elements of BlockQ4_K and BlockQ5_K. \param code  code(part, i), of element i of a part
template <class Block, class Code>
void widen_parts(const Block& block, std::span<float, Block::size> out, const Code& code) {
  for (std::size_t part = 0; part < 8; ++part) {
    const PartFactors factors = part_factors(block.factors, part);
    const float scale = float(block.scale) * float(factors.scale);
    const float offset = float(block.offset) * float(factors.offset);
    for (std::size_t i = 0; i < 32; ++i) out[32 * part + i] = scale * float(code(part, i)) - offset;
  }
}

/// Element i of part p, where 32 bytes have the codes of two parts.
int paired_half_byte(const std::array<std::uint8_t, 128>& codes, std::size_t part, std::size_t i) {
  return codes[part / 2 * 32 + i] >> part % 2 * 4 & 15;
}

/// As float(f16), by the processor's instruction where it has one.
float to_float(f16 value) { return static_cast<float>(std::bit_cast<_Float16>(value)); }

namespace simd = heed::simd;  // the vector unit, as heed's kernel uses it

/// A block of 32 elements, unpacked: element i is scale * codes[i] + offset.
struct Codes {
  std::array<std::int8_t, 32> codes;
  float scale, offset;
};

/// Codes of 4 bits, each plus `shift`.
std::array<std::int8_t, 32> unpacked(const std::array<std::uint8_t, 16>& packed,
                                     std::int8_t shift) {
  using Bytes [[gnu::vector_size(16)]] = std::int8_t;
  const auto bytes = std::bit_cast<Bytes>(packed);
  // Stored as they will be loaded: put together first, g++ 12 loads 32 bytes of two stores of 16,
  // for which the processor waits until both are written.
  const Bytes low = (bytes & 15) + shift, high = ((bytes >> 4) & 15) + shift;
  std::array<std::int8_t, 32> codes;
  std::memcpy(codes.data(), &low, sizeof(low));
  std::memcpy(codes.data() + sizeof(low), &high, sizeof(high));
  return codes;
}
constexpr float no_offset = -0.0F;  // of which the sum with -0 is -0

Codes codes_of(const BlockQ4_0& block) {
  return {unpacked(block.codes, -8), to_float(block.scale), no_offset};
}
Codes codes_of(const BlockQ4_1& block) {
  return {unpacked(block.codes, 0), to_float(block.scale), to_float(block.offset)};
}
Codes codes_of(const BlockQ8_0& block) { return {block.codes, to_float(block.scale), no_offset}; }

void widen_codes(const Codes& block, std::span<float, 32> out) {
  const auto scale = simd::broadcast(block.scale), offset = simd::broadcast(block.offset);
  for (Index i = 0; i < 32; i += simd::lanes<float>)
    simd::store(out.data() + i,
                simd::mul_add(simd::load_as<float>(block.codes.data() + i), scale, offset));
}

template <class Block>
float dot_blocks(const std::byte* row, std::span<const float> x, std::span<const float> sums) {
  const auto* block = reinterpret_cast<const Block*>(row);
  auto scaled = simd::broadcast(0.0F);
  float offsets = 0;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const Codes codes = codes_of(block[i]);
    auto products = simd::broadcast(0.0F);
    for (Index lane = 0; lane < 32; lane += simd::lanes<float>)
      products = simd::mul_add(simd::load_as<float>(codes.codes.data() + lane),
                               simd::load(x.data() + 32 * i + lane), products);
    scaled = simd::mul_add(products, simd::broadcast(codes.scale), scaled);
    offsets += codes.offset * sums[i];
  }
  return simd::sum_lanes(scaled) + offsets;
}

template <class Block>
void widen_blocks(const std::byte* row, std::span<float> out) {
  const auto* block = reinterpret_cast<const Block*>(row);
  for (std::size_t begin = 0; begin < out.size(); begin += Block::size)
    (block++)->widen(out.subspan(begin).template first<Block::size>());
}

template <class Element>
void widen_elements(const std::byte* row, std::span<float> out) {
  for (float& wide : out) {
    std::array<std::byte, sizeof(Element)> bytes;
    std::copy_n(row, bytes.size(), bytes.begin());
    wide = static_cast<float>(std::bit_cast<Element>(bytes));
    row += bytes.size();
  }
}

template <class Element>
std::byte* store(const Element& element, std::byte* out) {
  return std::copy_n(reinterpret_cast<const std::byte*>(&element), sizeof(Element), out);
}

BlockQ8_0 narrow_q8_0(std::span<const float> row) {
  float largest = 0;
  for (const float number : row) {
    if (!std::isfinite(number)) throw FormatError("Q8_0 holds finite numbers alone");
    largest = std::max(largest, std::abs(number));
  }
  const float scale = largest / 127;
  BlockQ8_0 block{.scale = f16(scale), .codes = {}};
  if (!std::isfinite(float(block.scale)))
    throw FormatError("Q8_0 cannot hold " + std::to_string(largest));
  const float inverse = 1 / scale;
  if (!std::isfinite(inverse)) return block;  // the scale is 0, or so small that f16 has 0 for it
  std::transform(row.begin(), row.end(), block.codes.begin(), [&](float number) {
    return static_cast<std::int8_t>(std::round(number * inverse));
  });
  return block;
}

}  // namespace

void BlockQ4_0::widen(std::span<float, size> out) const { widen_codes(codes_of(*this), out); }

void BlockQ4_1::widen(std::span<float, size> out) const { widen_codes(codes_of(*this), out); }

void BlockQ5_0::widen(std::span<float, size> out) const {
  for (std::size_t i = 0; i < size; ++i) out[i] = float(five_bits(*this, i) - 16) * float(scale);
}

void BlockQ5_1::widen(std::span<float, size> out) const {
  for (std::size_t i = 0; i < size; ++i)
    out[i] = float(five_bits(*this, i)) * float(scale) + float(offset);
}

void BlockQ8_0::widen(std::span<float, size> out) const { widen_codes(codes_of(*this), out); }

void BlockQ4_K::widen(std::span<float, size> out) const {
  widen_parts(*this, out,
              [this](std::size_t part, std::size_t i) { return paired_half_byte(codes, part, i); });
}

void BlockQ5_K::widen(std::span<float, size> out) const {
  widen_parts(*this, out, [this](std::size_t part, std::size_t i) {
    return paired_half_byte(codes, part, i) | bit(fifth_bits[i], part) << 4;
  });
}

void BlockQ6_K::widen(std::span<float, size> out) const {
  // 128 elements have 64 bytes of codes (the lower halves first) and 32 bytes of upper bits, each
  // byte with those of elements 32 apart.
  for (std::size_t i = 0; i < size; ++i) {
    const std::size_t half = i / 128, place = i % 128;
    const int lower = codes[64 * half + place % 64] >> place / 64 * 4 & 15;
    const int upper = upper_bits[32 * half + place % 32] >> place / 32 * 2 & 3;
    out[i] = float(scale) * float(factors[i / 16]) * float((lower | upper << 4) - 32);
  }
}

BlockLayout block_layout(TensorType type) {
  for (const KnownType& known : known_types)
    if (known.type == type) return known.layout;
  std::string names;
  for (const KnownType& known : known_types) names.append(" ").append(known.layout.name);
  throw FormatError("type " + std::to_string(static_cast<std::uint32_t>(type)) +
                    " is none of those that can be read:" + names);
}

Index row_bytes(TensorType type, Index cols) {
  const BlockLayout layout = block_layout(type);
  if (cols < 0 || cols % layout.elements != 0)
    throw FormatError("a row of " + std::to_string(cols) + " elements is not made of blocks of " +
                      std::to_string(layout.elements) + " as " + std::string(layout.name) +
                      " has them");
  if (cols / layout.elements > std::numeric_limits<Index>::max() / layout.bytes)
    throw FormatError("a row of " + std::to_string(cols) + " elements is too large");
  return cols / layout.elements * layout.bytes;
}

void widen_row(TensorType type, const std::byte* row, std::span<float> out) {
  row_bytes(type, std::ssize(out));  // checks the size
  switch (type) {
    case TensorType::f32: return widen_elements<float>(row, out);
    case TensorType::f16: return widen_elements<f16>(row, out);
    case TensorType::bf16: return widen_elements<bf16>(row, out);
    case TensorType::q4_0: return widen_blocks<BlockQ4_0>(row, out);
    case TensorType::q4_1: return widen_blocks<BlockQ4_1>(row, out);
    case TensorType::q5_0: return widen_blocks<BlockQ5_0>(row, out);
    case TensorType::q5_1: return widen_blocks<BlockQ5_1>(row, out);
    case TensorType::q8_0: return widen_blocks<BlockQ8_0>(row, out);
    case TensorType::q4_k: return widen_blocks<BlockQ4_K>(row, out);
    case TensorType::q5_k: return widen_blocks<BlockQ5_K>(row, out);
    case TensorType::q6_k: return widen_blocks<BlockQ6_K>(row, out);
  }
}

void narrow_row(TensorType type, std::span<const float> row, std::byte* out) {
  row_bytes(type, std::ssize(row));  // checks the size
  switch (type) {
    case TensorType::f32:
      for (const float number : row) out = store(number, out);
      return;
    case TensorType::f16:
      for (const float number : row) out = store(f16(number), out);
      return;
    case TensorType::q8_0:
      for (; !row.empty(); row = row.subspan(BlockQ8_0::size))
        out = store(narrow_q8_0(row.first(BlockQ8_0::size)), out);
      return;
    default:
      throw FormatError("rows are stored as F32, F16 or Q8_0, not as " +
                        std::string(block_layout(type).name));
  }
}

bool has_dot_row(TensorType type) {
  return type == TensorType::q4_0 || type == TensorType::q4_1 || type == TensorType::q8_0;
}

float dot_row(TensorType type, const std::byte* row, std::span<const float> x,
              std::span<const float> sums) {
  switch (type) {
    case TensorType::q4_0: return dot_blocks<BlockQ4_0>(row, x, sums);
    case TensorType::q4_1: return dot_blocks<BlockQ4_1>(row, x, sums);
    case TensorType::q8_0: return dot_blocks<BlockQ8_0>(row, x, sums);
    default: throw FormatError("dot_row does not take " + std::string(block_layout(type).name));
  }
}

}  // namespace smollm2
