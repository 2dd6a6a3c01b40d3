// SPDX-License-Identifier: MIT
// How fast attend is, as a share of what the machine allows and beside its peers. Options are
// Google Benchmark's:
//   speed --benchmark_filter=decode --benchmark_format=json
#include <cstdio>
#include <map>

#include <benchmark/benchmark.h>

#include "peers/peers.hpp"
#include "speed/limits.hpp"
#include "speed/suite.hpp"
#include "speed/threads.hpp"

namespace heed::bench {
namespace {

std::vector<ContenderKind> all_kinds() {
  std::vector<ContenderKind> kinds{heed_kind(), eigen_kind()};
  for (const Peer& peer : peers()) kinds.insert(kinds.end(), peer.kinds.begin(), peer.kinds.end());
  return kinds;
}

void print(Index num_threads, const Limits& limits) {
  std::fprintf(stderr,
               "limits, %2td thread(s): FMA %6.1f GFLOP/s, DRAM %5.1f GB/s, L3 %6.1f GB/s, Eigen "
               "sgemm %6.1f GFLOP/s",
               num_threads, limits.fma_flops / 1e9, limits.dram_bytes / 1e9,
               limits.cache_bytes / 1e9, limits.eigen_gemm_flops / 1e9);
  if (limits.blas_flops) std::fprintf(stderr, ", OpenBLAS %6.1f", *limits.blas_flops / 1e9);
  if (limits.bf16_flops) std::fprintf(stderr, ", bf16 %6.1f GFLOP/s", *limits.bf16_flops / 1e9);
  std::fprintf(stderr, "\n");
}

}  // namespace
}  // namespace heed::bench

int main(int argc, char** argv) {
  using namespace heed::bench;
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;

  std::map<heed::Index, Limits> limits;
  for (const heed::Index threads : {heed::Index{1}, heed::AnyExecutor{}.concurrency()})
    if (!limits.contains(threads)) {
      limits.emplace(threads, measure_limits(threads));
      print(threads, limits.at(threads));
    }
  Suite suite(all_kinds(), std::move(limits));
  suite.register_rows();
  benchmark::RunSpecifiedBenchmarks();
}
