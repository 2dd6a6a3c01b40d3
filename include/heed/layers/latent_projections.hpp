// SPDX-License-Identifier: MIT
/// \file
/// The weights of multi-head latent attention and what they make of an input. Layer 6, public.
#pragma once

#include <optional>
#include <string>
#include <variant>

#include "heed/base/shape.hpp"
#include "heed/layers/forward.hpp"
#include "heed/layers/linear.hpp"
#include "heed/layers/rms_norm.hpp"

namespace heed {

/// Queries through a latent c_Q: W_DQ, a norm, W_UQ. DeepSeek's q_a_proj, q_a_layernorm, q_b_proj.
template <class T>
struct LatentQuery {
  Linear<T> down;                       ///< [query_latent_dim, model_dim]
  std::optional<RmsNorm<T>> norm = {};  ///< [query_latent_dim]
  Linear<T> up;                         ///< [num_heads * (nope_dim + rope_dim), query_latent_dim]
};

/// Views of a layer's weights, [out, in] as checkpoints store them. The memory must outlive the
/// layer.
template <class T>
struct LatentWeights {
  /// One projection, [num_heads * (nope_dim + rope_dim), model_dim], or two with a latent between
  /// them. A head's rows are [nope | rope].
  std::variant<Linear<T>, LatentQuery<T>> query;
  Linear<T> kv_down;  ///< [latent_dim + rope_dim, model_dim]: W_DKV and W_KR; kv_a_proj_with_mqa
  std::optional<RmsNorm<T>> kv_norm = {};  ///< of the latent, [latent_dim]; kv_a_layernorm
  Linear<T> kv_up;  ///< [num_heads * (nope_dim + head_dim_v), latent_dim], a matrix without bias:
                    ///< W_UK and W_UV, a head's rows are [nope | v]; kv_b_proj
  Linear<T> out;    ///< [model_dim, num_heads * head_dim_v], or as GroupedWeights has it
  std::optional<double> softmax_scale = {};  ///< what scores are multiplied by,
                                             ///< 1/sqrt(nope_dim + rope_dim) if left out; YaRN as
                                             ///< DeepSeek uses it: that times yarn_mscale squared
};

/// Queries and latents of an input: projected, normed and rotated. What MultiHeadLatentAttention
/// does before it attends; public, so that you can attend by hand. Positions are RowPositions, or
/// anything with a `check` and a `rotate` as it has them.
///
/// Source: DeepSeek-V2, arXiv:2405.04434, eq. 9 to 13 and 37 to 43.
template <class T>
class LatentProjections {
 public:
  /// \throws ShapeError if a weight does not fit the shape, or the shape is not whole.
  LatentProjections(const LatentShape& shape, const LatentWeights<T>& weights,
                    std::optional<Rope> rope)
      : shape_(shape), weights_(weights), rope_(std::move(rope)) {
    constexpr auto where = "MultiHeadLatentAttention";
    const auto& [model_dim, num_heads, latent_dim, rope_dim, nope_dim, head_dim_v,
                 query_latent_dim] = shape_;
    detail::require_size(where, "shape.model_dim", model_dim, 1);
    detail::require_size(where, "shape.num_heads", num_heads, 1);
    detail::require_size(where, "shape.latent_dim", latent_dim, 1);
    detail::require_size(where, "shape.rope_dim", rope_dim, 0);
    detail::require_size(where, "shape.nope_dim", nope_dim, 0);
    detail::require_size(where, "shape.nope_dim + rope_dim", head_dim(), 1);
    detail::require_size(where, "shape.head_dim_v", head_dim_v, 1);
    detail::require_size(where, "shape.query_latent_dim", query_latent_dim, 0);
    if (const auto* direct = std::get_if<Linear<T>>(&weights_.query)) {
      detail::require(query_latent_dim == no_query_latent, where,
                      "the shape has a query_latent_dim, so weights.query must be a LatentQuery");
      direct->check(where, "weights.query", query_width(), model_dim);
    } else {
      const auto& latent = std::get<LatentQuery<T>>(weights_.query);
      detail::require(query_latent_dim != no_query_latent, where,
                      "weights.query is a LatentQuery, so the shape needs its query_latent_dim");
      latent.down.check(where, "weights.query.down", query_latent_dim, model_dim);
      if (latent.norm)
        latent.norm->check(where, "weights.query.norm [query_latent_dim]", query_latent_dim);
      latent.up.check(where, "weights.query.up", query_width(), query_latent_dim);
    }
    weights_.kv_down.check(where, "weights.kv_down", latent_dim + rope_dim, model_dim);
    if (weights_.kv_norm)
      weights_.kv_norm->check(where, "weights.kv_norm [latent_dim]", latent_dim);
    detail::require(weights_.kv_up.projection == nullptr, where,
                    "weights.kv_up must be a matrix: heads are cut out of it");
    weights_.kv_up.check(where, "weights.kv_up", num_heads * shape_.up_width(), latent_dim);
    detail::require(
        weights_.kv_up.bias.empty(), where,
        "weights.kv_up must have no bias: absorbed into the query it would need another term");
    weights_.out.check(where, "weights.out", weights_.out.out_or(model_dim), heads_width());
    if (rope_)
      detail::require_number(rope_->options().rope_dim == rope_dim, where, "the rope's rope_dim",
                             rope_->options().rope_dim, "the shape's, " + std::to_string(rope_dim));
  }

