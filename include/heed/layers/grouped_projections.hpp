// SPDX-License-Identifier: MIT
/// \file
/// The weights of grouped-query attention and what they make of an input. Layer 6, public.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "heed/base/shape.hpp"
#include "heed/layers/forward.hpp"
#include "heed/layers/linear.hpp"
#include "heed/layers/rms_norm.hpp"

namespace heed {

/// Views of a layer's weights, [out, in] as checkpoints store them. Fused ones are taken apart with
/// RowsView::middle_rows. The memory must outlive the layer.
template <class T>
struct GroupedWeights {
  Linear<T> query;  ///< [num_heads * head_dim, model_dim]
  Linear<T> key;    ///< [num_kv_heads * head_dim, model_dim]; in cross-attention the memory's width
  Linear<T> value;  ///< [num_kv_heads * head_dim_v, model_dim]; likewise
  Linear<T> out;    ///< [model_dim, num_heads * head_dim_v]; a `projection` may have any width, and
                    ///< Identity gives the heads' results as they are
  std::optional<RmsNorm<T>> query_norm =
      {};  ///< of each query head, [head_dim], before RoPE (Qwen3, Gemma 3)
  std::optional<RmsNorm<T>> key_norm = {};   ///< of each key head, [head_dim], before RoPE
  std::span<const T> sinks = {};             ///< [num_heads]: attention sinks (gpt-oss), or empty
  std::optional<double> softmax_scale = {};  ///< what scores are multiplied by, 1/sqrt(head_dim) if
                                             ///< left out (Gemma 2: query_pre_attn_scalar^-0.5)
};

/// Queries, keys and values of an input: projected, normed and rotated. What GroupedQueryAttention
/// does before it attends; public, so that you can attend by hand. Positions are RowPositions, or
/// anything with a `check` and a `rotate` as it has them.
template <class T>
class GroupedProjections {
 public:
  /// \throws ShapeError if a weight does not fit the shape, or the shape is not whole.
  GroupedProjections(const GroupedShape& shape, const GroupedWeights<T>& weights,
                     std::optional<Rope> rope)
      : shape_(shape), weights_(weights), rope_(std::move(rope)) {
    constexpr auto where = "GroupedQueryAttention";
    const auto& [model_dim, num_heads, num_kv_heads, head_dim, head_dim_v] = shape_;
    detail::require_size(where, "shape.model_dim", model_dim, 1);
    detail::require_size(where, "shape.num_heads", num_heads, 1);
    detail::require_size(where, "shape.num_kv_heads", num_kv_heads, 1);
    detail::require_size(where, "shape.head_dim", head_dim, 1);
    detail::require_size(where, "shape.head_dim_v", head_dim_v, 1);
    detail::require(num_heads % num_kv_heads == 0, where,
                    "num_kv_heads (" + std::to_string(num_kv_heads) + ") must divide num_heads (" +
                        std::to_string(num_heads) + ")");
    weights_.query.check(where, "weights.query", query_width(), model_dim);
    weights_.key.check(where, "weights.key", key_width(), weights_.key.in());
    weights_.value.check(where, "weights.value", value_width(), weights_.value.in());
    weights_.out.check(where, "weights.out", weights_.out.out_or(model_dim), heads_width());
    if (weights_.query_norm)
      weights_.query_norm->check(where, "weights.query_norm [head_dim]", head_dim);
    if (weights_.key_norm) weights_.key_norm->check(where, "weights.key_norm [head_dim]", head_dim);
    if (!weights_.sinks.empty())
      detail::require_shape(where, "weights.sinks [num_heads]", {std::ssize(weights_.sinks)},
                            {num_heads});
    if (rope_) {
      const Index rope_dim = rope_->options().rope_dim;
      detail::require_number(rope_dim <= head_dim, where, "the rope's rope_dim", rope_dim,
                             "at most head_dim, " + std::to_string(head_dim));
    }
  }

