// SPDX-License-Identifier: MIT
/// \file
/// What the machine allows: measured first, in the same run, so that every case can be given as a
/// share of it.
#pragma once

#include "heed/base/index.hpp"
#include "speed/figures.hpp"

namespace heed::bench {

/// The largest of several measurements with so many threads.
Limits measure_limits(Index num_threads);

/// Bytes of keys and values that the last-level cache is taken to hold; half of it, since queries,
/// results and other programs want some too. 16 MiB where the system does not tell.
double cached_bytes();

}  // namespace heed::bench
