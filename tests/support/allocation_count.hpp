// SPDX-License-Identifier: MIT
/// \file
/// Counts what a program allocates with `new`. It replaces the global operator new, so include it
/// in one source file of a program only. Eigen's own matrices come from malloc and are not counted.
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
