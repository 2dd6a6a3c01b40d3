// SPDX-License-Identifier: MIT
/// \file
/// Counts what the program holds on its heap, by replacing the global operators new and delete.
#pragma once

#include "heed/base/index.hpp"

namespace heed::bench {

/// Bytes asked of operator new and not yet given back, by all threads.
Index live_heap_bytes();

}  // namespace heed::bench
