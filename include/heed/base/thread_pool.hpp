// SPDX-License-Identifier: MIT
/// \file
/// Eigen's thread pool as an executor. Layer 0, public. Not in the umbrella: it pulls in Eigen's
/// unsupported module, and needs the program to link a thread library.
#pragma once

#include <algorithm>
#include <atomic>

#include <unsupported/Eigen/CXX11/ThreadPool>

#include "heed/base/executor.hpp"

namespace heed {

/// Runs tasks on an Eigen::ThreadPool and on the calling thread. From one of the pool's own threads
/// it runs all of them there: waiting for the others could deadlock. Otherwise it returns when each
/// helper that it has scheduled has run, so do not block the pool's threads on what waits for this
/// call.
///
///     Eigen::ThreadPool pool(3);
///     heed::attend(query, key, value, mask, softmax_scale, out,
///                  {.executor = heed::ThreadPoolExecutor{&pool}});
struct ThreadPoolExecutor {
  Eigen::ThreadPool* pool;

  Index concurrency() const { return pool->NumThreads() + 1; }

  template <class Body>
  void parallel_for(Index count, const Body& body) const {
    std::atomic<Index> next{0};
    const auto drain = [&next, &body, count] {
      for (Index task = next.fetch_add(1); task < count; task = next.fetch_add(1)) body(task);
    };
    const Index helpers = std::min<Index>(pool->NumThreads(), count - 1);
    if (helpers <= 0 || pool->CurrentThreadId() >= 0) return drain();
    Eigen::Barrier done(static_cast<unsigned>(helpers));
    Index scheduled = 0;
    try {
      for (; scheduled < helpers; ++scheduled)
        pool->Schedule([&drain, &done] {
          drain();
          done.Notify();
        });
    } catch (...) {  // no memory for a task: those scheduled refer to this frame, so it must go on
      for (Index helper = scheduled; helper < helpers; ++helper) done.Notify();
    }
    drain();
    done.Wait();
  }
};

}  // namespace heed
