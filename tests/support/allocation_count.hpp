// SPDX-License-Identifier: MIT
/// \file
/// Counts what a program allocates with `new` and, where malloc can be replaced as well, what
/// Eigen takes from that. It replaces them for the whole program: include it in one source file
/// only.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace heed::test {

inline std::atomic<long> allocations = 0;

/// How often `work()` allocates, on all threads together.
template <class Work>
long count_allocations(const Work& work) {
  const long before = allocations;
  work();
  return allocations - before;
}

inline void* allocate(std::size_t bytes, std::size_t alignment) {
  ++allocations;
  const std::size_t whole = (bytes + alignment - 1) / alignment * alignment;
  if (void* memory = std::aligned_alloc(alignment, whole == 0 ? alignment : whole)) return memory;
  throw std::bad_alloc();
}

}  // namespace heed::test

// Not inlined: g++ would see free() on what it takes for memory of its own operator new, and warn.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  return heed::test::allocate(bytes, alignof(std::max_align_t));
}
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return heed::test::allocate(bytes, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}

// The sanitizers have a malloc of their own.
#if defined(__has_feature)
#define HEED_TEST_HAS(feature) __has_feature(feature)
#else
#define HEED_TEST_HAS(feature) 0
#endif
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && \
    !HEED_TEST_HAS(address_sanitizer) && !HEED_TEST_HAS(thread_sanitizer)
extern "C" void* __libc_malloc(std::size_t bytes);
extern "C" void* malloc(std::size_t bytes) {
  ++heed::test::allocations;
  return __libc_malloc(bytes);
}
#endif
