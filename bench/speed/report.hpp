// SPDX-License-Identifier: MIT
/// \file
/// The Markdown of --report: what was measured where, the machine's limits, and a row per case.
#pragma once

#include <cmath>
#include <cstdio>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "speed/figures.hpp"

namespace heed::bench {

/// A contender that gets a column.
struct ReportColumn {
  std::string name;
  std::optional<KvStorage> storage;  ///< if its share of the roofline is shown
};

/// What a report says beside figures.
struct ReportHead {
  std::string machine;               ///< date, CPU, compiler, versions: a line of text
  std::vector<ReportColumn> others;  ///< besides heed and Eigen
  double cached_bytes;               ///< what the last-level cache holds
};

namespace detail {

/// About three digits: 0.0312, 4.57, 123.
inline std::string three_digits(double value) {
  char text[32];
  const int decimals = value < 0.1 ? 4 : value < 1 ? 3 : value < 10 ? 2 : value < 100 ? 1 : 0;
  std::snprintf(text, sizeof text, "%.*f", decimals, value);
  return text;
}

/// "a / b", of each number of threads.
inline std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text.append(text.empty() ? "" : " / ").append(part);
  return text;
}

inline std::string table_row(const std::vector<std::string>& cells) {
  std::string text = "|";
  for (const std::string& cell : cells) text.append(" ").append(cell).append(" |");
  return text + "\n";
}

/// With the line under it.
inline std::string table_head(const std::vector<std::string>& cells) {
  return table_row(cells) + table_row(std::vector<std::string>(cells.size(), "---"));
}

inline constexpr const char* none = "-";

inline std::string threads_text(Index num_threads) {
  return std::to_string(num_threads) + (num_threads == 1 ? " thread" : " threads");
}

inline std::string percent(double share) { return std::to_string(std::lround(100 * share)) + "%"; }

inline std::string limits_table(const std::map<Index, Limits>& limits) {
  std::vector<std::string> head{"limit"};
  for (const auto& [num_threads, unused] : limits) head.push_back(threads_text(num_threads));
  std::string text = table_head(head);
  const auto row = [&](const char* name, const char* unit, const auto& value_of) {
    std::vector<std::string> cells{name};
    for (const auto& [unused, one] : limits) {
      const std::optional<double> value = value_of(one);
      if (!value) return;
      cells.push_back(three_digits(*value / 1e9) + unit);
    }
    text += table_row(cells);
  };
  row("f32 FMA peak", " GFLOP/s", [](const Limits& one) { return one.fma_flops; });
  row("bf16 dot-product peak", " GFLOP/s", [](const Limits& one) { return one.bf16_flops; });
  row("DRAM read", " GB/s", [](const Limits& one) { return one.dram_bytes; });
  row("L3 read", " GB/s", [](const Limits& one) { return one.cache_bytes; });
  row("Eigen sgemm 1024^3", " GFLOP/s", [](const Limits& one) { return one.eigen_gemm_flops; });
  row("OpenBLAS sgemm 1024^3", " GFLOP/s", [](const Limits& one) { return one.blas_flops; });
  return text;
}

/// The cells of a case: `of_case` are its results, one for each number of threads.
inline std::string case_row(const ReportHead& head, const std::map<Index, Limits>& limits,
                            std::span<const CaseResult> of_case) {
  std::vector<std::string> ms, gflops, roofline, vs_eigen;
  std::vector<std::vector<std::string>> others(head.others.size());
  for (const CaseResult& result : of_case) {
    const SpeedCase& c = result.speed_case;
    const Samples* heed = result.find(heed_name);
    const auto missing = [&](const std::string& name) {
      return result.was_measured(name) ? "wrong" : none;
    };
    if (heed == nullptr) {
      const auto ms_alone = [&](const std::string& name) {
        const Samples* other = result.find(name);
        return other == nullptr ? missing(name) : three_digits(1e3 * other->best());
      };
      ms.push_back(missing(heed_name));
      for (auto* column : {&gflops, &roofline}) column->push_back(none);
      vs_eigen.push_back(ms_alone(eigen_name) + (result.find(eigen_name) ? " ms" : ""));
      for (std::size_t i = 0; i < others.size(); ++i)
        others[i].push_back(ms_alone(head.others[i].name));
      continue;
    }
    const double seconds = heed->best();
    const auto share = [&](const KvStorage& storage, double taken) {
      const Limits& allowed = limits.at(result.num_threads);
      return percent(least_seconds(c, allowed, storage, head.cached_bytes) / taken);
    };
    ms.push_back(three_digits(1e3 * seconds));
    gflops.push_back(three_digits(c.flops() / seconds / 1e9));
    roofline.push_back(share({}, seconds));
    const Samples* eigen = result.find(eigen_name);
    vs_eigen.push_back(eigen != nullptr ? three_digits(eigen->best() / seconds) + " x"
                                        : missing(eigen_name));
    for (std::size_t i = 0; i < others.size(); ++i) {
      const auto& [name, storage] = head.others[i];
      const Samples* other = result.find(name);
      others[i].push_back(other == nullptr
                              ? missing(name)
                              : three_digits(1e3 * other->best()) + " (" +
                                    three_digits(other->best() / seconds) + " x" +
                                    (storage ? ", " + share(*storage, other->best()) : "") + ")");
    }
  }
  std::vector<std::string> cells{of_case.front().speed_case.name, joined(ms), joined(gflops),
                                 joined(roofline), joined(vs_eigen)};
  for (const auto& other : others) cells.push_back(joined(other));
  return table_row(cells);
}

/// A row per case.
inline std::string cases_table(const std::string& of, const ReportHead& head,
                               const std::map<Index, Limits>& limits,
                               std::span<const CaseResult> results) {
  std::vector<std::string> columns{of, "heed, ms", "GFLOP/s", "roofline", "Eigen"};
  for (const ReportColumn& other : head.others) columns.push_back(other.name + ", ms");
  std::string text = "\n" + table_head(columns);
  for (std::size_t begin = 0; begin < results.size();) {
    std::size_t end = begin;
    while (end < results.size() && results[end].speed_case.name == results[begin].speed_case.name)
      ++end;
    text += case_row(head, limits, results.subspan(begin, end - begin));
    begin = end;
  }
  return text;
}

}  // namespace detail

/// The report's head, and the table of Pass::forward. Where two numbers stand in a cell, they are
/// of the numbers of threads, in the order of the limits' table.
/// \param results  the results of a case follow one another
inline std::string report_text(const ReportHead& head, const std::map<Index, Limits>& limits,
                               std::span<const CaseResult> results) {
  std::string threads;
  for (const auto& [num_threads, unused] : limits)
    threads.append(threads.empty() ? "" : " / ").append(detail::threads_text(num_threads));
  std::string text =
      head.machine + "\n\n" + detail::limits_table(limits) + "\n" + threads +
      ", the best of several runs.\n`N x`: heed is N times as fast; " +
      "`N%`: of the roofline.\n`int8c` is PerChannel<int8>, `-native` Native<...>.\n";
  if (results.empty()) return text;
  return text + detail::cases_table("case", head, limits, results);
}

/// The table of Pass::backward; empty if nothing was measured.
inline std::string backward_text(const ReportHead& head, const std::map<Index, Limits>& limits,
                                 std::span<const CaseResult> results) {
  if (results.empty()) return {};
  return detail::cases_table("backward alone", head, limits, results);
}

}  // namespace heed::bench
