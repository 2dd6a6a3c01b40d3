// SPDX-License-Identifier: MIT
#include "golden/check.hpp"

#include <cstdio>
#include <exception>
#include <utility>

#include "golden/compare.hpp"  // compare

namespace heed::golden {

Outcome check(const std::function<files::Safetensors()>& read) {
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

namespace {

/// The way to compute `out` that erred most; the naive one is not heed's.
Comparison worst_out(const Report& report) {
  Comparison worst;
  for (const Comparison& comparison : report.comparisons) {
    if (!comparison.what.starts_with("out") || comparison.what == "out, naive") continue;
    if (worst.what.empty() || !(comparison.error <= worst.error)) worst = comparison;
  }
  return worst;
}

/// The errors of one comparison relative to the largest recorded value.
std::string error_text(const Comparison& comparison) {
  const double unit = comparison.magnitude > 0 ? comparison.magnitude : 1;
  char text[120];
  std::snprintf(text, sizeof(text), "%8.1e %8.1e %8.1e", comparison.error / unit,
                comparison.source / unit, comparison.bound / unit);
  return text;
}

}  // namespace

std::string heading_text() {
  return "Largest error of `out` over all ways to compute it, the source's own float32 error, and\n"
         "the bound, relative to the largest output; then the same in double.\n" +
         std::string(34, ' ') +
         "float: error   source    bound  double: error    bound  compared\n";
}

std::string outcome_text(const std::string& name, const Outcome& outcome) {
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
