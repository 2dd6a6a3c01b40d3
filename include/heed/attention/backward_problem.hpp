// SPDX-License-Identifier: MIT
/// \file
/// What a call of `attend_backward` asks for, and a task's working memory. Layer 5, public.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "heed/attention/matrix_source.hpp"
#include "heed/attention/problem.hpp"
#include "heed/base/aligned_array.hpp"
#include "heed/simd/packet.hpp"

namespace heed {

/// What attend gave.
template <class T>
struct AttendResult {
  HeadsView<const T> out;  ///< [num_heads, seqlen_q, head_dim_v]
  RowsView<const T> lse;   ///< [num_heads, seqlen_q]
};

/// Where attend_backward writes: each is overwritten, and of the shape of what it is the gradient
/// of. They must overlap neither each other nor an input.
template <class T>
struct AttendGradients {
  HeadsView<T> query;       ///< [num_heads, seqlen_q, head_dim]
  HeadsView<T> key;         ///< [num_kv_heads, seqlen_kv, head_dim]
  HeadsView<T> value;       ///< [num_kv_heads, seqlen_kv, head_dim_v]
  std::span<T> sinks = {};  ///< [num_heads], if wanted; only where there are sinks
};

namespace detail {

/// What `attend_backward` was called with, checked.
template <class T, class Mask>
struct BackwardProblem {
  Problem<T, MatrixSource<T>, Mask> forward;  ///< without its results
  HeadsView<const T> key;                     ///< [num_kv_heads, seqlen_kv, head_dim]
  HeadsView<const T> value;                   ///< [num_kv_heads, seqlen_kv, head_dim_v]
  HeadsView<const T> grad_out;                ///< [num_heads, seqlen_q, head_dim_v]
  RowsView<T> lse;    ///< [num_heads, seqlen_q], sinks included; -inf for rows of weight nowhere
  RowsView<T> delta;  ///< [num_heads, seqlen_q]
};

/// Pages of keys that a task takes together, of which a row's part is summed apart: so many that
/// rows are seldom copied. Measured (docs/decisions.md).
inline constexpr Index most_pages_per_task = 8;

/// A task's working memory, carved from one borrowed block.
template <class T>
struct BackwardScratch {
  struct Page {
    RowsView<T> keys;           ///< [page_size, head_dim]
    RowsView<T> key_columns;    ///< [head_dim, page_size]
    RowsView<T> value_columns;  ///< [head_dim_v, page_size]
    RowsView<T> grad_key;       ///< [page_size, head_dim]
    RowsView<T> grad_value;     ///< [page_size, head_dim_v]
  };
  Page page[most_pages_per_task];
  RowsView<T> query;        ///< [rows, head_dim], times the scale
  RowsView<T> grad_out;     ///< [rows, head_dim_v]
  RowsView<T> grad_query;   ///< [rows, head_dim]
  RowsView<T> probs;        ///< [rows, page_size]
  RowsView<T> grad_scores;  ///< [rows, page_size]
  RowsView<T> by_key;       ///< [page_size, rows]: one of these two, transposed
  std::uint64_t* visible;   ///< [rows]
  std::size_t bytes = 0;

  /// \param memory  of as many bytes, or null to learn how many these are
  /// \param rows    of the largest tile
  /// \param pages   of keys, most_pages_per_task at most
  BackwardScratch(std::byte* memory, Index rows, Index pages, Index head_dim, Index head_dim_v) {
    const auto part = [&]<class X>(X*& to, Index count) {
      to = memory == nullptr ? nullptr : reinterpret_cast<X*>(memory + bytes);
      bytes += aligned_bytes(static_cast<std::size_t>(count) * sizeof(X));
    };
    const auto matrix = [&](RowsView<T>& to, Index height, Index width) {
      to = RowsView<T>(nullptr, height, width, simd::padded(width));
      part(to.data, height * to.stride);
    };
    for (Page& p : std::span(page).first(static_cast<std::size_t>(pages))) {
      matrix(p.keys, page_size, head_dim);
      matrix(p.key_columns, head_dim, page_size), matrix(p.value_columns, head_dim_v, page_size);
      matrix(p.grad_key, page_size, head_dim), matrix(p.grad_value, page_size, head_dim_v);
    }
    matrix(query, rows, head_dim), matrix(grad_out, rows, head_dim_v);
    matrix(grad_query, rows, head_dim);
    matrix(probs, rows, page_size), matrix(grad_scores, rows, page_size);
    matrix(by_key, page_size, rows);
    part(visible, rows);
  }
};

}  // namespace detail
}  // namespace heed
