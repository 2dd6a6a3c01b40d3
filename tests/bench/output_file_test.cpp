// SPDX-License-Identifier: MIT
/// \file
/// Files for results.

#include "shared/output_file.hpp"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <gtest/gtest.h>

namespace heed::bench {
namespace {

std::string content(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(OutputFiles, KeepWhatTheyHoldUntilThereAreResults) {
  const std::filesystem::path path =
      std::filesystem::path(testing::TempDir()) / "heed_output_file_test.txt";
  std::ofstream(path) << "results of before, which are longer";
  const OutputFile file("--report", path);
  EXPECT_EQ(content(path), "results of before, which are longer");
  file.write("results");
  EXPECT_EQ(content(path), "results");
  std::filesystem::remove(path);
}

TEST(OutputFiles, AreRefusedAtOnce) {
  try {
    const OutputFile file("--report", "no/such/folder/file");
    FAIL();
  } catch (const OptionError& error) {
    EXPECT_STREQ(error.what(), "--report=no/such/folder/file: cannot be written");
  }
}

}  // namespace
}  // namespace heed::bench
