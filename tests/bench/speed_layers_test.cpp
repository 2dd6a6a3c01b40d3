// SPDX-License-Identifier: MIT
/// \file
/// The Markdown of the whole-layer cases, and where MLA's paths cross.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "speed/layer_figures.hpp"

namespace {

using heed::Index;
using heed::LatentShape;
using heed::MlaPath;
using heed::bench::CrossoverResult;
using heed::bench::LayerResult;

constexpr LatentShape v2_lite{.model_dim = 2048,
                              .num_heads = 16,
                              .latent_dim = 512,
                              .rope_dim = 64,
                              .nope_dim = 128,
                              .head_dim_v = 128};

TEST(Layers, HaveARowEachWithTheThreadsSideBySide) {
  const std::vector<LayerResult> results{{"layer/a", 1, 10e-3, 5e-3, 0.1e-3, 4e-3},
                                         {"layer/a", 2, 5e-3, 2e-3, 0.05e-3, 2e-3},
                                         {"layer/b", 1, 1e-3, 0.9e-3, 0, 0.1e-3}};
  EXPECT_EQ(heed::bench::layers_text(results), R"(
| layer | ms | projections | RoPE | attention |
| --- | --- | --- | --- | --- |
| layer/a | 10.0 / 5.00 | 50% / 40% | 1% | 40% |
| layer/b | 1.00 | 90% | 0% | 10% |
)");
  EXPECT_EQ(heed::bench::layers_text({}), "");
}

TEST(Crossover, IsBetweenTheNeighboursWhereTheLeadChanges) {
  const auto of = [](std::vector<CrossoverResult> results) {
    return heed::bench::measured_crossover(results);
  };
  constexpr MlaPath any = MlaPath::absorbed;
  EXPECT_EQ(of({{1, 64, 1, 1, 5, any}, {10, 64, 1, 2, 5, any}, {20, 64, 1, 8, 5, any}}), 15);
  EXPECT_EQ(of({{10, 64, 1, 4, 5, any}, {20, 64, 1, 5, 5, any}}), 20);
  EXPECT_EQ(of({{10, 64, 1, 1, 5, any}, {20, 64, 1, 2, 5, any}}), 0);
  EXPECT_EQ(of({}), 0);
}

TEST(Crossover, IsWhereTheLibraryChanges) {
  const Index crossover = heed::bench::chosen_crossover(v2_lite, 4096);
  EXPECT_EQ(heed::cheaper_path(v2_lite, crossover - 1, 4096 + crossover - 1), MlaPath::absorbed);
  EXPECT_EQ(heed::cheaper_path(v2_lite, crossover, 4096 + crossover), MlaPath::expanded);
}

TEST(Crossover, HasATableAndASentence) {
  const std::vector<CrossoverResult> results{
      {1, 4096, 1, 1e-3, 90e-3, MlaPath::absorbed},
      {1, 4096, 2, 2e-3, 80e-3, MlaPath::absorbed},
      {512, 4096, 1, 200e-3, 100e-3, MlaPath::expanded},
      {512, 4096, 2, 50e-3, 60e-3, MlaPath::expanded},
  };
  const std::string text = heed::bench::crossovers_text(v2_lite, results);
  EXPECT_THAT(text, testing::StartsWith(R"(
| new tokens on cached | absorbed, ms | expanded, ms | heed takes |
| --- | --- | --- | --- |
| 1 on 4096 | 1.00 / 2.00 | 90.0 / 80.0 | absorbed |
| 512 on 4096 | 200 / 50.0 | 100 / 60.0 | expanded |

On 4096 tokens, heed expands from )"));
  EXPECT_THAT(text, testing::HasSubstr(" from about 242 on with 1 thread, "));
  EXPECT_THAT(text, testing::EndsWith(" from none of those measured on with 2 threads.\n"));
  EXPECT_EQ(heed::bench::crossovers_text(v2_lite, {}), "");
}

}  // namespace
