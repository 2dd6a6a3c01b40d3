// SPDX-License-Identifier: MIT
/// \file
/// The command line of speed.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bench/option_error.hpp"  // option_error
#include "speed/options.hpp"

namespace {

using heed::bench::SpeedOptions;
using testing::ElementsAre;
using testing::HasSubstr;

SpeedOptions parse(const std::vector<std::string>& arguments) {
  const std::vector<std::string> contenders{"heed", "eigen", "peer"};
  return heed::bench::parse_speed_options(arguments, contenders);
}

std::string error_of(const std::vector<std::string>& arguments) {
  return heed::test::option_error([&] { parse(arguments); });
}

TEST(SpeedOptions, AreAllUnlessSaid) {
  const SpeedOptions options = parse({});
  EXPECT_THAT(options.contenders, ElementsAre("heed", "eigen", "peer"));
  EXPECT_EQ(options.threads.front(), 1);
  EXPECT_EQ(options.threads.back(), heed::AnyExecutor{}.concurrency());
  EXPECT_FALSE(options.report);
  EXPECT_FALSE(options.help);
}

TEST(SpeedOptions, AreRead) {
  const SpeedOptions options =
      parse({"--contenders=peer,heed", "--threads=4,1,4", "--report=out.md", "--help"});
  EXPECT_THAT(options.contenders, ElementsAre("peer", "heed"));
  EXPECT_THAT(options.threads, ElementsAre(1, 4));
  EXPECT_EQ(options.report, "out.md");
  EXPECT_TRUE(options.help);
  EXPECT_EQ(parse({"--report"}).report, heed::bench::standard_output);
}

TEST(SpeedOptions, ErrorsNameTheOption) {
  EXPECT_EQ(error_of({"--frobnicate"}), "--frobnicate: no such option; see --help");
  EXPECT_EQ(error_of({"decode"}), "decode: no such option; see --help");
  EXPECT_EQ(error_of({"--report="}), "--report=: expected --report or --report=FILE");
  EXPECT_EQ(error_of({"--contenders=heed,other"}),
            "--contenders=heed,other: expected some of heed, eigen, peer");
  EXPECT_THAT(error_of({"--contenders"}), HasSubstr("expected some of"));
  for (const auto* wrong : {"", "0", "two", "1,,2", "1025"})
    EXPECT_THAT(error_of({std::string("--threads=") + wrong}), HasSubstr("a number of threads"))
        << wrong;
}

}  // namespace
