// SPDX-License-Identifier: MIT
/// \file
/// So many threads, with OpenMP and without.
#pragma once

#include "heed/base/executor.hpp"

namespace heed::bench {

/// \param num_threads  1 where the program is compiled without OpenMP, as parse_threads sees to
inline AnyExecutor make_executor(Index num_threads) {
#ifdef _OPENMP
  if (num_threads > 1) return OpenMpExecutor{num_threads};
#endif
  (void)num_threads;
  return SerialExecutor{};
}

}  // namespace heed::bench
