// SPDX-License-Identifier: MIT
/// \file
/// A file for results that take minutes.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

#include "shared/quantities.hpp"  // OptionError

namespace heed::bench {

/// Tried before time is spent on the results, and made if there is none; what it holds is replaced
/// only when they are there.
class OutputFile {
 public:
  /// \param option  that names the path
  /// \throws OptionError if it cannot be written, as `write` does
  OutputFile(std::string option, std::filesystem::path path)
      : option_(std::move(option)), path_(std::move(path)) {
    require(static_cast<bool>(std::ofstream(path_, std::ios::app)));
  }
  void write(const std::string& text) const {
    require(static_cast<bool>(std::ofstream(path_) << text << std::flush));
  }

 private:
  void require(bool is_written) const {
    if (!is_written) throw OptionError(option_ + "=" + path_.string() + ": cannot be written");
  }

  std::string option_;
  std::filesystem::path path_;
};

}  // namespace heed::bench
