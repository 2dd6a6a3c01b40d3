// SPDX-License-Identifier: MIT
/// \file
/// Memory for caches and scratch: on cache lines, and on huge pages where it is large. Layer 0,
/// detail.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>

#include "heed/base/index.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace heed::detail {

/// A cache line, and the widest vector register.
inline constexpr std::size_t memory_alignment = 64;
/// What an array of so many bytes takes where the next one begins on a cache line.
constexpr std::size_t aligned_bytes(std::size_t bytes) { return round_up(bytes, memory_alignment); }

/// From this size on, an array asks for huge pages: that of one on x86-64 and AArch64.
inline constexpr std::size_t huge_page_size = std::size_t{2} << 20;

/// Asks the system to back the memory with huge pages: a decode step streams through far more
/// memory than the processor's tables of 4 KiB pages cover, and takes 12% longer on such pages
/// (docs/decisions.md). No more than a wish: where the system does not grant it, nothing changes.
inline void prefer_huge_pages([[maybe_unused]] void* memory, [[maybe_unused]] std::size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr std::uintptr_t small_page = 4096;
  const auto begin = reinterpret_cast<std::uintptr_t>(memory);
  const auto skipped = round_up(begin, small_page) - begin;
  if (bytes >= huge_page_size)
    ::madvise(static_cast<std::byte*>(memory) + skipped, bytes - skipped, MADV_HUGEPAGE);
#endif
}

struct AlignedDelete {
  void operator()(void* memory) const noexcept {
    ::operator delete(memory, std::align_val_t{memory_alignment});
  }
};
/// Elements on a cache-line boundary.
template <class T>
using AlignedArray = std::unique_ptr<T[], AlignedDelete>;

/// `count` uninitialised elements.
template <class T>
AlignedArray<T> make_aligned(Index count) {
  static_assert(std::is_trivially_destructible_v<T>);
  if (count < 0) throw std::bad_array_new_length();
  const auto bytes = static_cast<std::size_t>(count) * sizeof(T);
  void* const memory = ::operator new(bytes, std::align_val_t{memory_alignment});
  prefer_huge_pages(memory, bytes);
  return AlignedArray<T>(static_cast<T*>(memory));
}

}  // namespace heed::detail
