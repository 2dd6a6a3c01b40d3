// SPDX-License-Identifier: MIT
/// \file
/// attend: scaled dot-product attention, the one entry to the kernel. Layer 5, public.
///
/// | keys and values come as       | call                                                    |
/// | ----------------------------- | ------------------------------------------------------- |
/// | matrices or views             | attend(query, key, value, mask, score, out, options)    |
/// | a cache, or any page source   | attend(query, source, mask, score, out, options)        |
/// | several sequences of either   | attend_batch(sequences, score, options)                 |
#pragma once

#include <concepts>
#include <optional>
#include <ranges>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "heed/attention/batch.hpp"
#include "heed/attention/matrix_source.hpp"
#include "heed/attention/schedule.hpp"

namespace heed {

/// What a call may be given beyond its operands. Every field may be left out.
template <class T>
struct AttendOptions {
  /// [num_heads, seqlen_q], overwritten, if wanted: log-sum-exp of the visible scores, natural log,
  /// without the sink; -inf for an empty row
  std::optional<RowsView<T>> lse = {};
  std::span<const T> sinks = {};  ///< [num_heads]: one more score per head, in the denominator only
  AnyExecutor executor = {};      ///< who runs the tasks
  Workspace* workspace = nullptr;  ///< scratch to reuse; a call without one allocates its own
};

/// One sequence of a batch.
template <class T, class Source, class Mask>
struct AttendSequence {
  using Scalar = T;
  HeadsView<const T> query;  ///< [num_heads, seqlen_q, head_dim]
  const Source* source;      ///< its keys and values, a cache or a MatrixSource
  Mask mask;
  HeadsView<T> out;                     ///< [num_heads, seqlen_q, head_dim_v], overwritten
  std::optional<RowsView<T>> lse = {};  ///< [num_heads, seqlen_q], overwritten, if wanted
};

namespace detail {

/// Query heads to a key/value head. \throws ShapeError if these are not as many for each.
inline Index checked_group_size(std::string_view where, Index num_heads, Index num_kv_heads) {
  require(num_kv_heads > 0 && num_heads % num_kv_heads == 0, where, [&] {
    return "num_heads (" + std::to_string(num_heads) +
           ", of the query) must be a multiple of num_kv_heads (" + std::to_string(num_kv_heads) +
           ", of the keys)";
  });
  return num_heads / num_kv_heads;
}

/// An object of it is compiled only if masks and scores are some.
template <class T, class Mask, class Score>
struct CheckedPolicies {
  static_assert(
      std::floating_point<T>,
      "heed: attention computes in float or double. Narrower elements belong in a cache.");
  static_assert(
      MaskPolicy<Mask>,
      "heed: mask needs `KeyRange visible(Index q_row, const MaskExtent& extent) const`, "
      "or the members of PageMask, not both (policy/mask.hpp). Pass CausalMask{}, or wrap a "
      "lambda in CustomMask.");
  static_assert(
      ScorePolicy<Score, T>,
      "heed: score needs `apply<T>(packet, site)` and `check` (policy/score.hpp). Pass the "
      "softmax scale as a number, or wrap a lambda in CustomScore.");
};

/// Throws ShapeError if a mask's or a score's data do not fit the call.
template <class T, class Source, class Mask, class Score>
void check_policies(std::string_view where, const Problem<T, Source, Mask>& problem,
                    const Score& score) {
  check_mask(where, *problem.mask, problem.heads.num_heads, problem.extent());
  score.check(where, problem.heads.num_heads, problem.extent());
}

template <class T, class Source, class Mask, class Score>
void check_problem(std::string_view where, const Problem<T, Source, Mask>& problem,
                   const Score& score) {
  [[maybe_unused]] constexpr CheckedPolicies<T, Mask, Score> policies{};
  static_assert(std::same_as<ComputeType<typename Source::Element>, T>,
                "heed: a cache of double is attended to in double, any other in float.");
  static_assert(!IsNative<Source> || has_scales<typename Source::Element> ||
                    (std::same_as<typename Source::Element, bf16> && !IsRotated<Source>),
                "heed: a source of Products::native needs codes, or bf16 that is not rotated.");
  static_assert(!std::same_as<typename Source::Element, int4> || simd::takes_nibbles,
                "heed: a source unpacks int4 to int8, where products do not take it as it lies.");
  check_optional_members<Source>();
  const Source& source = *problem.source;
  const auto& query = problem.query;
  const Index num_heads = query.num_heads;
  require_heads(where, "query [num_heads, seqlen_q, head_dim]", query, num_heads, query.rows,
                source.head_dim());
  require_heads(where, "out [num_heads, seqlen_q, head_dim_v]", problem.out, num_heads, query.rows,
                source.head_dim_v());
  if (problem.lse)
    require_rows(where, "lse [num_heads, seqlen_q]", *problem.lse, num_heads, query.rows);
  if (!problem.sinks.empty())
    require_shape(where, "sinks [num_heads]", {std::ssize(problem.sinks)}, {num_heads});
  check_policies(where, problem, score);
}

/// Splits a score policy into the scale that queries are multiplied by, once a call, and the rest,
/// which every page's scores go through. Queries for native products are left as they are, since
/// they are rounded, and those of a model in bf16 then lose nothing.
template <class Source, class Score>
auto split_query_scale(const Score& score) {
  if constexpr (IsNative<Source>)
    return std::pair<double, const Score&>(1, score);
  else
    return split_scale(score);
}

/// Some heads of a layer, or all of a call.
template <class T, class Source, class Mask, class Score>
void attend_heads(HeadsView<const T> query, const Source& source, const Mask& mask,
                  const Score& score_or_scale, HeadsView<T> out, const AttendOptions<T>& options,
                  LayerHeads heads) {
  const auto score = as_score_policy(score_or_scale);
  const auto& [scale, rest] = split_query_scale<Source>(score);
  const Problem<T, Source, Mask> problem{
      query,
      static_cast<T>(scale),
      &source,
      &mask,
      out,
      options.lse,
      options.sinks,
      heads,
      checked_group_size("attend", query.num_heads, source.num_kv_heads())};
  check_problem("attend", problem, score);
  Workspace local(Workspace::Use::one_call);
  run(problem, rest, options.executor, workspace_or(options.workspace, local));
}

}  // namespace detail

/// out = softmax(mask(score(query key^T))) value, for every head; query head h attends with
/// key/value head h / (num_heads / num_kv_heads).
///
/// \param query  [num_heads, seqlen_q, head_dim]: a HeadsView; one head may be a RowsView or a
///               row-major Eigen matrix. A matrix of several heads must come as
///               split_heads(matrix, num_heads): as it is, it is one wide head
/// \param key    [num_kv_heads, seqlen_kv, head_dim], likewise
/// \param value  [num_kv_heads, seqlen_kv, head_dim_v], likewise
/// \param mask   CausalMask{}, NoMask{}, ...: see policy/mask.hpp
/// \param score  the softmax scale, usually 1/sqrt(head_dim), or a policy: see policy/score.hpp
/// \param out    [num_heads, seqlen_q, head_dim_v], overwritten; must not overlap an input
///
/// A query that sees no key gets out = 0 and lse = -inf. A NaN or inf in an input reaches the rows
/// that see it and no others; a key whose score is -inf has no weight, and whether what is not
/// finite in its values reaches the row is not said.
/// \throws ShapeError naming the argument that does not fit, before anything is written.
/// Cost: 2 (head_dim + head_dim_v) FLOPs per query head, query and visible key.
/// Source: Vaswani et al. 2017, arXiv:1706.03762, eq. 1; one pass as in Dao et al. 2022,
/// arXiv:2205.14135.
template <class Query, class Key, class Value, class Mask, class Score, class Out>
  requires(!PageSource<Key>)
void attend(const Query& query, const Key& key, const Value& value, const Mask& mask,
            const Score& score, Out&& out,
            const AttendOptions<detail::ViewElement<Out>>& options = {}) {
  using T = detail::ViewElement<Out>;
  const HeadsView<const T> keys(key), values(value);
  detail::require_heads("attend", "value [num_kv_heads, seqlen_kv, head_dim_v]", values,
                        keys.num_heads, keys.rows, values.cols);
  attend(query, MatrixSource<T>(keys, values), mask, score, std::forward<Out>(out), options);
}

/// The same, and the log-sum-exp of each row. \param lse  [num_heads, seqlen_q], overwritten
template <class Query, class Key, class Value, class Mask, class Score, class Out, class Lse>
  requires std::convertible_to<Lse&&, RowsView<detail::ViewElement<Out>>>
void attend(const Query& query, const Key& key, const Value& value, const Mask& mask,
            const Score& score, Out&& out, Lse&& lse) {
  using T = detail::ViewElement<Out>;
  attend(query, key, value, mask, score, std::forward<Out>(out),
         AttendOptions<T>{.lse = RowsView<T>(std::forward<Lse>(lse))});
}

/// The same with keys and values from a cache: prefill with many query rows, decode with one.
/// \param source  a KvCache, or any PageSource (cache/page.hpp)
template <class Query, PageSource Source, class Mask, class Score, class Out>
void attend(const Query& query, const Source& source, const Mask& mask, const Score& score,
            Out&& out, const AttendOptions<detail::ViewElement<Out>>& options = {}) {
  using T = detail::ViewElement<Out>;
  const HeadsView<const T> heads(query);
  detail::attend_heads<T>(heads, source, mask, score, HeadsView<T>(std::forward<Out>(out)), options,
                          {.first = 0, .num_heads = heads.num_heads});
}

/// The same, and the log-sum-exp of each row. \param lse  [num_heads, seqlen_q], overwritten
template <class Query, PageSource Source, class Mask, class Score, class Out, class Lse>
  requires std::convertible_to<Lse&&, RowsView<detail::ViewElement<Out>>>
void attend(const Query& query, const Source& source, const Mask& mask, const Score& score,
            Out&& out, Lse&& lse) {
  using T = detail::ViewElement<Out>;
  attend(query, source, mask, score, std::forward<Out>(out),
         AttendOptions<T>{.lse = RowsView<T>(std::forward<Lse>(lse))});
}

/// Attention for a ragged batch: every sequence has its own queries, keys and mask; prefills,
/// chunks and decode steps may stand side by side. The bits are those of one call per sequence.
///
/// Sequences whose caches begin with the same pages (KvCache::fork, KvCache::assign_prefix) are
/// taken together there: a tile of up to 96 query rows, 48 where a key and a value have more than
/// 512 numbers together, reads each page once, whosever rows they are.
/// \param sequences  whose sources have the same head_dim and head_dim_v
/// \param options  without `lse`: each sequence has its own
/// \throws ShapeError naming the sequence, before anything is written.
template <class T, class Source, class Mask, class Score>
void attend_batch(std::span<const AttendSequence<T, Source, Mask>> sequences, const Score& score,
                  const AttendOptions<T>& options = {}) {
  static_assert(PageSource<Source>,
                "heed: a sequence's source is a KvCache, a MatrixSource, or has the members of "
                "PageSource (cache/page.hpp).");
  constexpr auto where = "attend_batch";
  detail::require(!options.lse, where,
                  "options.lse is given, but each sequence has an lse of its own");
  if (sequences.empty()) return;
  using Problem = detail::Problem<T, Source, Mask>;
  Workspace local(Workspace::Use::one_call);
  Workspace& workspace = detail::workspace_or(options.workspace, local);
  detail::BorrowedList<Problem> problems(workspace, sequences.size());
  const Source* const first = sequences.front().source;
  const auto policy = detail::as_score_policy(score);
  const auto& [scale, rest] = detail::split_query_scale<Source>(policy);
  const T query_scale = static_cast<T>(scale);
  for (std::size_t i = 0; i < sequences.size(); ++i)
    detail::for_sequence(where, i, [&] {
      const auto& [query, source, mask, out, lse] = sequences[i];
      detail::require(source != nullptr, where, "there is no source");
      const Index group_size =
          detail::checked_group_size(where, query.num_heads, source->num_kv_heads());
      problems.add({query, query_scale, source, &mask, out, lse, options.sinks,
                    detail::LayerHeads{.first = 0, .num_heads = query.num_heads}, group_size});
      detail::require_shape(where, "source [head_dim, head_dim_v]",
                            {source->head_dim(), source->head_dim_v()},
                            {first->head_dim(), first->head_dim_v()});
      detail::check_problem(where, problems.all().back(), policy);
    });
  detail::run_batch(problems.all(), rest, options.executor, workspace);
}

/// The same for any list of sequences that lie in one piece, such as a vector.
template <std::ranges::contiguous_range Sequences, class Score>
void attend_batch(
    const Sequences& sequences, const Score& score,
    const AttendOptions<typename std::ranges::range_value_t<Sequences>::Scalar>& options = {}) {
  attend_batch(std::span<const std::ranges::range_value_t<Sequences>>(sequences), score, options);
}

}  // namespace heed
