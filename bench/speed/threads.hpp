// SPDX-License-Identifier: MIT
/// \file
/// How many threads Eigen's own products take.
#pragma once

#include <Eigen/Core>

#include "heed/base/index.hpp"

namespace heed::bench {

/// Until it is called again.
inline void set_eigen_threads(Index num_threads) {
  Eigen::setNbThreads(static_cast<int>(num_threads));
}

}  // namespace heed::bench
