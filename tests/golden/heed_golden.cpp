// SPDX-License-Identifier: MIT
/// \file
/// heed_golden FILE...: checks golden files (INDEX.md) from anywhere. Prints a line per file, and
/// exits with 1 if one fails or is not understood.

#include <cstdio>
#include <filesystem>
#include <string>

#include "golden/check.hpp"  // check, outcome_text

int main(int argc, char** argv) {
  using namespace heed;
  const bool help = argc == 2 && std::string(argv[1]) == "--help";
  if (argc < 2 || help) {
    std::fputs("usage: heed_golden FILE.safetensors...\n", help ? stdout : stderr);
    return help ? 0 : 2;
  }
  std::fputs(golden::heading_text().c_str(), stdout);
  int num_failed = 0;
  for (int i = 1; i < argc; ++i) {
    const std::string path = argv[i];
    const golden::Outcome outcome = golden::check([&] { return files::Safetensors::read(path); });
    const std::string name = std::filesystem::path(path).stem().string();
    std::fputs(golden::outcome_text(name, outcome).c_str(), stdout);
    if (!outcome.passed()) ++num_failed;
  }
  std::printf("%d of %d files passed\n", argc - 1 - num_failed, argc - 1);
  return num_failed == 0 ? 0 : 1;
}
