// SPDX-License-Identifier: MIT
/// \file
/// What programs print of their results.
#pragma once

#include <cstdio>
#include <stdexcept>
#include <string>

namespace heed::bench {

/// Writes to the standard output, at once. \throws std::runtime_error if it takes not all
inline void print(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    throw std::runtime_error("the standard output cannot be written");
}

}  // namespace heed::bench
