// SPDX-License-Identifier: MIT
/// \file
/// The command line of kv_quality.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bench/option_error.hpp"  // option_error
#include "kv_quality/options.hpp"

namespace heed::bench::quality {
namespace {

using testing::HasSubstr;

std::string error_of(const std::vector<std::string>& arguments) {
  return test::option_error([&] { parse_options(arguments); });
}

TEST(QualityOptions, HaveDefaults) {
  const QualityOptions options = parse_options({});
  EXPECT_EQ(options.sequence.seqlen, 4096);
  EXPECT_EQ(options.grouped_shape().num_kv_heads, 8);
  EXPECT_EQ(options.latent_shape().latent_dim, 512);
  EXPECT_FALSE(options.weights);
  EXPECT_FALSE(options.help);
}

TEST(QualityOptions, AreRead) {
  const QualityOptions options =
      parse_options({"--tokens=1k", "--queries=3", "--heads=6", "--kv-heads=2", "--head-dim=64",
                     "--latent-heads=4", "--latent-dim=100", "--rope-dim=16", "--entropy=7",
                     "--seed=0", "--theta=500000", "--threads=1", "--help"});
  EXPECT_EQ(options.sequence.seqlen, 1024);
  EXPECT_EQ(options.sequence.num_queries, 3);
  EXPECT_EQ(options.sequence.theta, 500'000);
  EXPECT_EQ(options.sequence.seed, 0U);
  EXPECT_EQ(
      options.grouped_shape(),
      (GroupedShape{
          .model_dim = 0, .num_heads = 6, .num_kv_heads = 2, .head_dim = 64, .head_dim_v = 64}));
  EXPECT_EQ(options.num_latent_heads, 4);
  EXPECT_EQ(options.latent_dim, 100);
  EXPECT_EQ(options.rope_dim, 16);
  EXPECT_EQ(options.entropy_bits, 7);
  EXPECT_EQ(options.num_threads, 1);
  EXPECT_TRUE(options.help);
  const QualityOptions of_weights =
      parse_options({"--weights=some.safetensors", "--layer=7", "--heads=9", "--kv-heads=3"});
  EXPECT_EQ(of_weights.weights, "some.safetensors");
  EXPECT_EQ(of_weights.layer, 7);
}

TEST(QualityOptions, ErrorsNameTheOption) {
  EXPECT_EQ(error_of({"--frobnicate=3"}), "--frobnicate: no such option; see --help");
  EXPECT_EQ(error_of({"4096"}), "4096: no such option; see --help");
  EXPECT_EQ(error_of({"--weights="}), "--weights: expected --weights=VALUE; see --help");
  EXPECT_EQ(error_of({"--layer=-1"}), "--layer=-1: expected a whole number from 0 to 9999");
  EXPECT_THAT(error_of({"--tokens=0"}), HasSubstr("--tokens=0: expected tokens"));
  for (const auto* wrong : {"", "0", "two", "4k", "1.5", " 1", "99999999999999999999"})
    EXPECT_THAT(error_of({std::string("--heads=") + wrong}), HasSubstr("a whole number from 1"))
        << wrong;
}

TEST(QualityOptions, MustFitOneAnother) {
  EXPECT_THAT(error_of({"--heads=6", "--kv-heads=4"}), HasSubstr("multiple of --kv-heads"));
  EXPECT_THAT(error_of({"--head-dim=33"}), HasSubstr("even"));
  EXPECT_THAT(error_of({"--rope-dim=33"}), HasSubstr("even"));
  EXPECT_THAT(error_of({"--tokens=8"}), HasSubstr("--queries must be at most --tokens"));
  EXPECT_EQ(error_of({"--weights=some.safetensors", "--head-dim=64"}),
            "--head-dim does not go with --weights");
  EXPECT_EQ(error_of({"--entropy=3", "--weights=some.safetensors"}),
            "--entropy does not go with --weights");
  EXPECT_EQ(error_of({"--layer=0"}), "--layer is one of a model: give --weights");
}

}  // namespace
}  // namespace heed::bench::quality
