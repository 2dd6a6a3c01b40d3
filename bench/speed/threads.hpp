// SPDX-License-Identifier: MIT
/// \file
/// So many threads, with OpenMP and without.
#pragma once

#include <Eigen/Core>

#include "heed/base/executor.hpp"
#include "peers/peers.hpp"  // blas_peer

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

/// For Eigen's own products, until it is called again; also where OpenBLAS computes them.
inline void set_eigen_threads(Index num_threads) {
  Eigen::setNbThreads(static_cast<int>(num_threads));
#ifdef EIGEN_USE_BLAS
  static const auto blas = blas_peer();
  if (blas) blas->set_num_threads(num_threads);
#endif
}

}  // namespace heed::bench
