// SPDX-License-Identifier: MIT
/// \file
/// Tables change no bit, calls allocate nothing, and threads may share a Rope.

#include <cmath>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "heed/rope/rope.hpp"
#include "support/allocation_count.hpp"  // count_allocations
#include "support/random.hpp"            // Random

namespace heed {
namespace {

using test::Random;

constexpr Index rope_dim = 12;
constexpr Index trained = 32;  ///< trained length, in tokens

/// The scalings whose frequencies depend on the length, and one whose do not.
std::vector<RopeScaling> scalings() {
  return {YarnScaling{.factor = 4, .original_max_position_embeddings = trained},
          DynamicNtkScaling{.factor = 2, .max_position_embeddings = trained},
          LongRopeScaling{.short_factor = {1, 1, 1, 1, 1, 2},
                          .long_factor = {1, 2, 3, 4, 5, 6},
                          .original_max_position_embeddings = trained,
                          .factor = 4}};
}

template <class T>
void expect_same_with_table(const Rope& rope, Index max_positions,
                            const std::vector<Index>& positions) {
  Random random(1);
  const Index rows = std::ssize(positions);
  std::vector<T> direct = random.normals<T>(2 * rows * rope_dim), tabulated = direct;
  const Rope with_table = rope.tabulate(max_positions);
  rope.rotate(HeadsView<T>(direct.data(), 2, rows, rope_dim), positions);
  with_table.rotate(HeadsView<T>(tabulated.data(), 2, rows, rope_dim), positions);
  EXPECT_EQ(tabulated, direct);
  rope.rotate_inverse(HeadsView<T>(direct.data(), 2, rows, rope_dim), positions);
  with_table.rotate_inverse(HeadsView<T>(tabulated.data(), 2, rows, rope_dim), positions);
  EXPECT_EQ(tabulated, direct);
}

TEST(RopeTable, ChangesNoBit) {
  for (const RopePairing pairing : {RopePairing::half_split, RopePairing::interleaved})
    for (const RopeScaling& scaling : scalings()) {
      const Rope rope({.rope_dim = rope_dim, .pairing = pairing, .scaling = scaling});
      for (const Index max_positions : {Index{0}, Index{1}, trained, 2 * trained})
        for (const std::vector<Index>& positions :
             {std::vector<Index>{0, 1, trained - 1}, {-1, trained, 3}, {2 * trained, 5}, {1000}}) {
          expect_same_with_table<float>(rope, max_positions, positions);
          expect_same_with_table<double>(rope, max_positions, positions);
        }
    }
}

TEST(RopeTable, ChangesNoBitOfVeryWideHeads) {
  Random random(2);
  const Rope rope({.rope_dim = 1030});
  std::vector<float> direct = random.normals<float>(3 * 1030), tabulated = direct;
  rope.rotate(HeadsView<float>(direct.data(), 1, 3, 1030), 4);
  rope.tabulate(16).rotate(HeadsView<float>(tabulated.data(), 1, 3, 1030), 4);
  EXPECT_EQ(tabulated, direct);
}

TEST(RopeTable, FindsItsPositionsAlone) {
  const RopeFrequencies frequencies{.inverse_frequency = {0.1, 0.2}, .attention_scaling = 1};
  const detail::CosSinTable table(frequencies, 3);
  detail::CosSin<float> found{};
  ASSERT_TRUE(detail::look_up(&table, 2, 1, found));
  EXPECT_EQ(found.cosine[0], static_cast<float>(std::cos(2 * 0.2)));
  EXPECT_EQ(found.sine[0], static_cast<float>(std::sin(2 * 0.2)));
  EXPECT_FALSE(detail::look_up(&table, 3, 0, found));
  EXPECT_FALSE(detail::look_up(&table, -1, 0, found));
  EXPECT_FALSE(detail::look_up(nullptr, 0, 0, found));
}

TEST(Rope, AllocatesNothing) {
  Random random(3);
  const std::vector<Index> positions{70, 3};
  std::vector<float> elements = random.normals<float>(2 * 2 * rope_dim);
  const HeadsView<float> heads(elements.data(), 2, 2, rope_dim);
  for (const RopeScaling& scaling : scalings()) {
    const Rope direct({.rope_dim = rope_dim, .scaling = scaling});
    const Rope tabulated = direct.tabulate(128);
    EXPECT_EQ(test::count_allocations([&] {
                for (const Rope* rope : {&direct, &tabulated}) {
                  rope->rotate(heads, positions);
                  rope->rotate(heads, 5);
                  rope->rotate_inverse(heads, positions, 200);
                }
              }),
              0);
    EXPECT_GT(test::count_allocations([&] { (void)direct.tabulate(1); }), 0)
        << "the counter counts nothing";
  }
}

TEST(Rope, MayBeSharedByThreads) {
  Random random(4);
  for (const RopeScaling& scaling : scalings()) {
    const Rope rope = Rope({.rope_dim = rope_dim, .scaling = scaling}).tabulate(50);
    std::vector<float> alone = random.normals<float>(100 * rope_dim), shared = alone;
    rope.rotate(RowsView<float>(alone.data(), 100, rope_dim), 0);
    const RowsView<float> rows(shared.data(), 100, rope_dim);
    std::thread other([&] { rope.rotate(rows.middle_rows(40, 60), 40, 100); });
    rope.rotate(rows.middle_rows(0, 40), 0, 100);
    other.join();
    EXPECT_EQ(shared, alone);
  }
}

}  // namespace
}  // namespace heed
