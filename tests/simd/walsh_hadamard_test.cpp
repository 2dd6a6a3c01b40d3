// SPDX-License-Identifier: MIT
/// \file
/// The Walsh-Hadamard transform against its matrix, over every small width.

#include "heed/simd/walsh_hadamard.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "support/random.hpp"     // Random
#include "support/tolerance.hpp"  // unit_roundoff

namespace heed {
namespace {

using test::Random;

template <class T>
class WalshHadamard : public testing::Test {};
using Elements = testing::Types<float, double>;
TYPED_TEST_SUITE(WalshHadamard, Elements);

std::vector<Index> widths() {
  std::vector<Index> all{512, 576};
  for (Index width = 1; width <= 130; ++width) all.push_back(width);
  return all;
}

/// The largest power of two that divides the width, by trial.
Index block_of(Index width) {
  Index block = 1;
  while (width % (2 * block) == 0) block *= 2;
  return block;
}

/// One transformed row by the matrix, and how far rounding may take each element from it.
struct Exact {
  std::vector<long double> row;
  std::vector<double> bound;
};

/// An element of the row passes log2(block) sums on its way to each result, is multiplied by the
/// scale, and the scale is a rounded root and a rounded quotient: that is the certain bound
/// gamma_n s sum |x| with n = log2(block) + 3 roundings.
/// Source: Higham 2002, "Accuracy and Stability of Numerical Algorithms", lemma 3.1.
template <class T>
Exact by_matrix(const T* row, Index width) {
  const Index block = block_of(width);
  const long double scale = 1 / std::sqrt(static_cast<long double>(block));
  const double roundings = (std::log2(static_cast<double>(block)) + 3) * test::unit_roundoff<T>;
  Exact exact;
  for (Index j = 0; j < width; ++j) {
    const Index begin = j / block * block;
    long double sum = 0, magnitudes = 0;
    for (Index i = 0; i < block; ++i) {
      const auto both = static_cast<std::uint64_t>(i & (j - begin));
      const long double x = row[begin + i];
      sum += std::popcount(both) % 2 == 0 ? x : -x;
      magnitudes += std::abs(x);
    }
    exact.row.push_back(scale * sum);
    exact.bound.push_back(
        block == 1 ? 0 : roundings / (1 - roundings) * static_cast<double>(scale * magnitudes));
  }
  return exact;
}

/// A random row with an outlier, `offset` elements behind an aligned place, and what follows it.
template <class T>
struct Row {
  static constexpr T untouched = 777;
  Index width, offset;
  std::vector<T> memory;

  Row(Index width_, Index offset_, Random& random)
      : width(width_), offset(offset_), memory(random.normals<T>(offset + width)) {
    memory[static_cast<std::size_t>(offset + random.integer(0, width - 1))] *= 20;
    memory.push_back(untouched);
  }
  T* data() { return memory.data() + offset; }
  T operator[](Index c) const { return memory[static_cast<std::size_t>(offset + c)]; }
};

TYPED_TEST(WalshHadamard, IsTheMatrix) {
  Random random(1);
  for (const Index width : widths())
    for (const Index offset : {0, 1, 3}) {
      Row<TypeParam> row(width, offset, random);
      const auto before = row.memory;
      const Exact exact = by_matrix(row.data(), width);
      simd::rotate_hadamard(row.data(), width);
      for (Index c = 0; c < width; ++c)
        ASSERT_LE(std::abs(row[c] - exact.row[static_cast<std::size_t>(c)]),
                  exact.bound[static_cast<std::size_t>(c)])
            << "width " << width << ", column " << c;
      ASSERT_EQ(row[width], Row<TypeParam>::untouched);
      for (Index c = 0; c < offset; ++c)
        ASSERT_EQ(row[c - offset], before[static_cast<std::size_t>(c)]);
    }
}

TYPED_TEST(WalshHadamard, IsItsOwnInverse) {
  Random random(2);
  for (const Index width : widths()) {
    Row<TypeParam> row(width, 1, random);
    const Row<TypeParam> before = row;
    const Exact first = by_matrix(row.data(), width);
    simd::rotate_hadamard(row.data(), width);
    const Exact second = by_matrix(row.data(), width);
    simd::rotate_hadamard(row.data(), width);
    // The first error is transformed as well: each element becomes scale times a sum of block.
    const Index block = block_of(width);
    const double root = std::sqrt(static_cast<double>(block));
    for (Index c = 0; c < width; ++c) {
      const auto at = static_cast<std::size_t>(c);
      ASSERT_LE(std::abs(row[c] - before[c]), second.bound[at] + root * first.bound[at])
          << "width " << width << ", column " << c;
    }
  }
}

TYPED_TEST(WalshHadamard, KeepsDotProducts) {
  Random random(3);
  for (const Index width : widths()) {
    Row<TypeParam> query(width, 0, random), key(width, 1, random);
    const Exact exact_query = by_matrix(query.data(), width);
    const Exact exact_key = by_matrix(key.data(), width);
    long double before = 0, after = 0, bound = 0, magnitudes = 0;
    const auto add_product = [&](Index c, long double& sum) {
      const long double product = static_cast<long double>(query[c]) * key[c];
      sum += product, magnitudes += std::abs(product);
    };
    for (Index c = 0; c < width; ++c) add_product(c, before);
    simd::rotate_hadamard(query.data(), width);
    simd::rotate_hadamard(key.data(), width);
    for (Index c = 0; c < width; ++c) {
      const auto at = static_cast<std::size_t>(c);
      add_product(c, after);
      bound += std::abs(exact_query.row[at]) * exact_key.bound[at] +
               std::abs(exact_key.row[at]) * exact_query.bound[at] +
               exact_query.bound[at] * exact_key.bound[at];
    }
    // The sums here are rounded, too, and so is the matrix's row, in long double.
    bound += 2 * width * std::numeric_limits<long double>::epsilon() * magnitudes;
    ASSERT_LE(std::abs(after - before), bound) << "width " << width;
  }
}

TYPED_TEST(WalshHadamard, SpreadsOneChannelOverItsBlock) {
  std::vector<TypeParam> row(96, TypeParam{0});
  row[40] = 1;
  simd::rotate_hadamard(row.data(), 96);
  const TypeParam level = 1 / std::sqrt(TypeParam{32});
  for (std::size_t c = 0; c < 96; ++c) EXPECT_EQ(std::abs(row[c]), c / 32 == 1 ? level : 0) << c;
}

TYPED_TEST(WalshHadamard, GivesTheSameBitsWhereverTheRowLies) {
  Random random(4);
  for (const Index width : widths()) {
    Row<TypeParam> row(width, 0, random);
    std::vector<TypeParam> shifted(static_cast<std::size_t>(width + 1));
    std::copy_n(row.data(), width, shifted.data() + 1);
    simd::rotate_hadamard(row.data(), width);
    simd::rotate_hadamard(shifted.data() + 1, width);
    ASSERT_EQ(std::memcmp(row.data(), shifted.data() + 1,
                          static_cast<std::size_t>(width) * sizeof(TypeParam)),
              0)
        << width;
  }
}

TEST(WalshHadamardBlock, IsTheLargestPowerOfTwo) {
  for (const Index width : widths()) EXPECT_EQ(simd::hadamard_block(width), block_of(width));
  static_assert(simd::hadamard_block(96) == 32 && simd::hadamard_block(7) == 1);
}

}  // namespace
}  // namespace heed
