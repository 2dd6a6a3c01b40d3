// SPDX-License-Identifier: MIT
/// \file
/// Whole layers, and MLA's two paths against one another, as rows of Google Benchmark.
#pragma once

#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "speed/layer_figures.hpp"

namespace heed::bench {

class LayerSuite {
 public:
  explicit LayerSuite(std::vector<Index> threads) : threads_(std::move(threads)) {}

  /// layer/MODEL/PASS/threads:N and crossover/CACHED/NEW/threads:N. Results are held against
  /// float64 before they are timed. The suite must outlive the run.
  void register_rows();

  /// What was measured, in the order of the rows.
  const std::vector<LayerResult>& layers() const { return layers_; }
  const std::vector<CrossoverResult>& crossovers() const { return crossovers_; }
  /// Rows whose result was wrong.
  const std::vector<std::string>& errors() const { return errors_; }

 private:
  void register_layers();
  void register_crossovers();
  void fail(benchmark::State& state, const std::string& name, double error);

  std::vector<Index> threads_;
  std::vector<LayerResult> layers_;
  std::vector<CrossoverResult> crossovers_;
  std::vector<std::string> errors_;
};

}  // namespace heed::bench
