// SPDX-License-Identifier: MIT
/// \file
/// Checks one golden file: builds what its metadata describe, in float and in double, and compares.
#pragma once

#include <functional>
#include <string>

#include "golden/comparison.hpp"   // Report
#include "shared/safetensors.hpp"  // Safetensors

namespace heed::golden {

/// What came of one file.
struct Outcome {
  Report in_float;
  Report in_double;
  std::string problem;  ///< why the file was not understood; empty if it was

  bool passed() const { return problem.empty() && in_float.passed() && in_double.passed(); }
};

/// \param read  returns the Safetensors to check; what it throws is an outcome, too
Outcome check(const std::function<files::Safetensors()>& read);

/// Column heads for `outcome_text`.
std::string heading_text();

/// One line on a file; if it failed, another for each comparison that did.
std::string outcome_text(const std::string& name, const Outcome& outcome);

}  // namespace heed::golden
