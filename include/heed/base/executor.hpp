// SPDX-License-Identifier: MIT
/// \file
/// Who runs the tasks of a call: the calling thread, OpenMP, or a pool of yours. Layer 0,
/// extension.
///
/// The bits of a result never depend on the executor: work is cut by sizes alone.
#pragma once

#include <algorithm>
#include <concepts>
#include <exception>
#include <memory>
#include <mutex>
#include <type_traits>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "heed/base/index.hpp"

namespace heed {
namespace detail {

/// Stands for the bodies that executors are given.
struct SomeBody {
  void operator()(Index task) const;
};

}  // namespace detail

/// An executor calls body(0) .. body(count - 1), in any order and on any threads, and returns when
/// all are done; `concurrency` is the most bodies it ever runs at one time, for each of which (up
/// to 1024) a workspace that is kept holds scratch. The bodies that it is given here do not throw.
/// For example, over TBB:
///
///     struct TbbExecutor {
///       heed::Index concurrency() const { return tbb::this_task_arena::max_concurrency(); }
///       template <class Body>
///       void parallel_for(heed::Index count, const Body& body) const {
///         tbb::parallel_for(heed::Index{0}, count, body);
///       }
///     };
template <class E>
concept Executor = requires(const E& executor, Index count) {
  { executor.concurrency() } -> std::convertible_to<Index>;
  executor.parallel_for(count, detail::SomeBody{});
};

/// Everything on the calling thread.
struct SerialExecutor {
  Index concurrency() const noexcept { return 1; }
  template <class Body>
  void parallel_for(Index count, const Body& body) const {
    for (Index task = 0; task < count; ++task) body(task);
  }
};

#ifdef _OPENMP
/// OpenMP's threads. Available where the program is compiled with OpenMP.
struct OpenMpExecutor {
  Index num_threads = omp_get_max_threads();

  Index concurrency() const noexcept { return std::max<Index>(num_threads, 1); }
  template <class Body>
  void parallel_for(Index count, const Body& body) const {
    if (count == 1 || num_threads <= 1) return SerialExecutor{}.parallel_for(count, body);
    const int threads = static_cast<int>(std::min<Index>(num_threads, 1 << 15));  // OpenMP's type
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (Index task = 0; task < count; ++task) body(task);
  }
};
/// What a call uses unless told otherwise: OpenMP if compiled with it, else the calling thread.
using DefaultExecutor = OpenMpExecutor;
#else
using DefaultExecutor = SerialExecutor;
#endif

/// Any executor behind one type, so that the kernel is compiled once and not once per executor.
/// Holds a copy: executors are small handles (a pool's executor refers to the pool).
class AnyExecutor {
 public:
  AnyExecutor() : AnyExecutor(DefaultExecutor{}) {}

  template <class E>
    requires(!std::same_as<std::remove_cvref_t<E>, AnyExecutor>)
  AnyExecutor(E executor) {  // NOLINT(*-explicit-*)
    static_assert(
        Executor<E>,
        "heed: an executor needs `Index concurrency() const` and `void parallel_for(Index count, "
        "const Body& body) const`; see heed/base/executor.hpp for one in ten lines.");
    static_assert(
        sizeof(E) <= sizeof(storage_) && alignof(E) <= alignof(std::max_align_t) &&
            std::is_trivially_copyable_v<E>,
        "heed: an executor is copied into each call: it must be trivially copyable and no "
        "larger than four pointers, a handle that points to your pool.");
    std::construct_at(reinterpret_cast<E*>(storage_), executor);
    concurrency_ = [](const void* self) {
      return static_cast<Index>(static_cast<const E*>(self)->concurrency());
    };
    run_ = [](const void* self, Index count, const void* body, void (*call)(const void*, Index)) {
      static_cast<const E*>(self)->parallel_for(count,
                                                [body, call](Index task) { call(body, task); });
    };
  }

  Index concurrency() const { return concurrency_(storage_); }

  /// Runs body(0) .. body(count - 1). The first exception of a body is rethrown here when all are
  /// done: it never crosses a thread's end, so nothing terminates the process.
  template <class Body>
  void parallel_for(Index count, const Body& body) const {
    struct Guarded {
      const Body& body;
      std::mutex& mutex;
      std::exception_ptr& error;
    };
    std::mutex mutex;
    std::exception_ptr error;
    const Guarded guarded{body, mutex, error};
    run_(storage_, count, &guarded, [](const void* context, Index task) {
      const Guarded& call = *static_cast<const Guarded*>(context);
      try {
        call.body(task);
      } catch (...) {
        const std::lock_guard lock(call.mutex);
        if (!call.error) call.error = std::current_exception();
      }
    });
    if (error) std::rethrow_exception(error);
  }

 private:
  // Four pointers: a pool, and what its owner wants to say of it.
  alignas(std::max_align_t) unsigned char storage_[4 * sizeof(void*)];
  Index (*concurrency_)(const void*);
  void (*run_)(const void*, Index, const void*, void (*)(const void*, Index));
};

}  // namespace heed
