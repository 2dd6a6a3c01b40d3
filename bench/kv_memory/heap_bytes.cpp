// SPDX-License-Identifier: MIT
#include "kv_memory/heap_bytes.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace {

std::atomic<std::size_t> live_bytes{0};

/// Stands right before each block.
struct Header {
  void* memory;       ///< what malloc gave
  std::size_t bytes;  ///< what was asked for
};

void* allocate(std::size_t bytes, std::size_t alignment) noexcept {
  alignment = std::max(alignment, alignof(std::max_align_t));
  const std::size_t before = (sizeof(Header) + alignment - 1) / alignment * alignment;
  const std::size_t total = (before + bytes + alignment - 1) / alignment * alignment;
  if (total < bytes) return nullptr;
  void* const memory = std::aligned_alloc(alignment, total);
  if (memory == nullptr) return nullptr;
  void* const block = static_cast<std::byte*>(memory) + before;
  static_cast<Header*>(block)[-1] = {memory, bytes};
  live_bytes += bytes;
  return block;
}

void* allocate_or_throw(std::size_t bytes, std::size_t alignment) {
  if (void* const block = allocate(bytes, alignment)) return block;
  throw std::bad_alloc();
}

void release(void* block) noexcept {
  if (block == nullptr) return;
  const Header header = static_cast<Header*>(block)[-1];
  live_bytes -= header.bytes;
  std::free(header.memory);
}

}  // namespace

heed::Index heed::bench::live_heap_bytes() { return static_cast<Index>(live_bytes.load()); }

// The array and nothrow forms call these.
void* operator new(std::size_t bytes) { return allocate_or_throw(bytes, 1); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return allocate_or_throw(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* block) noexcept { release(block); }
void operator delete(void* block, std::size_t) noexcept { release(block); }
void operator delete(void* block, std::align_val_t) noexcept { release(block); }
void operator delete(void* block, std::size_t, std::align_val_t) noexcept { release(block); }
