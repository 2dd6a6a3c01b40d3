// SPDX-License-Identifier: MIT
/// \file
/// Fills caches and times decode steps over them with Google Benchmark.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kv_memory/element_types.hpp"
#include "kv_memory/placed_cache.hpp"

namespace heed::bench {

/// The cache that a layer of a model has in a placement, after `context` tokens.
MeasuredCase measured_case(const AttentionShape& shape, const KvLayers& layers, Index context,
                           Placement placement);

/// "decode/heads:32/kv_heads:8/head_dim:128/tokens:8192", in Google Benchmark's manner.
std::string case_name(const MeasuredCase& one);

struct Measurement {
  Index allocated_bytes = 0;  ///< by the cache of one layer, counted at the allocator
  Index reported_bytes = 0;   ///< by the cache's own account
  Index held_bytes = 0;       ///< by the sequence: less where its pool has pages to spare
  DecodeError error{};
  double median_seconds = 0;  ///< of one decode step of one layer; 0 if it was not timed
  double best_seconds = 0;

  bool is_right() const {
    const Index objects = allocated_bytes - reported_bytes;
    return error.largest <= error.allowed &&  // false for a NaN
           0 <= objects && objects <= most_object_bytes;
  }
};

/// Measures each case once, in order; progress goes to the standard error. A case that is not
/// right is not timed. Cases that Google Benchmark's filter leaves out stay empty.
std::vector<std::optional<Measurement>> measure(const std::vector<MeasuredCase>& cases,
                                                const ElementType& element, Placement placement,
                                                Index num_threads);

}  // namespace heed::bench