  const LatentShape& shape() const noexcept { return shape_; }
  /// Width of a query and key head.
  Index head_dim() const noexcept { return shape_.head_dim(); }
  /// What scores are multiplied by unless a pass says otherwise.
  double softmax_scale() const {
    return weights_.softmax_scale.value_or(default_softmax_scale(head_dim()));
  }

  Index query_width() const noexcept { return shape_.num_heads * head_dim(); }
  /// Width of all heads' results side by side.
  Index heads_width() const noexcept { return shape_.num_heads * shape_.head_dim_v; }

  /// \param x      [seqlen_q, model_dim]
  /// \param query  [seqlen_q, num_heads * (nope_dim + rope_dim)], overwritten; heads are
  ///               [nope | rotated]
  /// \param workspace  where c_Q comes to lie; the layer's own if there is none
  /// \throws ShapeError before anything is written.
  template <class Positions = RowPositions>
  void project_query(RowsView<const T> x, RowsView<T> query, const Positions& positions = {},
                     const AnyExecutor& executor = {}, Workspace* workspace = nullptr) const {
    constexpr auto where = "MultiHeadLatentAttention::project_query";
    detail::require_rows(where, "x [seqlen_q, model_dim]", x, x.rows, shape_.model_dim);
    detail::require_rows(where, "query [seqlen_q, num_heads * (nope_dim + rope_dim)]", query,
                         x.rows, query_width());
    positions.check(where, x.rows);
    if (const auto* direct = std::get_if<Linear<T>>(&weights_.query)) {
      direct->apply(x, query, executor);
    } else {
      const auto& latent = std::get<LatentQuery<T>>(weights_.query);
      detail::Matrices<T> scratch(detail::workspace_or(workspace, workspace_),
                                  x.rows * shape_.query_latent_dim);
      const RowsView<T> c_q = scratch.take(x.rows, shape_.query_latent_dim);
      latent.down.apply(x, c_q, executor);
      if (latent.norm) latent.norm->apply(c_q);
      latent.up.apply(c_q, query, executor);
    }
    positions.rotate(
        rope_, split_heads(query, shape_.num_heads).middle_cols(shape_.nope_dim, shape_.rope_dim));
  }

  /// \param x       [seqlen_kv, model_dim]
  /// \param latent  [seqlen_kv, latent_dim + rope_dim], overwritten: c_KV normed, k_rope rotated;
  ///                the two parts that a LatentKv cache holds
  /// \throws ShapeError before anything is written.
  template <class Positions = RowPositions>
  void project_latent(RowsView<const T> x, RowsView<T> latent, const Positions& positions = {},
                      const AnyExecutor& executor = {}) const {
    constexpr auto where = "MultiHeadLatentAttention::project_latent";
    detail::require_rows(where, "x [seqlen_kv, model_dim]", x, x.rows, shape_.model_dim);
    detail::require_rows(where, "latent [seqlen_kv, latent_dim + rope_dim]", latent, x.rows,
                         latent_width());
    positions.check(where, x.rows);
    weights_.kv_down.apply(x, latent, executor);
    if (weights_.kv_norm) weights_.kv_norm->apply(c_kv(latent));
    positions.rotate(rope_, HeadsView<T>(k_rope(latent)));
  }

  /// Width of a cached row.
  Index latent_width() const noexcept { return shape_.latent_dim + shape_.rope_dim; }
  /// The two parts of latent rows.
  template <class U>
  RowsView<U> c_kv(RowsView<U> latent) const {
    return latent.middle_cols(0, shape_.latent_dim);
  }
  template <class U>
  RowsView<U> k_rope(RowsView<U> latent) const {
    return latent.middle_cols(shape_.latent_dim, shape_.rope_dim);
  }
  /// W_UK of a head, [nope_dim, latent_dim].
  WeightView<T> key_up(Index head) const {
    return weights_.kv_up.weight.middle_rows(head * shape_.up_width(), shape_.nope_dim);
  }
  /// W_UV of a head, [head_dim_v, latent_dim].
  WeightView<T> value_up(Index head) const {
    return weights_.kv_up.weight.middle_rows(head * shape_.up_width() + shape_.nope_dim,
                                             shape_.head_dim_v);
  }

 protected:
  /// Scratch elements of a pass.
  Index elements(Index seqlen) const noexcept {
    return seqlen * (query_width() + latent_width() + heads_width());
  }
  struct Scratch {
    RowsView<T> query, latent, heads;
  };
  Scratch take(detail::Matrices<T>& scratch, Index seqlen) const {
    return {scratch.take(seqlen, query_width()), scratch.take(seqlen, latent_width()),
            scratch.take(seqlen, heads_width())};
  }

  LatentShape shape_;
  LatentWeights<T> weights_;
  std::optional<Rope> rope_;
  mutable Workspace workspace_;
};

}  // namespace heed
