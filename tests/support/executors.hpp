// SPDX-License-Identifier: MIT
/// \file
/// Executors of 1, 2 and 3 threads, of every kind there is.
#pragma once

#include <vector>

#include "heed/base/executor.hpp"     // AnyExecutor, OpenMpExecutor, SerialExecutor
#include "heed/base/thread_pool.hpp"  // ThreadPoolExecutor

namespace heed::test {

inline std::vector<AnyExecutor> executors() {
  static Eigen::ThreadPool one(1), two(2);  // and the calling thread
  return {
      SerialExecutor{},
      ThreadPoolExecutor{&one},
      ThreadPoolExecutor{&two},
#ifdef _OPENMP
      OpenMpExecutor{.num_threads = 1},
      OpenMpExecutor{.num_threads = 2},
      OpenMpExecutor{.num_threads = 3},
#endif
  };
}

}  // namespace heed::test