  const GroupedShape& shape() const noexcept { return shape_; }
  /// What scores are multiplied by unless a pass says otherwise.
  double softmax_scale() const {
    return weights_.softmax_scale.value_or(default_softmax_scale(shape_.head_dim));
  }

  Index query_width() const noexcept { return shape_.num_heads * shape_.head_dim; }
  Index key_width() const noexcept { return shape_.num_kv_heads * shape_.head_dim; }
  Index value_width() const noexcept { return shape_.num_kv_heads * shape_.head_dim_v; }
  /// Width of all heads' results side by side.
  Index heads_width() const noexcept { return shape_.num_heads * shape_.head_dim_v; }

  /// \param x      [seqlen_q, model_dim]
  /// \param query  [seqlen_q, num_heads * head_dim], overwritten
  /// \throws ShapeError before anything is written.
  template <class Positions = RowPositions>
  void project_query(RowsView<const T> x, RowsView<T> query, const Positions& positions = {},
                     const AnyExecutor& executor = {}) const {
    constexpr auto where = "GroupedQueryAttention::project_query";
    detail::require_rows(where, "x [seqlen_q, model_dim]", x, x.rows, shape_.model_dim);
    detail::require_rows(where, "query [seqlen_q, num_heads * head_dim]", query, x.rows,
                         query_width());
    positions.check(where, x.rows);
    weights_.query.apply(x, query, executor);
    const HeadsView<T> heads = split_heads(query, shape_.num_heads);
    if (weights_.query_norm) weights_.query_norm->apply(heads);
    positions.rotate(rope_, heads);
  }

  /// \param key_input    [seqlen_kv, width of weights.key]
  /// \param value_input  [seqlen_kv, width of weights.value]
  /// \param key          [seqlen_kv, num_kv_heads * head_dim], overwritten
  /// \param value        [seqlen_kv, num_kv_heads * head_dim_v], overwritten
  /// \throws ShapeError before anything is written.
  template <class Positions = RowPositions>
  void project_key_value(RowsView<const T> key_input, RowsView<const T> value_input,
                         RowsView<T> key, RowsView<T> value, const Positions& positions = {},
                         const AnyExecutor& executor = {}) const {
    constexpr auto where = "GroupedQueryAttention::project_key_value";
    const Index rows = key_input.rows;
    detail::require_rows(where, "key_input [seqlen_kv, in of weights.key]", key_input, rows,
                         weights_.key.in());
    detail::require_rows(where, "value_input [seqlen_kv, in of weights.value]", value_input, rows,
                         weights_.value.in());
    detail::require_rows(where, "key [seqlen_kv, num_kv_heads * head_dim]", key, rows, key_width());
    detail::require_rows(where, "value [seqlen_kv, num_kv_heads * head_dim_v]", value, rows,
                         value_width());
    positions.check(where, rows);
    weights_.key.apply(key_input, key, executor);
    weights_.value.apply(value_input, value, executor);
    const HeadsView<T> heads = split_heads(key, shape_.num_kv_heads);
    if (weights_.key_norm) weights_.key_norm->apply(heads);
    positions.rotate(rope_, heads);
  }

 protected:
  /// Scratch elements of a pass.
  Index elements(Index seqlen_q, Index seqlen_kv) const noexcept {
    return seqlen_q * (query_width() + heads_width()) + seqlen_kv * (key_width() + value_width());
  }
  struct Scratch {
    RowsView<T> query, key, value, heads;
  };
  Scratch take(detail::Matrices<T>& scratch, Index seqlen_q, Index seqlen_kv) const {
    return {scratch.take(seqlen_q, query_width()), scratch.take(seqlen_kv, key_width()),
            scratch.take(seqlen_kv, value_width()), scratch.take(seqlen_q, heads_width())};
  }

  GroupedShape shape_;
  GroupedWeights<T> weights_;
  std::optional<Rope> rope_;
};

}  // namespace heed
