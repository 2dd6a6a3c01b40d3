// SPDX-License-Identifier: MIT
/// \file
/// Grouped-query attention with its projections, norms and RoPE, naively. MHA and MQA are its ends.
#pragma once

#include <optional>
#include <vector>

#include "reference/attention.hpp"  // attention, Score, Visible
#include "reference/layers.hpp"     // Linear, RmsNorm, Rope

namespace heed::reference {

template <class T>
struct GroupedLayer {
  Size num_heads = 0;
  Size num_kv_heads = 0;
  Linear<T> query = {}, key = {}, value = {}, out = {};
  std::optional<RmsNorm<T>> query_norm = {}, key_norm = {};  // per head, before RoPE
  std::optional<Rope> rope = {};                             // on the first columns of every head
  Score<T> score = {};
  std::vector<T> sinks = {};

  /// Every stage of the way, so that each can be compared.
  struct Result {
    Heads<T> query, key, value;  // after norm and RoPE
    Attention<T> attention;
    Matrix<T> out;
  };

  /// Keys and values come from their own inputs; for self-attention pass x three times.
  Result operator()(const Matrix<T>& x, const Matrix<T>& key_input, const Matrix<T>& value_input,
                    const std::vector<Size>& positions, const Visible& visible = {}) const {
    Heads<T> q = split(query(x), num_heads);
    Heads<T> k = split(key(key_input), num_kv_heads);
    Heads<T> v = split(value(value_input), num_kv_heads);
    if (query_norm) q = (*query_norm)(q);
    if (key_norm) k = (*key_norm)(k);
    if (rope) q = (*rope)(q, positions);
    if (rope) k = (*rope)(k, positions);
    Attention<T> heads = attention(q, k, v, score, visible, sinks);
    Matrix<T> y = out(join(heads.out));
    return {std::move(q), std::move(k), std::move(v), std::move(heads), std::move(y)};
  }
};

}  // namespace heed::reference
