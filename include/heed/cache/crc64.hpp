// SPDX-License-Identifier: MIT
/// \file
/// The checksum of cache files. Layer 4, detail.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace heed::detail {

/// CRC-64/XZ (ECMA-182, reflected), over any number of pieces. It finds every change within 64 bits
/// in a row for certain, others but for one in 2^64, and is there in many languages' libraries.
class Crc64 {
 public:
  void add(std::span<const std::byte> bytes) noexcept {
    std::uint64_t state = state_;
    const std::byte* at = bytes.data();
    std::size_t left = bytes.size();
    // 16 bytes at a time: 16 loads that do not wait for each other, where one byte at a time waits
    // for a load a byte.
    for (; left >= 16; at += 16, left -= 16) {
      std::uint64_t low, high;
      std::memcpy(&low, at, 8);
      std::memcpy(&high, at + 8, 8);
      low ^= state;
      state = 0;
      for (std::size_t i = 0; i < 8; ++i)  // the first byte has 15 behind it
        state ^= tables[15 - i][low >> (8 * i) & 0xff] ^ tables[7 - i][high >> (8 * i) & 0xff];
    }
    for (; left > 0; ++at, --left)
      state = tables[0][(state ^ std::to_integer<std::uint64_t>(*at)) & 0xff] ^ state >> 8;
    state_ = state;
  }
  std::uint64_t value() const noexcept { return ~state_; }

 private:
  static_assert(std::endian::native == std::endian::little, "heed: caches are little-endian.");
  using Table = std::array<std::uint64_t, 256>;

  /// tables[n][b]: what byte b does to the state, n bytes later.
  static constexpr std::array<Table, 16> make_tables() {
    std::array<Table, 16> made{};
    for (std::size_t byte = 0; byte < 256; ++byte) {
      std::uint64_t& state = made[0][byte] = byte;
      for (int bit = 0; bit < 8; ++bit)
        state = state >> 1 ^ ((state & 1) != 0 ? 0xc96c'5795'd787'0f42 : 0);
    }
    for (std::size_t n = 1; n < made.size(); ++n)
      for (std::size_t byte = 0; byte < 256; ++byte) {
        const std::uint64_t state = made[n - 1][byte];
        made[n][byte] = made[0][state & 0xff] ^ state >> 8;
      }
    return made;
  }
  static const std::array<Table, 16> tables;

  std::uint64_t state_ = ~std::uint64_t{0};
};

inline constexpr std::array<Crc64::Table, 16> Crc64::tables = Crc64::make_tables();

}  // namespace heed::detail
