// SPDX-License-Identifier: MIT
/// \file
/// Cases with all numbers of threads as rows of Google Benchmark, and what they gave.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include <benchmark/benchmark.h>

#include "speed/contender.hpp"
#include "speed/figures.hpp"

namespace heed::bench {

class Suite {
 public:
  /// \param limits  of each number of threads to be measured with
  Suite(const std::vector<SpeedCase>& cases, std::vector<ContenderKind> kinds,
        std::map<Index, Limits> limits);

  /// CASE/CONTENDER/threads:N for each contender that computes the case. The first row of a case
  /// and a number of threads measures all contenders against one another; the others report what
  /// that gave. The suite must outlive the run.
  void register_rows();

  const std::vector<ContenderKind>& kinds() const { return kinds_; }
  const std::map<Index, Limits>& limits() const { return limits_; }

  /// What was measured, in the order of the cases.
  std::vector<CaseResult> results() const;

 private:
  struct Slot {
    CaseResult result;
    bool measured = false;
  };
  void report(benchmark::State& state, std::size_t slot, const ContenderKind& kind);
  void measure(Slot& slot);

  std::vector<ContenderKind> kinds_;
  std::map<Index, Limits> limits_;
  std::vector<Slot> slots_;
  // Of the case at hand, for all numbers of threads.
  std::unique_ptr<const Inputs> inputs_;
  std::string inputs_of_;
};

}  // namespace heed::bench
