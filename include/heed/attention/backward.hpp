// SPDX-License-Identifier: MIT
/// \file
/// attend_backward: the gradients of attend, for training. Layer 5, public.
#pragma once

#include <cmath>
#include <concepts>
#include <limits>
#include <span>
#include <string_view>

#include "heed/attention/attend.hpp"
#include "heed/attention/backward_tile.hpp"
#include "heed/softmax/state.hpp"

namespace heed {

/// What a call may be given beyond its operands.
template <class T>
struct BackwardOptions {
  std::span<const T> sinks = {};  ///< [num_heads], if attend was called with them
  AnyExecutor executor = {};
  Workspace* workspace = nullptr;  ///< scratch to reuse; a call without one allocates its own
};

namespace detail {

/// Tasks that a wave has at least, if there are keys enough. More would need more memory.
inline constexpr Index min_tasks_of_wave = 16;

/// Pages of keys to a task: fewer where there would be too few tasks for a few threads, but two at
/// least, or rows would be copied for too few keys.
constexpr Index pages_per_task(Index num_kv_heads, Index seqlen_kv) {
  const Index all = std::max<Index>(ceil_div(seqlen_kv, page_size), 1);
  Index pages = most_pages_per_task;
  while (pages > 2 && num_kv_heads * ceil_div(all, pages) < min_tasks) pages /= 2;
  return std::min(pages, all);
}

template <class T, class Mask, class Score>
void check_backward(const Problem<T, MatrixSource<T>, Mask>& forward, const Score& score,
                    HeadsView<const T> grad_out, const AttendResult<T>& result,
                    const AttendGradients<T>& gradients, const BackwardOptions<T>& options) {
  constexpr auto where = "attend_backward";
  [[maybe_unused]] constexpr CheckedPolicies<T, Mask, Score> policies{};
  static_assert(!ScorePolicy<Score, T> || DifferentiableScore<Score, T>,
                "heed: attend_backward needs a score with a `slope` (policy/score.hpp), which a "
                "CustomScore has not. Write a policy like Softcap.");
  const Index num_heads = forward.query.num_heads, seqlen_q = forward.query.rows,
              num_kv_heads = forward.source->num_kv_heads(), seqlen_kv = forward.source->seqlen(),
              head_dim = forward.source->head_dim(), head_dim_v = forward.source->head_dim_v();
  require_heads(where, "query [num_heads, seqlen_q, head_dim]", forward.query, num_heads, seqlen_q,
                head_dim);
  require_heads(where, "result.out [num_heads, seqlen_q, head_dim_v]", result.out, num_heads,
                seqlen_q, head_dim_v);
  require_rows(where, "result.lse [num_heads, seqlen_q]", result.lse, num_heads, seqlen_q);
  require_heads(where, "grad_out [num_heads, seqlen_q, head_dim_v]", grad_out, num_heads, seqlen_q,
                head_dim_v);
  require_heads(where, "gradients.query [num_heads, seqlen_q, head_dim]", gradients.query,
                num_heads, seqlen_q, head_dim);
  require_heads(where, "gradients.key [num_kv_heads, seqlen_kv, head_dim]", gradients.key,
                num_kv_heads, seqlen_kv, head_dim);
  require_heads(where, "gradients.value [num_kv_heads, seqlen_kv, head_dim_v]", gradients.value,
                num_kv_heads, seqlen_kv, head_dim_v);
  if (!options.sinks.empty())
    require_shape(where, "options.sinks [num_heads]", {std::ssize(options.sinks)}, {num_heads});
  if (!gradients.sinks.empty())
    require_shape(where, "gradients.sinks [num_heads], of options.sinks",
                  {std::ssize(gradients.sinks)}, {std::ssize(options.sinks)});
  check_policies(where, forward, score);
}

/// The sum of a[i] * b[i].
template <class T>
T dot(const T* a, const T* b, Index count) {
  constexpr Index n = simd::lanes<T>;
  auto sum = simd::broadcast(T{0});
  Index i = 0;
  for (; i + n <= count; i += n) sum = simd::mul_add(simd::load(a + i), simd::load(b + i), sum);
  if (i < count)
    sum = simd::mul_add(simd::load_some(a + i, count - i), simd::load_some(b + i, count - i), sum);
  return simd::sum_lanes(sum);
}

/// What rows need of the forward pass: fills problem.lse and problem.delta of a head, and gives
/// d loss / d sink, a sum over all rows and so in double.
template <class T, class Mask>
T recall_rows(const BackwardProblem<T, Mask>& problem, const AttendResult<T>& result, Index head) {
  const std::span<const T> sinks = problem.forward.sinks;
  const T sink =
      sinks.empty() ? -std::numeric_limits<T>::infinity() : sinks[static_cast<std::size_t>(head)];
  double grad_sink = 0;
  for (Index q_row = 0; q_row < result.out.rows; ++q_row) {
    auto state = SoftmaxState<T>::of(result.lse(head, q_row));
    if (!state.empty()) state.merge(SoftmaxState<T>::of(sink));
    const T lse = state.lse();
    const T delta =
        dot(problem.grad_out.row(head, q_row), result.out.row(head, q_row), result.out.cols);
    problem.lse(head, q_row) = lse, problem.delta(head, q_row) = delta;
    if (!state.empty()) grad_sink -= static_cast<double>(std::exp(sink - lse) * delta);
  }
  return static_cast<T>(grad_sink);
}

template <class T, class Mask, class Score>
void run_backward(const BackwardProblem<T, Mask>& problem, const Score& score,
                  const AttendResult<T>& result, const AttendGradients<T>& gradients,
                  const AnyExecutor& given, Workspace& workspace) {
  const auto& forward = problem.forward;
  const Index num_heads = forward.query.num_heads, num_kv_heads = problem.key.num_heads;
  const Index head_dim = problem.key.cols, head_dim_v = problem.value.cols;
  const AnyExecutor executor = executor_for(
      num_heads * forward.query.rows * problem.key.rows * (head_dim + head_dim_v), given);
  executor.parallel_for(num_heads, [&](Index head) {
    const T grad_sink = recall_rows(problem, result, head);
    if (!gradients.sinks.empty()) gradients.sinks[static_cast<std::size_t>(head)] = grad_sink;
  });

  const Index rows_per_tile =
      std::min(tile_rows(head_dim, head_dim_v), std::max<Index>(forward.rows(), 1));
  const Index pages = pages_per_task(num_kv_heads, problem.key.rows);
  const Index keys_per_task = pages * page_size;
  const std::size_t bytes =
      BackwardScratch<T>(nullptr, rows_per_tile, pages, head_dim, head_dim_v).bytes;
  const Index splits = ceil_div(problem.key.rows, keys_per_task);
  const Index splits_per_wave =
      std::clamp<Index>(min_tasks_of_wave / num_kv_heads, 1, std::max<Index>(splits, 1));
  // What the splits of a wave add to d loss / d query, [kv_head, split, row], and to which rows:
  // added up in their order, so that the bits do not depend on the threads.
  const Index rows = forward.rows();
  const auto num_parts = static_cast<std::size_t>(num_kv_heads * splits_per_wave);
  const Workspace::Borrowed block =
      workspace.borrow(num_parts * static_cast<std::size_t>(rows * head_dim) * sizeof(T));
  const auto part = [&](Index index) {
    T* const first = reinterpret_cast<T*>(block.data());
    return RowsView<T>(first + index * rows * head_dim, rows, head_dim);
  };
  BorrowedList<RowRange> written(workspace, num_parts);
  for (std::size_t i = 0; i < num_parts; ++i) written.add({0, 0});
  const std::span<RowRange> written_rows = written.writable();
  workspace.reserve(std::min<Index>(executor.concurrency(), std::ssize(written_rows)), bytes);
  for (Index wave = 0; wave < std::max<Index>(splits, 1); wave += splits_per_wave) {
    const Index count = std::min(splits_per_wave, splits - wave);
    executor.parallel_for(num_kv_heads * count, [&](Index task) {
      const Index kv_head = task % num_kv_heads, slot = task / num_kv_heads;
      const Index index = kv_head * splits_per_wave + slot;
      const Index begin = (wave + slot) * keys_per_task;
      const Workspace::Borrowed memory = workspace.borrow(bytes);
      written_rows[static_cast<std::size_t>(index)] = backward_keys(
          problem, score, kv_head, {begin, std::min(begin + keys_per_task, problem.key.rows)},
          rows_per_tile,
          BackwardScratch<T>(memory.data(), rows_per_tile, pages, head_dim, head_dim_v),
          part(index), gradients);
    });
    executor.parallel_for(num_heads, [&](Index head) {
      const Index first = head / forward.group_size * splits_per_wave;
      for (Index q_row = 0; q_row < forward.query.rows; ++q_row) {
        const Index row = q_row * forward.group_size + head % forward.group_size;
        T* const to = gradients.query.row(head, q_row);
        if (wave == 0) std::fill_n(to, head_dim, T{0});
        for (Index slot = 0; slot < count; ++slot) {
          const RowRange range = written_rows[static_cast<std::size_t>(first + slot)];
          if (row < range.begin || row >= range.end) continue;
          const T* const from = part(first + slot).row(row);
          for (Index c = 0; c < head_dim; ++c) to[c] += forward.query_scale * from[c];
        }
      }
    });
  }
}

}  // namespace detail

/// The gradients of out = attend(query, key, value, mask, score, out, lse), for training:
///
///     gradients = d loss / d query, d loss / d key, d loss / d value
///
/// from grad_out = d loss / d out, by the formulas of backward_tile.hpp. Scores are made anew, so
/// of the forward pass only its result has to be kept: memory grows with the sequence, not with its
/// square.
///
/// \param query, key, value, mask, score  as attend was called with; `score` must be
///                  differentiable: a number, Scale, Softcap, Alibi, Bias, chains of them, or a
///                  policy of yours with a `slope`. Biases and slopes get no gradient.
/// \param result    what attend gave for the same operands, mask, score and sinks: of another call
///                  the gradients are wrong, which nothing can tell
/// \param grad_out  [num_heads, seqlen_q, head_dim_v]
///
/// Keys that a row does not see get nothing from it, nor it from them, NaN and inf included; a row
/// that sees no key has a gradient of 0. A key whose score is -inf is seen: its key and value must
/// be finite, and so must what is made of them. Probabilities are made from lse, so they err with
/// its magnitude; where all scores of a row are below -1e8, as additive masks make them, lse cannot
/// tell one key from many, and the row's gradients are too large. A mask is exact there.
/// The bits do not depend on the executor.
/// \throws ShapeError naming the argument that does not fit, before anything is written.
/// Cost: 2 (3 head_dim + 2 head_dim_v) FLOPs per query head, query and visible key. Scratch: for
/// every 512 keys (128 where there are few) as much as query, though no more often than
/// max(16 / num_kv_heads, 1) times; and as many keys times 3 head_dim + 2 head_dim_v, and a tile of
/// rows, for each thread.
/// Source: Dao 2023, arXiv:2307.08691, section 3.1.2.
template <class Query, class Key, class Value, class Mask, class Score, class GradOut>
void attend_backward(const Query& query, const Key& key, const Value& value, const Mask& mask,
                     const Score& score, const AttendResult<detail::ViewElement<GradOut>>& result,
                     const GradOut& grad_out,
                     const AttendGradients<detail::ViewElement<GradOut>>& gradients,
                     const BackwardOptions<detail::ViewElement<GradOut>>& options = {}) {
  using T = detail::ViewElement<GradOut>;
  constexpr auto where = "attend_backward";
  const HeadsView<const T> queries(query), keys(key), values(value), grads(grad_out);
  detail::require_heads(where, "value [num_kv_heads, seqlen_kv, head_dim_v]", values,
                        keys.num_heads, keys.rows, values.cols);
  const MatrixSource<T> source(keys, values);
  const auto policy = detail::as_score_policy(score);
  const auto& [scale, rest] = detail::split_scale(policy);
  const detail::Problem<T, MatrixSource<T>, Mask> forward{
      queries,
      static_cast<T>(scale),
      &source,
      &mask,
      {},
      {},
      options.sinks,
      {.first = 0, .num_heads = queries.num_heads},
      detail::checked_group_size(where, queries.num_heads, keys.num_heads)};
  detail::check_backward(forward, policy, grads, result, gradients, options);
  Workspace local(Workspace::Use::one_call);
  Workspace& workspace = detail::workspace_or(options.workspace, local);
  const Index count = queries.num_heads * queries.rows;
  const Workspace::Borrowed rows =
      workspace.borrow(2 * static_cast<std::size_t>(count) * sizeof(T));
  T* const memory = reinterpret_cast<T*>(rows.data());
  const detail::BackwardProblem<T, Mask> problem{forward,
                                                 keys,
                                                 values,
                                                 grads,
                                                 {memory, queries.num_heads, queries.rows},
                                                 {memory + count, queries.num_heads, queries.rows}};
  detail::run_backward(problem, rest, result, gradients, options.executor, workspace);
}

}  // namespace heed
