// SPDX-License-Identifier: MIT
/// \file
/// What the machine allows: measured first, in the same run, so that every case can be given as a
/// share of it.
#pragma once

#include "heed/base/index.hpp"

namespace heed::bench {

struct Limits {
  double fma_flops;         ///< float32 multiply-adds in registers, FLOP/s
  double dram_bytes;        ///< reading memory far larger than the caches, bytes/s
  double cache_bytes;       ///< reading a last-level cache's share, bytes/s
  double eigen_gemm_flops;  ///< Eigen's product of 1024 x 1024 floats, FLOP/s
};

/// The largest of several measurements with so many OpenMP threads.
Limits measure_limits(Index num_threads);

/// Bytes of keys and values that the last-level cache is taken to hold; half of it, since queries,
/// results and other programs want some too. 16 MiB where the system does not tell.
double cached_bytes();

}  // namespace heed::bench
