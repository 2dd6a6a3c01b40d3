// SPDX-License-Identifier: MIT
/// \file
/// Fills caches and times decode steps over them with Google Benchmark.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kv_memory/element_types.hpp"

namespace heed::bench {

/// A layer's cache of so many tokens.
struct MeasuredCase {
  AttentionShape shape;  ///< fields that neither cache nor decode step depend on are 0
  Index tokens = 0;

  friend bool operator==(const MeasuredCase&, const MeasuredCase&) = default;
};

MeasuredCase measured_case(const AttentionShape& shape, Index tokens);

/// "decode/heads:32/kv_heads:8/head_dim:128/tokens:8192", in Google Benchmark's manner.
std::string case_name(const MeasuredCase& one);

struct Measurement {
  Index allocated_bytes = 0;  ///< by the cache of one layer, counted at the allocator
  Index reported_bytes = 0;   ///< by the cache's own account
  double largest_error = 0;   ///< against a float64 reference
  double tolerance = 0;
  double median_seconds = 0;  ///< of one decode step of one layer; 0 if it was not timed
  double best_seconds = 0;

  bool is_right() const {
    return largest_error <= tolerance && allocated_bytes == reported_bytes;  // false for a NaN
  }
};

/// Measures each case once, in order; progress goes to the standard error. A case that is not
/// right is not timed. Cases that Google Benchmark's filter leaves out stay empty.
std::vector<std::optional<Measurement>> measure(const std::vector<MeasuredCase>& cases,
                                                const ElementType& element, Index num_threads);

}  // namespace heed::bench
