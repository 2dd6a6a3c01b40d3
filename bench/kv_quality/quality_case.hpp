// SPDX-License-Identifier: MIT
/// \file
/// A filled cache, as the measurement sees it: the interface of all element types.
#pragma once

#include <memory>

#include "heed/base/executor.hpp"
#include "kv_quality/reference.hpp"

namespace heed::bench::quality {

class QualityCase {
 public:
  virtual ~QualityCase() = default;

  /// Puts all tokens in, in one call, once more.
  virtual void fill() = 0;
  /// By the cache's own account.
  virtual Index bytes_per_token() const = 0;
  /// What the cache gives back for one head.
  virtual MatrixD read_key(Index kv_head) const = 0;
  virtual MatrixD read_value(Index kv_head) const = 0;
  /// Attention of all queries over the cache. [num_queries, num_heads * head_dim_v]
  virtual MatrixD attend_all() = 0;
  /// One decode step: the last token's query, all heads.
  virtual void decode() = 0;
  /// Whether it stores all bits of a float: attention is then held against the numbers that were
  /// put in, others against what the cache gives back.
  virtual bool loses_nothing() const = 0;
  /// kernel_error (errors.hpp) in the type that the kernel computes in.
  virtual double error_of_kernel(const MatrixD& query, const MatrixD& key, const MatrixD& value,
                                 const HeadAttention& stored, const MatrixD& out) const = 0;
};

/// Null if no cache of such an entry stores the element.
/// \param inputs  stays where it is while the case lives
using MakeQualityCase = std::unique_ptr<QualityCase> (*)(const Inputs& inputs,
                                                         const AnyExecutor& executor);

}  // namespace heed::bench::quality
