// SPDX-License-Identifier: MIT
/// \file
/// A filter of Google Benchmark that leaves nothing.
#pragma once

#include <cstddef>

#include <benchmark/benchmark.h>

#include "shared/quantities.hpp"  // OptionError

namespace heed::bench {

/// \param matched  cases that Google Benchmark has found to run
/// \throws OptionError if there is none
inline void require_matched(std::size_t matched) {
  if (matched == 0)
    throw OptionError("--benchmark_filter=" + benchmark::GetBenchmarkFilter() +
                      ": no case has such a name; --benchmark_list_tests=true lists them");
}

}  // namespace heed::bench
