// SPDX-License-Identifier: MIT
/// \file
/// How often tokens are drawn.

#include "sampler.hpp"

#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include <gtest/gtest.h>

namespace smollm2 {
namespace {

/// Tokens of probability 0.1, 0.4, 0.2 and 0.3 at temperature 1.
const std::vector<float> logits{std::log(0.1F), std::log(0.4F), std::log(0.2F), std::log(0.3F)};

std::map<Token, double> shares(const SamplerOptions& options, int count = 20'000) {
  Sampler sampler(options);
  std::map<Token, double> shares;
  for (int i = 0; i < count; ++i) shares[sampler(logits)] += 1.0 / count;
  return shares;
}

TEST(Sampler, TakesTheLikeliestAtTemperatureZero) {
  Sampler sampler({});
  EXPECT_EQ(sampler(logits), 1);
  EXPECT_EQ(sampler(std::vector<float>{0, 2, 2, 1}), 1) << "of two, the first";
}

TEST(Sampler, DrawsByProbability) {
  auto found = shares({.temperature = 1});
  const double bound = 5 * std::sqrt(0.25 / 20'000);  // five standard deviations
  EXPECT_NEAR(found[0], 0.1, bound);
  EXPECT_NEAR(found[1], 0.4, bound);
  EXPECT_NEAR(found[2], 0.2, bound);
  EXPECT_NEAR(found[3], 0.3, bound);
}

TEST(Sampler, TemperatureIsAnExponent) {
  auto found = shares({.temperature = 0.5});
  EXPECT_NEAR(found[1], 0.16 / 0.30, 0.02);  // squares: 0.01, 0.16, 0.04, 0.09
  EXPECT_NEAR(found[3], 0.09 / 0.30, 0.02);
}

TEST(Sampler, TopPKeepsTheLikeliest) {
  auto found = shares({.temperature = 1, .top_p = 0.6});  // 0.4 and 0.3
  EXPECT_EQ(found.size(), 2u);
  EXPECT_NEAR(found[1], 4.0 / 7, 0.02);
  EXPECT_NEAR(found[3], 3.0 / 7, 0.02);
  EXPECT_EQ(shares({.temperature = 1, .top_p = 0}).size(), 1u) << "one is always left";
}

TEST(Sampler, DrawsTheSameFromTheSameSeed) {
  Sampler first({.temperature = 1, .seed = 3}), second({.temperature = 1, .seed = 3}),
      third({.temperature = 1, .seed = 4});
  int different = 0;
  for (int i = 0; i < 100; ++i) {
    const Token token = first(logits);
    EXPECT_EQ(second(logits), token);
    different += third(logits) != token;
  }
  EXPECT_GT(different, 20);
}

}  // namespace
}  // namespace smollm2
