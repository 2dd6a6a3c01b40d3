// SPDX-License-Identifier: MIT
/// \file
/// The command line of kv_memory.

#include "kv_memory/options.hpp"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bench/option_error.hpp"  // option_error

namespace {

using heed::Index;
using heed::bench::Options;
using testing::ElementsAre;
using testing::HasSubstr;

const std::filesystem::path models = std::filesystem::path(HEED_TEST_DIR) / "../bench/models";

Options parse(const std::vector<std::string>& arguments) {
  static constexpr heed::bench::ElementType elements[] = {
      {"wide", {.bits = 32}, heed::bench::formula_alone},
      {"narrow", {.bits = 8}, heed::bench::formula_alone}};
  return heed::bench::parse_options(arguments, {.models = models, .elements = elements});
}

std::string error_of(const std::vector<std::string>& arguments) {
  return heed::test::option_error([&] { parse(arguments); });
}

TEST(Options, AreAllModelsUnlessSaid) {
  const Options options = parse({});
  EXPECT_EQ(options.configs.size(), 15U);
  EXPECT_EQ(options.element->name, "wide");
  EXPECT_FALSE(options.help);
}

TEST(Options, AreRead) {
  const Options options =
      parse({"--model=Llama-3-8B", "--config=some/config.json", "--contexts=8k,1000,1m",
             "--measure=64", "--memory=80GB", "--most-cache=1gib", "--element=narrow",
             "--placement=window", "--threads=1", "--format=csv", "--out-json=out.json"});
  EXPECT_THAT(options.configs, ElementsAre(models / "Llama-3-8B.json", "some/config.json"));
  EXPECT_THAT(options.contexts, ElementsAre(1000, 8192, 1 << 20));
  EXPECT_THAT(options.measured_contexts, ElementsAre(64));
  EXPECT_EQ(options.memory, 80'000'000'000);
  EXPECT_EQ(options.most_cache, Index{1} << 30);
  EXPECT_EQ(options.element->name, "narrow");
  EXPECT_EQ(options.placement, heed::bench::Placement::window);
  EXPECT_EQ(options.num_threads, 1);
  EXPECT_EQ(options.format, heed::bench::Format::csv);
  EXPECT_EQ(options.out_json, "out.json");
  EXPECT_THAT(parse({"--measure=none"}).measured_contexts, ElementsAre());
  EXPECT_TRUE(parse({"--help"}).help);
}

TEST(Options, ErrorsNameTheOption) {
  EXPECT_EQ(error_of({"--frobnicate=3"}), "--frobnicate: no such option; see --help");
  EXPECT_EQ(error_of({"--frobnicate"}), "--frobnicate: no such option; see --help");
  EXPECT_EQ(error_of({"model.json"}), "model.json: no such option; see --help");
  EXPECT_EQ(error_of({""}), ": no such option; see --help");
  EXPECT_THAT(error_of({"--model=GPT-9"}),
              testing::AllOf(HasSubstr("--model=GPT-9: no such model"), HasSubstr(" Llama-3-8B ")));
  EXPECT_EQ(error_of({"--config="}), "--config: expected --config=VALUE; see --help");
  EXPECT_EQ(error_of({"--out-json"}), "--out-json: expected --out-json=VALUE; see --help");
  EXPECT_EQ(error_of({"--element=f8"}), "--element=f8: expected one of wide, narrow");
  EXPECT_EQ(error_of({"--placement=disk"}), "--placement=disk: expected own, pool or window");
  EXPECT_EQ(error_of({"--format=xml"}), "--format=xml: expected table, csv or json");
  for (const auto* wrong : {"", "0", "-1", "8q", "8.5k", "k", "8k,", ",8k", "8k,,9k", "4096m",
                            "99999999999999999999", " 8k"})
    EXPECT_THAT(error_of({std::string("--contexts=") + wrong}), HasSubstr("expected tokens"))
        << wrong;
  for (const auto* wrong : {"", "0", "80XB", "GB", "-1GB", "9999999TiB"})
    EXPECT_THAT(error_of({std::string("--memory=") + wrong}), HasSubstr("expected bytes")) << wrong;
  for (const auto* wrong : {"", "0", "two", "1000000"})
    EXPECT_THAT(error_of({std::string("--threads=") + wrong}), HasSubstr("a number of threads"))
        << wrong;
}

TEST(Options, AFolderWithoutModelsIsAnError) {
  static constexpr heed::bench::ElementType elements[] = {
      {"wide", {.bits = 32}, heed::bench::formula_alone}};
  const heed::bench::Choices empty{.models = models / "nowhere", .elements = elements};
  EXPECT_THROW(heed::bench::parse_options({}, empty), heed::bench::OptionError);
  EXPECT_TRUE(heed::bench::parse_options({"--help"}, empty).help);
}

TEST(Quantities, HaveUnits) {
  EXPECT_EQ(heed::bench::parse_tokens("", "128K"), 131072);
  EXPECT_EQ(heed::bench::parse_bytes("", "24GiB"), Index{24} << 30);
  EXPECT_EQ(heed::bench::parse_bytes("", "2TB"), 2'000'000'000'000);
  EXPECT_EQ(heed::bench::parse_bytes("", "12345"), 12345);
}

}  // namespace
