// SPDX-License-Identifier: MIT
/// \file
/// One layer's cache, filled, and a decode step that attends to it: the interface of all element
/// types.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>

#include "heed/base/executor.hpp"
#include "kv_memory/model_config.hpp"

namespace heed::bench {

/// Where a cache's pages are.
enum class Placement {
  own,     ///< its own memory, for all tokens that queries still see
  pool,    ///< a PagePool, which gets back what a window has passed
  window,  ///< its own memory, in which a layer with a window slides
};

/// A layer's cache of so many tokens.
struct MeasuredCase {
  AttentionShape shape;  ///< fields that neither cache nor decode step depend on are 0
  Index tokens = 0;      ///< that are appended
  /// Keys that a query sees, its own included, if the cache slides: it then keeps no others.
  std::optional<Index> window{};

  /// Tokens that a query sees.
  Index tokens_seen() const { return window ? std::min(tokens, *window) : tokens; }

  friend bool operator==(const MeasuredCase&, const MeasuredCase&) = default;
};

/// How far decode's result is from a float64 reference.
struct DecodeError {
  double largest = 0;  ///< of all elements; NaN if one is
  double allowed = 0;
};

/// A filled cache of one layer.
class DecodeCase {
 public:
  virtual ~DecodeCase() = default;

  /// One token: every head's query attends to all tokens that it may see.
  virtual void decode() = 0;

  /// By the cache and the pool it has to itself, counted at the allocator.
  virtual Index allocated_bytes() const = 0;
  /// What cache and pool themselves say they have allocated.
  virtual Index reported_bytes() const = 0;
  /// What the sequence takes of that: less if there are pages in the pool that it does not hold.
  virtual Index held_bytes() const = 0;

  virtual DecodeError error() const = 0;
};

/// Fills a cache with random tokens. Null if no cache of such a shape stores the element.
using MakeDecodeCase = std::unique_ptr<DecodeCase> (*)(const MeasuredCase& one, Placement placement,
                                                       const AnyExecutor& executor);

}  // namespace heed::bench
