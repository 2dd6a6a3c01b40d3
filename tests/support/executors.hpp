// SPDX-License-Identifier: MIT
/// \file
/// Executors of 1 to 4 threads, of every kind there is, and one that begins at the end.
#pragma once

#include <vector>

#include "heed/base/executor.hpp"     // AnyExecutor, OpenMpExecutor, SerialExecutor
#include "heed/base/thread_pool.hpp"  // ThreadPoolExecutor

namespace heed::test {

/// A user's own, as small as one can be: the last task first.
struct BackwardExecutor {
  Index concurrency() const { return 1; }
  template <class Body>
  void parallel_for(Index count, const Body& body) const {
    for (Index task = count - 1; task >= 0; --task) body(task);
  }
};

inline std::vector<AnyExecutor> executors() {
  static Eigen::ThreadPool one(1), three(3);  // and the calling thread
  return {
      SerialExecutor{},
      BackwardExecutor{},
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
