// SPDX-License-Identifier: MIT
/// \file
/// So many threads, with OpenMP and without.
#pragma once

#include <Eigen/Core>

#include "heed/base/executor.hpp"

namespace heed::bench {

/// \param num_threads  1 where the program is compiled without OpenMP
inline AnyExecutor make_executor(Index num_threads) {
#ifdef _OPENMP
  return OpenMpExecutor{num_threads};
#else
  (void)num_threads;
  return SerialExecutor{};
#endif
}

/// For Eigen's own products, until it is called again.
inline void set_eigen_threads(Index num_threads) {
  Eigen::setNbThreads(static_cast<int>(num_threads));
}

}  // namespace heed::bench
