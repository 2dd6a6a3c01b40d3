// SPDX-License-Identifier: MIT
/// \file
/// What attention is measured on: keys and values of one layer as they come before a cache, and
/// queries of the last tokens.
#pragma once

#include <string>

#include "heed/base/shape.hpp"
#include "heed/base/views.hpp"
#include "kv_memory/model_config.hpp"
#include "shared/matrix.hpp"

namespace heed::bench::quality {

using Matrix = MatrixOf<float>;
using MatrixD = MatrixOf<double>;

/// Sizes as attention sees them. A latent is one key/value head whose values are the first columns
/// of its keys.
struct Sizes {
  Index num_heads, num_kv_heads, head_dim, head_dim_v;
  Index group_size() const { return num_heads / num_kv_heads; }
};

inline Sizes sizes_of(const GroupedShape& shape) {
  return {shape.num_heads, shape.num_kv_heads, shape.head_dim, shape.head_dim_v};
}
inline Sizes sizes_of(const LatentShape& shape) {
  return {shape.num_heads, 1, shape.latent_dim + shape.rope_dim, shape.latent_dim};
}

/// Rows are tokens, heads lie side by side; what has a position is rotated. Query row r is the
/// token seqlen - num_queries + r, and sees the keys up to its own.
struct Inputs {
  AttentionShape shape;
  double softmax_scale = 0;
  Matrix query;      ///< [num_queries, num_heads * head_dim]
  Matrix key;        ///< [seqlen, num_kv_heads * head_dim]; of a latent [c_kv | k_rope]
  Matrix value;      ///< [seqlen, num_kv_heads * head_dim_v]; empty for a latent
  std::string text;  ///< where the numbers come from, for the report

  Sizes sizes() const {
    return std::visit([](const auto& one) { return sizes_of(one); }, shape);
  }
  Index seqlen() const { return key.rows(); }
  Index num_queries() const { return query.rows(); }

  MatrixD query_of(Index head) const {
    return query.middleCols(head * sizes().head_dim, sizes().head_dim).cast<double>();
  }
  MatrixD key_of(Index kv_head) const {
    return key.middleCols(kv_head * sizes().head_dim, sizes().head_dim).cast<double>();
  }
  MatrixD value_of(Index kv_head) const {
    const Index width = sizes().head_dim_v;
    if (std::holds_alternative<LatentShape>(shape)) return key.leftCols(width).cast<double>();
    return value.middleCols(kv_head * width, width).cast<double>();
  }
};

}  // namespace heed::bench::quality
