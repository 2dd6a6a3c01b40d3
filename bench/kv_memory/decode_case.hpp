// SPDX-License-Identifier: MIT
/// \file
/// One layer's cache, filled, and a decode step that attends to it: the interface of all element
/// types.
#pragma once

#include <memory>

#include "heed/base/executor.hpp"
#include "kv_memory/model_config.hpp"

namespace heed::bench {

/// A filled cache of one layer.
class DecodeCase {
 public:
  virtual ~DecodeCase() = default;

  /// One token: every head's query attends to all tokens of the cache.
  virtual void decode() = 0;

  /// By the cache, counted at the allocator.
  virtual Index allocated_bytes() const = 0;
  /// What the cache itself says it has allocated.
  virtual Index reported_bytes() const = 0;

  /// The largest difference between decode's result and a float64 reference.
  virtual double largest_error() const = 0;
  /// What largest_error may be.
  virtual double tolerance() const = 0;
};

/// Fills a cache with `tokens` random tokens.
using MakeDecodeCase = std::unique_ptr<DecodeCase> (*)(const AttentionShape& shape, Index tokens,
                                                       const AnyExecutor& executor);

}  // namespace heed::bench
