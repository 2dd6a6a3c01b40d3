// SPDX-License-Identifier: MIT
/// \file
/// The rotation against multiplication by e^(i angle) in long double, and its properties.

#include "heed/rope/rope.hpp"

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstddef>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/random.hpp"     // Random
#include "support/tolerance.hpp"  // dot_bound, unit_roundoff

namespace heed {
namespace {

using test::Random;
using test::unit_roundoff;
using ::testing::ThrowsMessage;

/// Storage for heads that have unused elements between rows and between heads.
template <class T>
struct Storage {
  Index num_heads, rows, cols;
  std::vector<T> elements;

  static constexpr Index row_gap = 3, head_gap = 5;

  Storage(Index num_heads_, Index rows_, Index cols_, Random& random)
      : num_heads(num_heads_), rows(rows_), cols(cols_),
        elements(random.normals<T>(num_heads * (rows * (cols + row_gap) + head_gap))) {}

  HeadsView<T> view() {
    return {elements.data(), num_heads, rows, cols, rows * (cols + row_gap) + head_gap,
            cols + row_gap};
  }
};

constexpr Index most = std::numeric_limits<Index>::max();

Index first_column(RopePairing pairing, Index pair) {
  return pairing == RopePairing::interleaved ? 2 * pair : pair;
}
Index second_column(RopePairing pairing, Index rope_dim, Index pair) {
  return pairing == RopePairing::interleaved ? 2 * pair + 1 : pair + rope_dim / 2;
}

/// Bound of |computed - exact| for one element of a pair (first, second) that is turned.
///
/// In T, cos or sin, the product and the sum round once each. Before that, in double, the angle is
/// off by angle_error, and cos or sin rounds twice (libm promises one unit in the last place) and
/// its scaling once.
template <class T>
double turn_bound(double first, double second, double angle_error, double attention_scaling) {
  return (std::abs(first) + std::abs(second)) * attention_scaling *
         (3 * unit_roundoff<T> + 3 * unit_roundoff<double> + angle_error);
}

/// How far position * theta^(-2 pair / rope_dim) may be off in double: the power rounds twice, its
/// inverse and the product once; the exponent rounds once, which the power magnifies by ln(theta).
double angle_error(double angle, double theta) {
  return (4 + std::log(theta)) * unit_roundoff<double> * std::abs(angle);
}

/// Rotates random rows at `positions` and compares every element with the complex product; columns
/// beyond rope_dim, and the gaps, must keep their bits.
template <class T>
void expect_complex_product(const RopeOptions& options, Index num_heads, Index cols,
                            const std::vector<Index>& positions, Random& random) {
  Storage<T> before(num_heads, std::ssize(positions), cols, random);
  Storage<T> after = before;
  Rope(options).rotate(after.view(), positions);

  const Index seqlen = std::ranges::max(positions) + 1;
  const double scaling =
      frequencies(options.rope_dim, options.theta, options.scaling, seqlen).attention_scaling;
  std::vector<T> expected = before.elements;  // what is turned is compared apart
  for (Index head = 0; head < num_heads; ++head) {
    for (Index row = 0; row < before.rows; ++row) {
      for (Index pair = 0; pair < options.rope_dim / 2; ++pair) {
        const Index first = first_column(options.pairing, pair);
        const Index second = second_column(options.pairing, options.rope_dim, pair);
        const T x = before.view()(head, row, first), y = before.view()(head, row, second);
        const long double exponent =
            -2 * static_cast<long double>(pair) / static_cast<long double>(options.rope_dim);
        const long double angle =
            static_cast<long double>(positions[static_cast<std::size_t>(row)]) *
            std::pow(static_cast<long double>(options.theta), exponent);
        const std::complex<long double> product = std::complex<long double>(x, y) *
                                                  std::complex(std::cos(angle), std::sin(angle)) *
                                                  static_cast<long double>(scaling);
        const double error = angle_error(static_cast<double>(angle), options.theta);
        const double bound = turn_bound<T>(x, y, error, scaling);
        EXPECT_NEAR(static_cast<double>(after.view()(head, row, first) - product.real()), 0, bound);
        EXPECT_NEAR(static_cast<double>(after.view()(head, row, second) - product.imag()), 0,
                    bound);
        for (const Index column : {first, second}) {
          const auto offset = &before.view()(head, row, column) - before.elements.data();
          expected[static_cast<std::size_t>(offset)] = after.view()(head, row, column);
        }
      }
    }
  }
  EXPECT_EQ(after.elements, expected);
}

template <class T>
class RopeOf : public ::testing::Test {};
using Elements = ::testing::Types<float, double>;
TYPED_TEST_SUITE(RopeOf, Elements);

TYPED_TEST(RopeOf, IsTheComplexProduct) {
  Random random(1);
  for (const RopePairing pairing : {RopePairing::half_split, RopePairing::interleaved})
    for (const Index rope_dim : {2, 4, 6, 18, 64, 128})
      for (const Index nope_dim : {0, 1, 7}) {
        const std::vector<Index> positions{5, 0, 131'071, 17, 1'000'000, 17};
        expect_complex_product<TypeParam>(
            {.rope_dim = rope_dim, .theta = 500'000, .pairing = pairing}, 3, rope_dim + nope_dim,
            positions, random);
      }
}

// More pairs than are held on the stack at a time, with a last part that is not full.
TYPED_TEST(RopeOf, IsTheComplexProductForVeryWideHeads) {
  Random random(2);
  for (const RopePairing pairing : {RopePairing::half_split, RopePairing::interleaved})
    for (const Index rope_dim : {512, 514, 1100})
      expect_complex_product<TypeParam>({.rope_dim = rope_dim, .pairing = pairing}, 2, rope_dim + 2,
                                        {3, 1000}, random);
}

TYPED_TEST(RopeOf, RandomShapes) {
  Random random(3);
  for (int repetition = 0; repetition < 100; ++repetition) {
    const RopeOptions options{
        .rope_dim = 2 * random.integer(1, 80),
        .theta = random.uniform(2, 1e6),
        .pairing = random.integer(0, 1) ? RopePairing::half_split : RopePairing::interleaved};
    std::vector<Index> positions(static_cast<std::size_t>(random.integer(1, 6)));
    for (Index& position : positions) position = random.integer(-100, 10'000);
    expect_complex_product<TypeParam>(options, random.integer(1, 5),
                                      options.rope_dim + random.integer(0, 5), positions, random);
  }
}

// cos and sin carry YaRN's attention scaling: at position 0 it is all that is left.
TYPED_TEST(RopeOf, MultipliesByAttentionScaling) {
  Random random(4);
  const YarnScaling yarn{
      .factor = 4, .original_max_position_embeddings = 256, .attention_factor = 1.5};
  Storage<TypeParam> before(2, 1, 16, random);
  Storage<TypeParam> after = before;
  Rope({.rope_dim = 16, .scaling = yarn}).rotate(after.view(), 0);
  for (Index head = 0; head < 2; ++head)
    for (Index column = 0; column < 16; ++column)
      EXPECT_EQ(after.view()(head, 0, column),
                before.view()(head, 0, column) * static_cast<TypeParam>(1.5));
}

/// All scalings, at a seqlen where each does something.
std::vector<RopeScaling> all_scalings(Index rope_dim) {
  const auto pairs = static_cast<std::size_t>(rope_dim / 2);
  std::vector<double> longer(pairs), own(pairs);
  for (std::size_t pair = 0; pair < pairs; ++pair) {
    longer[pair] = 1 + static_cast<double>(pair);
    own[pair] = 0.5 / (1 + static_cast<double>(pair));
  }
  return {UnscaledRope{},
          LinearScaling{.factor = 4},
          DynamicNtkScaling{.factor = 2, .max_position_embeddings = 64},
          YarnScaling{.factor = 4, .original_max_position_embeddings = 64},
          Llama3Scaling{.factor = 8, .original_max_position_embeddings = 64},
          LongRopeScaling{.short_factor = std::vector<double>(pairs, 1.5),
                          .long_factor = longer,
                          .original_max_position_embeddings = 64,
                          .factor = 4},
          RopeFrequencies{.inverse_frequency = own, .attention_scaling = 0.75}};
}

TYPED_TEST(RopeOf, UsesTheFrequenciesOfTheScaling) {
  Random random(5);
  for (const RopeScaling& scaling : all_scalings(16))
    for (const Index first : {0, 40, 500}) {
      Storage<TypeParam> actual(2, 24, 16, random);
      Storage<TypeParam> expected = actual;
      Rope({.rope_dim = 16, .scaling = scaling}).rotate(actual.view(), first);
      const auto given = frequencies(16, 10'000, scaling, first + 24);
      Rope({.rope_dim = 16, .scaling = given}).rotate(expected.view(), first);
      EXPECT_EQ(actual.elements, expected.elements) << "scaling " << scaling.index();
    }
}

// Without a seqlen it is the highest position + 1, wherever that stands, or the largest number
// there is; a given seqlen wins.
TYPED_TEST(RopeOf, SeqlenIsTheHighestPositionAndOne) {
  Random random(12);
  for (const RopeScaling& scaling : all_scalings(16))  // trained on 64 tokens
    for (const Index highest : {Index{62}, Index{63}, Index{64}, Index{65}, most}) {
      const std::vector<Index> positions{3, highest, 0};
      for (const std::optional<Index> seqlen :
           {std::optional<Index>(), std::optional<Index>(64), std::optional<Index>(100)}) {
        Storage<TypeParam> actual(2, 3, 16, random);
        Storage<TypeParam> expected = actual;
        Rope({.rope_dim = 16, .scaling = scaling}).rotate(actual.view(), positions, seqlen);
        const auto given =
            frequencies(16, 10'000, scaling, seqlen.value_or(std::min(highest, most - 1) + 1));
        Rope({.rope_dim = 16, .scaling = given}).rotate(expected.view(), positions);
        EXPECT_EQ(actual.elements, expected.elements) << "scaling " << scaling.index();
      }
    }
}

TYPED_TEST(RopeOf, StretchesVeryWideHeads) {
  Random random(13);
  const DynamicNtkScaling ntk{.factor = 2, .max_position_embeddings = 64};
  Storage<TypeParam> actual(1, 2, 1030, random);
  Storage<TypeParam> expected = actual;
  Rope({.rope_dim = 1030, .scaling = ntk}).rotate(actual.view(), 99);
  const auto given = frequencies(1030, 10'000, ntk, 101);
  Rope({.rope_dim = 1030, .scaling = given}).rotate(expected.view(), 99);
  EXPECT_EQ(actual.elements, expected.elements);
}

// Blocks of the rows give the same bits as all rows, if they are told the seqlen of all.
TYPED_TEST(RopeOf, SeqlenChoosesTheFrequencies) {
  Random random(6);
  for (const RopeScaling& scaling : all_scalings(16)) {
    const Rope rope({.rope_dim = 16, .scaling = scaling});
    Storage<TypeParam> before(2, 100, 16, random);
    Storage<TypeParam> whole = before, blocks = before, alone = before;
    rope.rotate(whole.view(), 0);
    rope.rotate(blocks.view().middle_rows(60, 40), 60, 100);
    rope.rotate(blocks.view().middle_rows(0, 60), 0, 100);
    EXPECT_EQ(blocks.elements, whole.elements) << "scaling " << scaling.index();

    rope.rotate(alone.view().middle_rows(0, 60), 0);  // short enough to be left unstretched
    rope.rotate(alone.view().middle_rows(60, 40), 60);
    const bool depends = std::holds_alternative<DynamicNtkScaling>(scaling) ||
                         std::holds_alternative<LongRopeScaling>(scaling);
    EXPECT_EQ(alone.elements != whole.elements, depends) << "scaling " << scaling.index();
  }
}

TYPED_TEST(RopeOf, TakesPositionsInAnyOrder) {
  Random random(7);
  const Rope rope({.rope_dim = 10});
  const std::vector<Index> positions{9, 2, 2, 700, 0};
  Storage<TypeParam> together(3, 5, 12, random);
  Storage<TypeParam> one_by_one = together;
  rope.rotate(together.view(), positions);
  for (Index row = 0; row < 5; ++row)
    for (Index head = 0; head < 3; ++head)
      rope.rotate(one_by_one.view().head(head).middle_rows(row, 1),
                  positions[static_cast<std::size_t>(row)]);
  EXPECT_EQ(together.elements, one_by_one.elements);
}

TYPED_TEST(RopeOf, InverseUndoesTheRotation) {
  Random random(8);
  for (const RopePairing pairing : {RopePairing::half_split, RopePairing::interleaved})
    for (const RopeScaling& scaling : all_scalings(16)) {
      const Rope rope({.rope_dim = 16, .pairing = pairing, .scaling = scaling});
      const std::vector<Index> positions{300, 7, 0, 99'999};
      const double s = frequencies(16, 10'000, scaling, 100'000).attention_scaling;
      Storage<TypeParam> before(2, 4, 20, random);
      Storage<TypeParam> after = before;
      rope.rotate(after.view(), positions);
      EXPECT_NE(after.elements, before.elements);
      rope.rotate_inverse(after.view(), positions);
      for (Index head = 0; head < 2; ++head)
        for (Index row = 0; row < 4; ++row)
          for (Index pair = 0; pair < 8; ++pair) {
            const Index first = first_column(pairing, pair);
            const Index second = second_column(pairing, 16, pair);
            const double x = before.view()(head, row, first), y = before.view()(head, row, second);
            // Both ways use the same angle, so that its error does not matter. Between them the
            // sum of magnitudes may have grown by sqrt(2), and the first error is turned too,
            // which makes it sqrt(2) larger at most.
            const double bound = 3 * turn_bound<TypeParam>(x, y, 0, s * s);
            EXPECT_NEAR(after.view()(head, row, first), s * s * x, bound);
            EXPECT_NEAR(after.view()(head, row, second), s * s * y, bound);
          }
    }
}

// <rotate(x), g> = <x, rotate_inverse(g)>: what backward needs.
TYPED_TEST(RopeOf, InverseIsTheTranspose) {
  Random random(9);
  for (const RopePairing pairing : {RopePairing::half_split, RopePairing::interleaved}) {
    const YarnScaling yarn{.factor = 4, .original_max_position_embeddings = 64};
    const Rope rope({.rope_dim = 32, .pairing = pairing, .scaling = yarn});
    const double s = yarn_mscale(4, 1);
    Storage<TypeParam> x(1, 1, 32, random), g(1, 1, 32, random);
    Storage<TypeParam> rotated_x = x, rotated_g = g;
    rope.rotate(rotated_x.view(), 123);
    rope.rotate_inverse(rotated_g.view(), 123);
    double left = 0, right = 0, bound = 0;  // sums in double, whose own error float's bound covers
    for (Index pair = 0; pair < 16; ++pair) {
      const Index first = first_column(pairing, pair), second = second_column(pairing, 32, pair);
      const double x_first = x.view()(0, 0, first), x_second = x.view()(0, 0, second);
      const double g_first = g.view()(0, 0, first), g_second = g.view()(0, 0, second);
      left += rotated_x.view()(0, 0, first) * g_first + rotated_x.view()(0, 0, second) * g_second;
      right += rotated_g.view()(0, 0, first) * x_first + rotated_g.view()(0, 0, second) * x_second;
      const double g_sum = std::abs(g_first) + std::abs(g_second);
      const double x_sum = std::abs(x_first) + std::abs(x_second);
      bound += g_sum * turn_bound<TypeParam>(x_first, x_second, 0, s) +
               x_sum * turn_bound<TypeParam>(g_first, g_second, 0, s) +
               2 * x_sum * g_sum * s * test::dot_bound<double>(32);
    }
    EXPECT_NEAR(left, right, bound);
  }
}

/// The score of a query at position m and a key at position n.
double score(const Rope& rope, std::vector<double> query, std::vector<double> key, Index m,
             Index n) {
  rope.rotate(RowsView<double>(query), m);
  rope.rotate(RowsView<double>(key), n);
  double sum = 0;
  for (std::size_t column = 0; column < query.size(); ++column) sum += query[column] * key[column];
  return sum;
}

TEST(Rope, ScoreDependsOnTheDistanceAlone) {
  Random random(10);
  const std::vector<double> query = random.normals<double>(32), key = random.normals<double>(32);
  for (const RopePairing pairing : {RopePairing::half_split, RopePairing::interleaved}) {
    const Rope rope({.rope_dim = 32, .pairing = pairing});
    // Of one score. All use the same frequencies, so that only the product with the position, up
    // to 60000, makes an error in the angle. The rotated magnitudes are sqrt(2) larger at most.
    double bound = 0;
    const double error = 60'000 * unit_roundoff<double>;
    for (Index pair = 0; pair < 16; ++pair) {
      const auto first = static_cast<std::size_t>(first_column(pairing, pair));
      const auto second = static_cast<std::size_t>(second_column(pairing, 32, pair));
      const double key_sum = std::abs(key[first]) + std::abs(key[second]);
      const double query_sum = std::abs(query[first]) + std::abs(query[second]);
      bound += 2 * key_sum * turn_bound<double>(query[first], query[second], error, 1) +
               2 * query_sum * turn_bound<double>(key[first], key[second], error, 1) +
               2 * key_sum * query_sum * test::dot_bound<double>(32);
    }
    for (const Index distance : {-7, 0, 1, 500}) {
      const double here = score(rope, query, key, 1000 + distance, 1000);
      EXPECT_NEAR(score(rope, query, key, 7 + distance, 7), here, 2 * bound);
      EXPECT_NEAR(score(rope, query, key, 50'000 + distance, 50'000), here, 2 * bound);
      EXPECT_GT(std::abs(score(rope, query, key, 1001 + distance, 1000) - here), 1000 * bound);
    }
  }
}

TEST(Rope, RotatesEigenMatricesAndBlocks) {
  using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Rope rope({.rope_dim = 4});
  const Rows before = Rows::Random(3, 10);
  Rows matrix = before, view = before;
  rope.rotate(matrix.middleCols(6, 4), 20);
  rope.rotate(HeadsView<float>(view).middle_cols(6, 4), 20);
  EXPECT_EQ(matrix, view);
  EXPECT_EQ(matrix.leftCols(6), before.leftCols(6));
  EXPECT_NE(matrix.rightCols(4), before.rightCols(4));

  rope.rotate(split_heads(matrix, 2), std::vector<Index>{1, 2, 3});
  rope.rotate(RowsView<float>(view).middle_cols(0, 5), 1);
  rope.rotate(RowsView<float>(view).middle_cols(5, 5), 1);
  EXPECT_EQ(matrix, view);
}

TEST(Rope, IsAsItWasAfterAMove) {
  Rope rope({.rope_dim = 4});
  const Rope moved = std::move(rope);
  float row[] = {1, 2, 3, 4}, same[] = {1, 2, 3, 4};
  rope.rotate(HeadsView<float>(row, 1, 1, 4), 5);  // NOLINT(bugprone-use-after-move): allowed
  moved.rotate(HeadsView<float>(same, 1, 1, 4), 5);
  EXPECT_THAT(row, testing::ElementsAreArray(same));
}

TEST(Rope, TakesNoRowsAndNoHeads) {
  const Rope rope({.rope_dim = 4});
  rope.rotate(HeadsView<float>(nullptr, 2, 0, 4), std::vector<Index>{});
  rope.rotate(HeadsView<float>(nullptr, 2, 0, 4), 3);
  rope.rotate(HeadsView<float>(nullptr, 0, 2, 4), std::vector<Index>{1, 2});
}

TEST(Rope, SaysWhatIsWrongAndWritesNothing) {
  Random random(11);
  const Rope rope({.rope_dim = 8});
  Storage<float> heads(2, 3, 6, random);
  const std::vector<float> before = heads.elements;
  EXPECT_THAT(
      [&] { rope.rotate(heads.view(), 0); },
      ThrowsMessage<ShapeError>("heed::Rope::rotate: heads [num_heads, seqlen, head_dim] has "
                                "shape [2, 3, 6], expected head_dim >= rope_dim = 8"));
  const Rope narrow({.rope_dim = 6});
  const std::vector<Index> positions{0, 1};
  EXPECT_THAT([&] { narrow.rotate_inverse(heads.view(), positions); },
              ThrowsMessage<ShapeError>("heed::Rope::rotate_inverse: positions [seqlen] has shape "
                                        "[2], expected [3]"));
  EXPECT_THAT([&] { narrow.rotate(heads.view(), most - 2); },
              ThrowsMessage<ShapeError>("heed::Rope::rotate: first_position is "
                                        "9223372036854775805, expected one that rows can follow "
                                        "on"));
  EXPECT_THAT([&] { rope.rotate(HeadsView<float>(nullptr, 2, -1, 8), 1); },
              ThrowsMessage<ShapeError>("heed::Rope::rotate: heads [num_heads, seqlen, head_dim] "
                                        "has -1 rows, expected 0 or more"));
  EXPECT_THAT([&] { rope.rotate(HeadsView<float>(nullptr, -2, 1, 8), 1); },
              ThrowsMessage<ShapeError>("heed::Rope::rotate: heads [num_heads, seqlen, head_dim] "
                                        "has -2 heads, expected 0 or more"));
  EXPECT_EQ(heads.elements, before);
  EXPECT_THAT(
      [] { Rope({.rope_dim = 7}); },
      ThrowsMessage<ShapeError>(
          "heed::RopeFrequencies: rope_dim is 7, expected a positive even number: RoPE "
          "rotates pairs of columns. Leave an odd column unrotated: it belongs to nope_dim"));
  EXPECT_THAT(
      [&] { (void)rope.tabulate(-1); },
      ThrowsMessage<ShapeError>("heed::Rope::tabulate: max_positions is -1, expected 0 to 2^32"));
  // Though its table, which ends with the trained length, would be small.
  const Rope ntk({.rope_dim = 4, .scaling = DynamicNtkScaling{2, 16}});
  EXPECT_THAT([&] { (void)ntk.tabulate((Index{1} << 32) + 1); },
              ThrowsMessage<ShapeError>("heed::Rope::tabulate: max_positions is 4294967297, "
                                        "expected 0 to 2^32"));
}

}  // namespace
}  // namespace heed
