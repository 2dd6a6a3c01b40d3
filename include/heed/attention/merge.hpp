// SPDX-License-Identifier: MIT
/// \file
/// Two attentions over disjoint keys become the attention over all of them. Layer 5, public.
#pragma once

#include <string_view>
#include <utility>

#include "heed/base/views.hpp"
#include "heed/softmax/state.hpp"

namespace heed {

/// Merges partial results: if (out_a, lse_a) attended to some keys and (out_b, lse_b) to others,
/// (out, lse) is what attending to both would have given. Associative and commutative up to
/// rounding; an empty part (out = 0, lse = -inf) changes nothing. Parts must have been made without
/// sinks.
///
/// \param out_a, out_b  [num_heads, seqlen_q, head_dim_v]
/// \param lse_a, lse_b  [num_heads, seqlen_q]
/// \param out           [num_heads, seqlen_q, head_dim_v], overwritten; may be one of the inputs
/// \param lse           [num_heads, seqlen_q], overwritten; may be one of the inputs
/// \throws ShapeError before anything is written.
/// Cost: an exp per part and row, 3 flops per element of out.
/// Source: Dao et al. 2022, arXiv:2205.14135, section 3.1.
template <class OutA, class LseA, class OutB, class LseB, class Out, class Lse>
void merge(const OutA& out_a, const LseA& lse_a, const OutB& out_b, const LseB& lse_b, Out&& out,
           Lse&& lse) {
  using T = detail::ViewElement<Out>;
  const HeadsView<const T> a(out_a), b(out_b);
  const HeadsView<T> to(std::forward<Out>(out));
  const RowsView<const T> a_lse(lse_a), b_lse(lse_b);
  const RowsView<T> to_lse(std::forward<Lse>(lse));
  const auto check_out = [&](std::string_view name, HeadsView<const T> view) {
    detail::require_heads("merge", name, view, a.num_heads, a.rows, a.cols);
  };
  const auto check_lse = [&](std::string_view name, RowsView<const T> view) {
    detail::require_rows("merge", name, view, a.num_heads, a.rows);
  };
  check_lse("lse_a [num_heads, seqlen_q]", a_lse);
  check_out("out_b [num_heads, seqlen_q, head_dim_v]", b);
  check_lse("lse_b [num_heads, seqlen_q]", b_lse);
  check_out("out [num_heads, seqlen_q, head_dim_v]", to);
  check_lse("lse [num_heads, seqlen_q]", to_lse);

  for (Index head = 0; head < a.num_heads; ++head)
    for (Index q_row = 0; q_row < a.rows; ++q_row) {
      auto state = SoftmaxState<T>::of(a_lse(head, q_row));
      const auto factors = state.merge(SoftmaxState<T>::of(b_lse(head, q_row)));
      for (Index c = 0; c < a.cols; ++c) {
        const T sum = factors.self * a(head, q_row, c) + factors.other * b(head, q_row, c);
        to(head, q_row, c) = state.empty() ? T{0} : sum / state.row_sum;
      }
      to_lse(head, q_row) = state.lse();
    }
}

}  // namespace heed
