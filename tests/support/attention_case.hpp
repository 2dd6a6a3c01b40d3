// SPDX-License-Identifier: MIT
/// \file
/// Attention on random inputs.
#pragma once

#include <cmath>
#include <limits>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

#include "heed/attention/attend.hpp"  // attend, AttendOptions
#include "reference/attention.hpp"    // Heads
#include "support/random.hpp"         // Random

namespace heed::test {

using reference::Heads;

/// What results in T are held against.
template <class T>
using Exact = std::conditional_t<std::is_same_v<T, float>, double, long double>;

struct AttentionShape {
  Index num_heads = 1;
  Index num_kv_heads = 1;
  Index seqlen_q = 1;
  Index seqlen_kv = 1;
  Index head_dim = 16;
  Index head_dim_v = 16;

  std::string text() const {
    std::ostringstream words;
    words << "num_heads " << num_heads << ", num_kv_heads " << num_kv_heads << ", seqlen_q "
          << seqlen_q << ", seqlen_kv " << seqlen_kv << ", head_dim " << head_dim << ", head_dim_v "
          << head_dim_v;
    return words.str();
  }
  double softmax_scale() const { return 1 / std::sqrt(static_cast<double>(head_dim)); }
};

/// What CausalMask shows: the last query sees the last key.
inline auto causal_on(Index seqlen_q, Index seqlen_kv) {
  return
      [before = seqlen_kv - seqlen_q](Index, Index q_row, Index k) { return k <= before + q_row; };
}
inline auto causal_on(const AttentionShape& shape) {
  return causal_on(shape.seqlen_q, shape.seqlen_kv);
}

template <class T>
struct AttentionInputs {
  Heads<T> query;  // [num_heads, seqlen_q, head_dim]
  Heads<T> key;    // [num_kv_heads, seqlen_kv, head_dim]
  Heads<T> value;  // [num_kv_heads, seqlen_kv, head_dim_v]
  std::vector<T> sinks = {};
};

template <class T>
Heads<T> normal_heads(Index num_heads, Index rows, Index cols, Random& random,
                      double deviation = 1) {
  return {num_heads, rows, cols, random.normals<T>(num_heads * rows * cols, deviation)};
}

/// Unit-normal queries, keys and values.
template <class T>
AttentionInputs<T> normal_inputs(const AttentionShape& shape, Random& random) {
  return {normal_heads<T>(shape.num_heads, shape.seqlen_q, shape.head_dim, random),
          normal_heads<T>(shape.num_kv_heads, shape.seqlen_kv, shape.head_dim, random),
          normal_heads<T>(shape.num_kv_heads, shape.seqlen_kv, shape.head_dim_v, random)};
}

template <class T>
HeadsView<T> view(Heads<T>& heads) {
  return {heads.data.data(), heads.heads, heads.rows, heads.cols};
}
template <class T>
HeadsView<const T> view(const Heads<T>& heads) {
  return {heads.data.data(), heads.heads, heads.rows, heads.cols};
}

/// Rows begin .. begin + count of every head.
template <class T>
Heads<T> middle_rows(const Heads<T>& heads, Index begin, Index count) {
  Heads<T> part(heads.heads, count, heads.cols);
  for (Index head = 0; head < heads.heads; ++head)
    for (Index row = 0; row < count; ++row)
      for (Index col = 0; col < heads.cols; ++col)
        part(head, row, col) = heads(head, begin + row, col);
  return part;
}

/// What attend writes. Starts as NaN, so that an element left out is seen.
template <class T>
struct AttentionResult {
  Heads<T> out;  // [num_heads, seqlen_q, head_dim_v]
  Heads<T> lse;  // [num_heads, seqlen_q, 1]

  AttentionResult(Index num_heads, Index seqlen_q, Index head_dim_v)
      : out(num_heads, seqlen_q, head_dim_v), lse(num_heads, seqlen_q, 1) {
    out.data.assign(out.data.size(), std::numeric_limits<T>::quiet_NaN());
    lse.data.assign(lse.data.size(), std::numeric_limits<T>::quiet_NaN());
  }
  RowsView<T> lse_view() { return {lse.data.data(), lse.heads, lse.rows}; }

  /// The same numbers; 0 and -0 count as one.
  friend bool operator==(const AttentionResult& a, const AttentionResult& b) {
    return a.out.data == b.out.data && a.lse.data == b.lse.data;
  }
};

/// attend on matrices.
template <class T, class Mask, class Score>
AttentionResult<T> attend_matrices(const AttentionInputs<T>& inputs, const Mask& mask,
                                   const Score& score, AttendOptions<T> options = {}) {
  AttentionResult<T> result(inputs.query.heads, inputs.query.rows, inputs.value.cols);
  options.lse = result.lse_view();
  options.sinks = inputs.sinks;
  attend(view(inputs.query), view(inputs.key), view(inputs.value), mask, score, view(result.out),
         options);
  return result;
}

/// attend on a cache, or any other source of pages.
template <class Source, class Mask, class Score, class T = ComputeType<typename Source::Element>>
AttentionResult<T> attend_source(std::type_identity_t<HeadsView<const T>> query,
                                 const Source& source, const Mask& mask, const Score& score,
                                 AttendOptions<T> options = {}) {
  AttentionResult<T> result(query.num_heads, query.rows, source.head_dim_v());
  options.lse = result.lse_view();
  attend(query, source, mask, score, view(result.out), options);
  return result;
}

/// The same numbers in another type.
template <class To, class From>
Heads<To> converted(const Heads<From>& from) {
  return {from.heads, from.rows, from.cols, std::vector<To>(from.data.begin(), from.data.end())};
}

}  // namespace heed::test
