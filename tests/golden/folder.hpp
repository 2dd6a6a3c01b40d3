// SPDX-License-Identifier: MIT
/// \file
/// The golden files of this folder.
#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace heed::golden {

inline const std::filesystem::path folder = HEED_TEST_DIR "/golden";

inline std::string path_of(const std::string& name) {
  return (folder / (name + ".safetensors")).string();
}

/// Without extension, those that begin so.
inline std::vector<std::string> all_names(std::string_view prefix = "") {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().stem().string();
    if (entry.path().extension() == ".safetensors" && name.starts_with(prefix)) names.insert(name);
  }
  return {names.begin(), names.end()};
}

}  // namespace heed::golden
