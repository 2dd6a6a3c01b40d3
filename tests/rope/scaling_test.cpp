// SPDX-License-Identifier: MIT
/// \file
/// The frequencies of every scaling against numbers of the published code and numbers by hand.

#include "heed/rope/scaling.hpp"

#include <cmath>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/tolerance.hpp"  // unit_roundoff

namespace heed {
namespace {

using test::unit_roundoff;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

/// Compares with inverse frequencies that were themselves computed in double.
///
/// Both sides round pow (up to two units), the exponent, a quotient and a product or two: 8
/// roundings. A ramp adds the errors of its ends, which are sums of logarithms times at most
/// rope_dim, over its width; `ramp` is that ratio, 0 where there is none. These errors are relative
/// to the frequency before scaling.
void expect_frequencies(const RopeFrequencies& actual, const std::vector<double>& expected,
                        double theta, double ramp = 0) {
  ASSERT_EQ(actual.inverse_frequency.size(), expected.size());
  for (std::size_t pair = 0; pair < expected.size(); ++pair) {
    const double exponent = static_cast<double>(pair) / static_cast<double>(expected.size());
    const double unscaled = std::pow(theta, -exponent);
    EXPECT_NEAR(actual.inverse_frequency[pair], expected[pair],
                unit_roundoff<double> * (8 * expected[pair] + 8 * ramp * unscaled))
        << "pair " << pair;
  }
}

constexpr double roundings(int count) { return count * unit_roundoff<double>; }

TEST(BaseFrequencies, AreAGeometricSeries) {
  const RopeFrequencies base = base_frequencies(8, 10'000);
  expect_frequencies(base, {1, 0.1, 0.01, 0.001}, 10'000);
  EXPECT_EQ(base.attention_scaling, 1);
  expect_frequencies(frequencies(8, 10'000, UnscaledRope{}, 1 << 20), {1, 0.1, 0.01, 0.001},
                     10'000);
}

// transformers v4.57.6, Llama 3's theta and gpt-oss's.
TEST(BaseFrequencies, AreThePublishedOnesForOtherBases) {
  expect_frequencies(base_frequencies(8, 500'000),
                     {1, 0.03760603093086393, 0.001414213562373095, 5.318295896944989e-05},
                     500'000);
  expect_frequencies(base_frequencies(8, 150'000),
                     {1, 0.050813274815461475, 0.0025819888974716113, 0.00013119931141769534},
                     150'000);
}

// transformers v4.57.6: {"rope_type": "linear", "factor": 4.0}.
TEST(LinearScaling, SlowsEveryPair) {
  const auto scaled = frequencies(16, 10'000, LinearScaling{.factor = 4}, 32);
  expect_frequencies(scaled,
                     {0.25, 0.07905694150420949, 0.025, 0.007905694150420948, 0.0025,
                      0.0007905694150420947, 0.00025, 7.905694150420948e-05},
                     10'000);
  EXPECT_EQ(scaled.attention_scaling, 1);
}

// transformers v4.57.6: {"rope_type": "dynamic", "factor": 2.0}, max_position_embeddings 16, at 32
// tokens. By hand: theta becomes 10000 * (2 * 32 / 16 - 1)^(16 / 14).
TEST(DynamicNtkScaling, RaisesThetaBeyondTheTrainedLength) {
  const DynamicNtkScaling ntk{.factor = 2, .max_position_embeddings = 16};
  const auto scaled = frequencies(16, 10'000, ntk, 32);
  expect_frequencies(
      scaled,
      {1, 0.27029612569240363, 0.07305999556432365, 0.019747833744140873, 0.005337762951858991,
       0.001442776645751933, 0.000389976937586229, 0.00010540925533894597},
      10'000);
  EXPECT_EQ(scaled.attention_scaling, 1);
  // The slowest pair is slowed by the whole stretch, 3: that is what the exponent is for.
  EXPECT_NEAR(scaled.inverse_frequency[7], base_frequencies(16, 10'000).inverse_frequency[7] / 3,
              roundings(16) * scaled.inverse_frequency[7]);
}

TEST(DynamicNtkScaling, ChangesNothingUpToTheTrainedLength) {
  const DynamicNtkScaling ntk{.factor = 2, .max_position_embeddings = 16};
  const auto base = base_frequencies(16, 10'000).inverse_frequency;
  EXPECT_EQ(frequencies(16, 10'000, ntk, 0).inverse_frequency, base);
  EXPECT_EQ(frequencies(16, 10'000, ntk, 16).inverse_frequency, base);
  EXPECT_LT(frequencies(16, 10'000, ntk, 17).inverse_frequency[1], base[1]);
}

// transformers v4.57.6: {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
// "high_freq_factor": 4.0, "original_max_position_embeddings": 64}.
TEST(Llama3Scaling, IsThePublishedOne) {
  const Llama3Scaling llama{.factor = 8, .original_max_position_embeddings = 64};
  const auto scaled = frequencies(16, 10'000, llama, 32);
  // The ramp lies between 1 and 4 turns and is computed from turns of about 4: ratio 4 / 3.
  expect_frequencies(scaled,
                     {1, 0.24438459943539836, 0.013042256043820465, 0.003952847075210474, 0.00125,
                      0.00039528470752104737, 0.000125, 3.952847075210474e-05},
                     10'000, 4.0 / 3);
  EXPECT_EQ(scaled.attention_scaling, 1);
}

// Llama 3.1: wavelengths 2 pi 500000^(i/64) below 8192 / 4 up to pair 28, above 8192 from pair 35.
TEST(Llama3Scaling, KeepsFastPairsAndSlowsSlowOnes) {
  const Llama3Scaling llama{.factor = 8, .original_max_position_embeddings = 8192};
  const auto scaled = frequencies(128, 500'000, llama, 1).inverse_frequency;
  const auto base = base_frequencies(128, 500'000).inverse_frequency;
  for (std::size_t pair = 0; pair < 64; ++pair) {
    if (pair <= 28) {
      EXPECT_EQ(scaled[pair], base[pair]) << pair;
    } else if (pair >= 35) {
      EXPECT_EQ(scaled[pair], base[pair] / 8) << pair;
    } else {
      EXPECT_LT(scaled[pair], base[pair]) << pair;
      EXPECT_GT(scaled[pair], base[pair] / 8) << pair;
    }
  }
  // Pair 32 turns 8192 / (2 pi sqrt(500000)) = 1.8439 times; the mean weighs it by that less 1,
  // / 3.
  const double kept = (8192 / (2 * std::numbers::pi * std::sqrt(500'000.0)) - 1) / 3;
  EXPECT_NEAR(kept, 0.2813, 5e-5);
  EXPECT_NEAR(scaled[32], (kept + (1 - kept) / 8) / std::sqrt(500'000.0), roundings(16) * base[32]);
}

// transformers v4.57.6: {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings":
// 256, "beta_fast": 32.0, "beta_slow": 1.0}; the frequencies of DeepSeek-V3's inference/model.py
// with rope_factor 4 and original_seq_len 256 are the same.
const std::vector<double> yarn_4{1,      0.2569350598886808,    0.0625,  0.01383496476323666,
                                 0.0025, 0.0007905694150420947, 0.00025, 7.905694150420948e-05};

TEST(YarnScaling, IsThePublishedOne) {
  const YarnScaling yarn{.factor = 4, .original_max_position_embeddings = 256};
  const auto scaled = frequencies(16, 10'000, yarn, 32);
  expect_frequencies(scaled, yarn_4, 10'000, 1);  // a ramp from 0 to 4, in whole pairs
  EXPECT_NEAR(scaled.attention_scaling, 1.138629436111989, roundings(4));
}

// transformers v4.57.6, gpt-oss: {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0,
// "beta_slow": 1.0, "truncate": false, "original_max_position_embeddings": 256}.
TEST(YarnScaling, MayRampBetweenPairs) {
  const YarnScaling yarn{
      .factor = 32, .original_max_position_embeddings = 256, .range = YarnRange::fractional};
  const auto scaled = frequencies(16, 150'000, yarn, 32);
  // The ramp goes from pair 0.162 to pair 2.489: ratio 2.489 / 2.327.
  expect_frequencies(
      scaled,
      {1, 0.14676759377552487, 0.011923794455416876, 0.00035794458727063204, 8.068715304598785e-05,
       1.818833668168956e-05, 4.0999784818029795e-06, 9.242089502428301e-07},
      150'000, 1.07);
  EXPECT_NEAR(scaled.attention_scaling, 1.3465735902799727, roundings(4));
}

// DeepSeek-V3: 64 log(4096 / (2 pi turns)) / (2 log 10000) is 10.47 at 32 turns, 22.51 at 1 turn,
// so the ramp goes from pair 10 to pair 23.
TEST(YarnScaling, KeepsFastPairsAndSlowsSlowOnes) {
  const YarnScaling yarn{.factor = 40, .original_max_position_embeddings = 4096};
  const auto scaled = frequencies(64, 10'000, yarn, 1).inverse_frequency;
  const auto base = base_frequencies(64, 10'000).inverse_frequency;
  for (std::size_t pair = 0; pair <= 10; ++pair) EXPECT_EQ(scaled[pair], base[pair]) << pair;
  for (std::size_t pair = 23; pair < 32; ++pair) EXPECT_EQ(scaled[pair], base[pair] / 40) << pair;
  for (std::size_t pair = 11; pair < 23; ++pair) {
    const double slowed = (static_cast<double>(pair) - 10) / 13;
    EXPECT_NEAR(scaled[pair], base[pair] * (1 - slowed + slowed / 40), roundings(8) * base[pair]);
  }
}

TEST(YarnScaling, StaysWithinTheColumns) {
  // 8 tokens do not even turn the first pair 32 times, so the ramp begins at pair 0, where it would
  // be negative; it ends at pair ceil(0.21) = 1.
  const YarnScaling short_context{.factor = 4, .original_max_position_embeddings = 8};
  const auto slowed = frequencies(16, 10'000, short_context, 1).inverse_frequency;
  const auto base = base_frequencies(16, 10'000).inverse_frequency;
  EXPECT_EQ(slowed[0], base[0]);
  for (std::size_t pair = 1; pair < 8; ++pair) EXPECT_EQ(slowed[pair], base[pair] / 4) << pair;

  // 620000 tokens: the ramp goes from floor(6.98) to ceil(9.99), though 7 is the last pair.
  const YarnScaling beyond{.factor = 4, .original_max_position_embeddings = 620'000};
  const auto ramped = frequencies(16, 10'000, beyond, 1).inverse_frequency;
  for (std::size_t pair = 0; pair <= 6; ++pair) EXPECT_EQ(ramped[pair], base[pair]) << pair;
  EXPECT_NEAR(ramped[7], base[7] * (0.75 + 0.25 / 4), roundings(8) * base[7]);

  // 10^12 tokens turn every pair 32 times and more: the ramp would go from pair 19 to pair 23. Its
  // end is brought to 15, below its beginning, and the published code then slows every pair.
  const YarnScaling long_context{.factor = 4,
                                 .original_max_position_embeddings = 1'000'000'000'000};
  const auto all_slowed = frequencies(16, 10'000, long_context, 1).inverse_frequency;
  for (std::size_t pair = 0; pair < 8; ++pair) EXPECT_EQ(all_slowed[pair], base[pair] / 4) << pair;
}

TEST(YarnScaling, TakesAStepForARamp) {
  // As many turns make both ends: pair 16 log(256 / (8 pi)) / (2 log 10000) = 2.016.
  const YarnScaling step{.factor = 4,
                         .original_max_position_embeddings = 256,
                         .beta_fast = 4,
                         .beta_slow = 4,
                         .range = YarnRange::fractional};
  const auto scaled = frequencies(16, 10'000, step, 1).inverse_frequency;
  const auto base = base_frequencies(16, 10'000).inverse_frequency;
  for (std::size_t pair = 0; pair < 8; ++pair)
    EXPECT_EQ(scaled[pair], pair <= 2 ? base[pair] : base[pair] / 4) << pair;

  // 6 tokens turn no pair once: the ramp begins at pair 0, below which there is none, and ends at
  // pair ceil(-0.04), the same one. That pair stands on the step.
  const YarnScaling at_a_pair{.factor = 4, .original_max_position_embeddings = 6};
  const auto from_first = frequencies(16, 10'000, at_a_pair, 1).inverse_frequency;
  for (std::size_t pair = 0; pair < 8; ++pair)
    EXPECT_EQ(from_first[pair], pair == 0 ? base[pair] : base[pair] / 4) << pair;
}

double yarn_attention(const YarnScaling& yarn) {
  return frequencies(16, 10'000, yarn, 1).attention_scaling;
}

TEST(YarnScaling, AttentionFactorComesFirst) {
  const YarnScaling yarn{.factor = 4,
                         .original_max_position_embeddings = 256,
                         .attention_factor = 1,
                         .mscale = 0.707,
                         .mscale_all_dim = 1};
  EXPECT_EQ(yarn_attention(yarn), 1);  // DeepSeek's inference/model.py
  expect_frequencies(frequencies(16, 10'000, yarn, 1), yarn_4, 10'000, 1);
}

TEST(YarnScaling, TwoMscalesMakeARatio) {
  YarnScaling yarn{.factor = 4, .original_max_position_embeddings = 256};
  yarn.mscale = 0.707;
  yarn.mscale_all_dim = 1;  // transformers v4.57.6, DeepSeek-V2
  EXPECT_NEAR(yarn_attention(yarn), 0.964326914892074, roundings(8));
  yarn.mscale = 1;  // DeepSeek-V3
  EXPECT_EQ(yarn_attention(yarn), 1);
}

TEST(YarnScaling, OneMscaleIsNotUsed) {
  YarnScaling yarn{.factor = 4, .original_max_position_embeddings = 256};
  const double without = yarn_attention(yarn);
  yarn.mscale = 0.707;
  EXPECT_EQ(yarn_attention(yarn), without);
  yarn.mscale_all_dim = 0;  // how config files say that it is absent
  EXPECT_EQ(yarn_attention(yarn), without);
  yarn.mscale = 0;
  yarn.mscale_all_dim = 1;
  EXPECT_EQ(yarn_attention(yarn), without);
}

TEST(YarnMscale, GrowsWithTheLogarithm) {
  EXPECT_EQ(yarn_mscale(1, 1), 1);
  EXPECT_EQ(yarn_mscale(0.5, 1), 1);  // a shorter context needs no sharper scores
  EXPECT_EQ(yarn_mscale(40, 0), 1);
  EXPECT_NEAR(yarn_mscale(std::exp(10.0), 1), 2, roundings(8));
  // DeepSeek-V3: 0.1 ln 40 + 1.
  EXPECT_NEAR(yarn_mscale(40, 1), 1.3688879454113937, roundings(4));
}

TEST(YarnMscale, MakesDeepSeeksSoftmaxScale) {
  // DeepSeek-V3 with factor 4 and heads of 16 + 16: the scale recorded from transformers v4.57.6
  // and from inference/model.py.
  const double mscale = yarn_mscale(4, 1);
  EXPECT_NEAR(mscale * mscale / std::sqrt(32.0), 0.22918691831189503, roundings(8));
}

// Phi-3-mini-128k has 131072 / 4096 = 32: sqrt(1 + ln 32 / ln 4096) = sqrt(1 + 5 / 12).
const LongRopeScaling phi3{.short_factor = {1, 1.25, 2, 4},
                           .long_factor = {1, 2, 5, 10},
                           .original_max_position_embeddings = 4096,
                           .factor = 32};

TEST(LongRopeScaling, SwitchesListsBeyondTheTrainedLength) {
  const std::vector<double> within{1, 0.08, 0.005, 0.00025}, beyond{1, 0.05, 0.002, 0.0001};
  expect_frequencies(frequencies(8, 10'000, phi3, 1), within, 10'000);
  expect_frequencies(frequencies(8, 10'000, phi3, 4096), within, 10'000);
  expect_frequencies(frequencies(8, 10'000, phi3, 4097), beyond, 10'000);
}

TEST(LongRopeScaling, ScalesAttentionAtEveryLength) {
  EXPECT_NEAR(frequencies(8, 10'000, phi3, 1).attention_scaling, std::sqrt(17.0 / 12),
              roundings(8));
  EXPECT_EQ(frequencies(8, 10'000, phi3, 1).attention_scaling,
            frequencies(8, 10'000, phi3, 5000).attention_scaling);
  LongRopeScaling other = phi3;
  for (const double factor : {1.0, 0.5}) {  // the trained length is all there is
    other.factor = factor;
    EXPECT_EQ(frequencies(8, 10'000, other, 1).attention_scaling, 1);
  }
  other.attention_factor = 1.25;
  EXPECT_EQ(frequencies(8, 10'000, other, 1).attention_scaling, 1.25);
}

TEST(GivenFrequencies, AreTakenAsTheyAre) {
  const RopeFrequencies given{.inverse_frequency = {1, 0}, .attention_scaling = 1.5};
  const auto taken = frequencies(4, 10'000, given, 1);
  EXPECT_EQ(taken.inverse_frequency, given.inverse_frequency);
  EXPECT_EQ(taken.attention_scaling, 1.5);
}

struct BadScaling {
  RopeScaling scaling;
  std::string message;
  Index rope_dim = 8;
  double theta = 10'000;
};

TEST(Frequencies, SayWhatIsWrong) {
  LongRopeScaling one_short = phi3, one_long = phi3, negative = phi3, no_factor = phi3,
                  no_length = phi3;
  one_short.short_factor.pop_back();
  one_long.long_factor.pop_back();
  negative.long_factor[3] = -1;
  no_factor.factor = 0;
  no_length.original_max_position_embeddings = 0;
  LongRopeScaling negative_short = phi3, endless = phi3, no_end = phi3;
  negative_short.short_factor[1] = -2;  // not of this length
  endless.factor = INFINITY;
  no_end.original_max_position_embeddings = std::numeric_limits<Index>::max();
  LongRopeScaling one_token = phi3, nan_given = phi3;
  one_token.original_max_position_embeddings = 1;  // whose logarithm is 0
  nan_given.attention_factor = NAN;
  const YarnScaling yarn{.factor = 4, .original_max_position_embeddings = 256};
  YarnScaling nan_factor = yarn, nan_mscale = yarn, infinite = yarn, no_turn = yarn;
  nan_factor.attention_factor = NAN;
  nan_mscale.mscale = NAN, nan_mscale.mscale_all_dim = 1;
  infinite.factor = INFINITY;
  no_turn.beta_slow = 0;
  const YarnScaling no_yarn_factor{.original_max_position_embeddings = 256};
  const YarnScaling crossed{
      .factor = 4, .original_max_position_embeddings = 256, .beta_fast = 1, .beta_slow = 2};
  const Llama3Scaling flat{.factor = 8,
                           .low_freq_factor = 4,
                           .high_freq_factor = 4,
                           .original_max_position_embeddings = 64};
  Llama3Scaling no_llama_factor{.original_max_position_embeddings = 64}, negative_low = flat;
  negative_low.low_freq_factor = -1;
  const DynamicNtkScaling no_ntk_factor{.max_position_embeddings = 16};
  const std::vector<BadScaling> cases{
      {UnscaledRope{}, "rope_dim is 7, expected a positive even number", 7},
      {UnscaledRope{}, "rope_dim is 0, expected a positive even number", 0},
      {RopeFrequencies{{1}, 1}, "rope_dim is -2, expected a positive even number", -2},
      {UnscaledRope{}, "theta is 1, expected a finite number above 1", 8, 1},
      {UnscaledRope{}, "theta is nan, expected a finite number above 1", 8, NAN},
      {UnscaledRope{}, "theta is inf, expected a finite number above 1", 8, INFINITY},
      {LinearScaling{}, "heed::LinearScaling: factor is 0, expected a positive number"},
      {no_ntk_factor, "heed::DynamicNtkScaling: factor is 0, expected a positive number"},
      {DynamicNtkScaling{.factor = 2}, "max_position_embeddings is 0, expected a positive number"},
      {DynamicNtkScaling{2, 16}, "rope_dim is 2, expected 4 or more", 2},
      {no_yarn_factor, "heed::YarnScaling: factor is 0, expected a positive number"},
      {crossed, "beta_fast is 1, expected no less than beta_slow"},
      {no_turn, "heed::YarnScaling: beta_slow is 0, expected a positive number"},
      {no_llama_factor, "heed::Llama3Scaling: factor is 0, expected a positive number"},
      {Llama3Scaling{.factor = 8}, "original_max_position_embeddings is 0"},
      {negative_low, "low_freq_factor is -1, expected a positive number"},
      {flat, "high_freq_factor is 4, expected more than low_freq_factor"},
      {one_short, "short_factor [rope_dim / 2] has shape [3], expected [4]"},
      {one_long, "long_factor [rope_dim / 2] has shape [3], expected [4]"},
      {negative, "a long_factor is -1, expected a positive number"},
      {no_factor, "factor is 0, expected a positive number, unless attention_factor is given"},
      {no_length, "original_max_position_embeddings is 0, expected more than 1"},
      {one_token, "original_max_position_embeddings is 1, expected more than 1"},
      {negative_short, "a short_factor is -2, expected a positive number"},
      {endless, "factor is inf, expected a positive number"},
      {no_end, "original_max_position_embeddings is 9223372036854775807, expected more than 1"},
      {nan_given, "heed::LongRopeScaling: attention_factor is nan, expected a finite number"},
      {nan_factor, "attention_factor is nan, expected a finite number"},
      {nan_mscale, "mscale is nan, expected a finite number"},
      {infinite, "heed::YarnScaling: factor is inf, expected a positive number"},
      {LinearScaling{.factor = INFINITY}, "factor is inf, expected a positive number"},
      {UnscaledRope{}, "expected a positive even number", Index{1} << 62},
      {RopeFrequencies{{1, 1}, 1}, "inverse_frequency [rope_dim / 2] has shape [2], expected [4]"},
  };
  for (const BadScaling& bad : cases)
    EXPECT_THAT([&] { (void)frequencies(bad.rope_dim, bad.theta, bad.scaling, 5000); },
                ThrowsMessage<ShapeError>(HasSubstr(bad.message)));
}

}  // namespace
}  // namespace heed
