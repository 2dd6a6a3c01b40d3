// SPDX-License-Identifier: MIT
/// \file
/// How fast attend is, as a share of what the machine allows. Options are Google Benchmark's:
///   speed --benchmark_filter=decode --benchmark_format=json
#include <chrono>
#include <cstdio>
#include <map>

#include <benchmark/benchmark.h>

#include "heed/base/executor.hpp"
#include "speed/case.hpp"
#include "speed/limits.hpp"

namespace heed::bench {
namespace {

using MakeContender = std::unique_ptr<Contender> (*)(const SpeedCase&, const Inputs&, Index);

/// float32 rounding of scores up to about 5 and of sums of values up to about 5, with room for 16
/// of each.
constexpr double tolerance = 16 * 5 * 1.2e-7;

void measure(benchmark::State& state, const SpeedCase& c, MakeContender make, Index num_threads,
             const Limits& limits) {
  const Inputs inputs(c);
  const std::unique_ptr<Contender> contender = make(c, inputs, num_threads);
  contender->run();
  const double error = largest_error(c, inputs, contender->out());
  if (!(error <= tolerance))
    return state.SkipWithError(("wrong by " + std::to_string(error)).c_str());

  double seconds = 1e9;  // of the fastest run: other programs only ever slow one down
  for (auto _ : state) {
    const auto start = std::chrono::steady_clock::now();
    contender->run();
    const double run =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    state.SetIterationTime(run);
    seconds = std::min(seconds, run);
  }
  const double bandwidth = c.bytes() <= cached_bytes() ? limits.cache_bytes : limits.dram_bytes;
  const double least_seconds = std::max(c.bytes() / bandwidth, c.flops() / limits.fma_flops);
  state.counters["best_ms"] = 1e3 * seconds;
  state.counters["GFLOP/s"] = c.flops() / seconds / 1e9;
  state.counters["GB/s"] = c.bytes() / seconds / 1e9;
  state.counters["roofline%"] = 100 * least_seconds / seconds;
}

void print(Index num_threads, const Limits& limits) {
  std::fprintf(stderr,
               "limits, %2td thread(s): FMA %6.1f GFLOP/s, DRAM %5.1f GB/s, L3 %6.1f GB/s, Eigen "
               "sgemm %6.1f GFLOP/s\n",
               num_threads, limits.fma_flops / 1e9, limits.dram_bytes / 1e9,
               limits.cache_bytes / 1e9, limits.eigen_gemm_flops / 1e9);
}

}  // namespace
}  // namespace heed::bench

int main(int argc, char** argv) {
  using namespace heed::bench;
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;

  std::map<heed::Index, Limits> limits;
  for (const heed::Index threads : {heed::Index{1}, heed::OpenMpExecutor{}.num_threads})
    if (limits.try_emplace(threads, measure_limits(threads)).second)
      print(threads, limits.at(threads));

  const std::pair<const char*, MakeContender> contenders[] = {{"heed", make_heed},
                                                              {"eigen", make_eigen}};
  for (const SpeedCase& c : speed_cases())
    for (const auto& limit : limits)
      for (const auto& contender : contenders)
        benchmark::RegisterBenchmark(
            (c.name + "/" + contender.first + "/threads:" + std::to_string(limit.first)).c_str(),
            [c, contender, limit](benchmark::State& state) {
              measure(state, c, contender.second, limit.first, limit.second);
            })
            ->Unit(benchmark::kMillisecond)
            ->UseManualTime();
  benchmark::RunSpecifiedBenchmarks();
}
