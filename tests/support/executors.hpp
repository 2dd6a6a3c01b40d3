// SPDX-License-Identifier: MIT
/// \file
/// Executors of 1 to 4 threads, of every kind there is.
#pragma once

#include <vector>

#include "heed/base/executor.hpp"     // AnyExecutor, OpenMpExecutor, SerialExecutor
#include "heed/base/thread_pool.hpp"  // ThreadPoolExecutor

namespace heed::test {

inline std::vector<AnyExecutor> executors() {
  static Eigen::ThreadPool one(1), three(3);  // and the calling thread
  return {
      SerialExecutor{},
      ThreadPoolExecutor{&one},
      ThreadPoolExecutor{&three},
#ifdef _OPENMP
      OpenMpExecutor{.num_threads = 1},
      OpenMpExecutor{.num_threads = 2},
      OpenMpExecutor{.num_threads = 3},
      OpenMpExecutor{.num_threads = 4},
#endif
  };
}

}  // namespace heed::test
