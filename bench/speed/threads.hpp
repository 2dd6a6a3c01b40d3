// SPDX-License-Identifier: MIT
/// \file
/// How many threads Eigen's own products take.
#pragma once

#include <Eigen/Core>

#include "heed/base/index.hpp"
#include "peers/peers.hpp"  // blas_peer

namespace heed::bench {

/// Until it is called again; also where OpenBLAS computes them.
inline void set_eigen_threads(Index num_threads) {
  Eigen::setNbThreads(static_cast<int>(num_threads));
#ifdef EIGEN_USE_BLAS
  static const auto blas = blas_peer();
  if (blas) blas->set_num_threads(num_threads);
#endif
}

}  // namespace heed::bench
