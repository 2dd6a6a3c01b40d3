// SPDX-License-Identifier: MIT
/// \file
/// Checks one golden file: builds what its metadata describe, in float and in double, and compares.
#pragma once

#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <utility>

#include "golden/case.hpp"          // Case
#include "golden/comparison.hpp"    // Comparison, Report
#include "golden/dot_product.hpp"   // DotProduct
#include "golden/grouped.hpp"       // Grouped
#include "golden/latent.hpp"        // Latent
#include "support/safetensors.hpp"  // Safetensors

namespace heed::golden {

/// What came of one file.
struct Outcome {
  Report in_float;
  Report in_double;
  std::string problem;  ///< why the file was not understood; empty if it was

  bool passed() const { return problem.empty() && in_float.passed() && in_double.passed(); }
};

template <class T>
Report compare(const Case& golden) {
  Report report;
  switch (golden.kind) {
    case Kind::dot_product: DotProduct<T>(golden, report).run(); break;
    case Kind::mha:
    case Kind::self_attention: Grouped<T>(golden, report).run(); break;
    case Kind::mla: Latent<T>(golden, report).run(); break;
  }
  return report;
}

/// \param read  returns the Safetensors to check; what it throws is an outcome, too
template <class Read>
Outcome check(const Read& read) {
  Outcome outcome;
  try {
    const Case golden(read());
    outcome.in_float = compare<float>(golden);
    outcome.in_double = compare<double>(golden);
    golden.require_all_used();
  } catch (const std::exception& error) {
    outcome.problem = error.what();
  }
  return outcome;
}

/// The way to compute `out` that erred most; the naive one is not heed's.
inline Comparison worst_out(const Report& report) {
  Comparison worst;
  for (const Comparison& comparison : report.comparisons) {
    if (!comparison.what.starts_with("out") || comparison.what == "out, naive") continue;
    if (worst.what.empty() || !(comparison.error <= worst.error)) worst = comparison;
  }
  return worst;
}

/// The errors of one comparison relative to the largest recorded value.
inline std::string error_text(const Comparison& comparison) {
  const double unit = comparison.magnitude > 0 ? comparison.magnitude : 1;
  char text[120];
  std::snprintf(text, sizeof(text), "%8.1e %8.1e %8.1e", comparison.error / unit,
                comparison.source / unit, comparison.bound / unit);
  return text;
}

/// Column heads for `outcome_text`.
inline std::string heading_text() {
  return "Largest error of `out` over all ways to compute it, the source's own float32 error, and\n"
         "the bound, relative to the largest output; then the same in double.\n" +
         std::string(34, ' ') +
         "float: error   source    bound  double: error    bound  compared\n";
}

/// One line on a file; if it failed, another for each comparison that did.
inline std::string outcome_text(const std::string& name, const Outcome& outcome) {
  const std::string head = (outcome.passed() ? "PASS  " : "FAIL  ") + name;
  if (!outcome.problem.empty()) return head + ": " + outcome.problem + "\n";
  const Comparison in_float = worst_out(outcome.in_float), in_double = worst_out(outcome.in_double);
  const double unit = in_double.magnitude > 0 ? in_double.magnitude : 1;
  char line[200];
  std::snprintf(line, sizeof(line), "%-40s %s      %8.1e %8.1e  %8zu\n", head.c_str(),
                error_text(in_float).c_str(), in_double.error / unit, in_double.bound / unit,
                outcome.in_float.comparisons.size() + outcome.in_double.comparisons.size());
  std::string text = line;
  for (const auto& [report, type] :
       {std::pair{&outcome.in_float, "float"}, std::pair{&outcome.in_double, "double"}})
    for (const Comparison& comparison : report->comparisons)
      if (!comparison.passed())
        text += "      " + comparison.what + " in " + type + ": error, source, bound " +
                error_text(comparison) + "\n";
  return text;
}

}  // namespace heed::golden
