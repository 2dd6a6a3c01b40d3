// SPDX-License-Identifier: MIT
/// \file
/// Attention over a latent cache, in its two forms. Layer 6, public.
#pragma once

#include <algorithm>
#include <span>

#include "heed/attention/attend.hpp"
#include "heed/layers/forward.hpp"
#include "heed/layers/latent_projections.hpp"

namespace heed {

/// How queries meet the latents. Both compute the same; which one takes less time depends on the
/// number of queries.
enum class MlaPath {
  automatic,  ///< what cheaper_path says, absorbed where a window has let tokens go
  absorbed,  ///< W_UK goes into the query and W_UV into the output; attention runs over the latents
             ///< as MQA with heads latent_dim + rope_dim wide: decode
  expanded,  ///< keys and values are made from the latents, then attention runs as MHA: long
             ///< prefill. Takes scratch for all tokens, those that a window has let go included
};

/// What a pass of MultiHeadLatentAttention may be given beyond its operands. Every field may be
/// left out.
struct LatentOptions {
  /// [seqlen_q]: the position RoPE turns each row of x by. Left out, rows follow on the cache's
  /// tokens, or start at 0 without a cache.
  std::span<const Index> positions = {};
  AnyExecutor executor = {};          ///< who runs the tasks
  MlaPath path = MlaPath::automatic;  ///< the same result either way, up to rounding, to which
                                      ///< Native elements add theirs on the absorbed path alone
  Workspace* workspace = nullptr;     ///< as in ForwardOptions
};

namespace detail {

/// Pairs of a query and a key that it sees, of causal queries that are the last of the tokens.
constexpr double causal_pairs(Index seqlen_q, Index seqlen_kv) {
  const auto queries = static_cast<double>(seqlen_q), keys = static_cast<double>(seqlen_kv);
  return queries * keys - queries * (queries - 1) / 2;
}

}  // namespace detail

/// FLOPs of the absorbed path: what it takes to fold W_UK into seqlen_q queries and W_UV into their
/// results, a part of absorbed_flops.
constexpr double fold_flops(const LatentShape& shape, Index seqlen_q) {
  return 2 * static_cast<double>(shape.num_heads * seqlen_q) *
         static_cast<double>(shape.latent_dim * shape.up_width());
}
/// For seqlen_q causal queries on seqlen_kv tokens, themselves included; projections that both
/// paths share left out.
constexpr double absorbed_flops(const LatentShape& shape, Index seqlen_q, Index seqlen_kv) {
  const auto attend = static_cast<double>(2 * shape.latent_dim + shape.rope_dim);
  return 2 * static_cast<double>(shape.num_heads) * detail::causal_pairs(seqlen_q, seqlen_kv) *
             attend +
         fold_flops(shape, seqlen_q);
}
/// Of the expanded path: what it takes to make keys and values of seqlen_kv latents, a part of
/// expanded_flops.
constexpr double expansion_flops(const LatentShape& shape, Index seqlen_kv) {
  return 2 * static_cast<double>(shape.num_heads * seqlen_kv) *
         static_cast<double>(shape.latent_dim * shape.up_width());
}
/// As absorbed_flops, for the expanded path.
constexpr double expanded_flops(const LatentShape& shape, Index seqlen_q, Index seqlen_kv) {
  const auto attend = static_cast<double>(shape.head_dim() + shape.head_dim_v);
  return 2 * static_cast<double>(shape.num_heads) * detail::causal_pairs(seqlen_q, seqlen_kv) *
             attend +
         expansion_flops(shape, seqlen_kv);
}

/// The path that is taken unless a pass names one: that with fewer FLOPs, those of the expansion
/// counted a fifth more, as it also copies what it makes. Where the paths take the same time is
/// measured in docs/speed.md.
/// \param products  with native ones, which the absorbed path alone can use, its attention counts
///                  0.6 times: in docs/speed.md, decode/mla128 takes 0.56 to 0.65 of the time
///                  (over int8 and int4 without, a tenth less, which is not counted)
constexpr MlaPath cheaper_path(const LatentShape& shape, Index seqlen_q, Index seqlen_kv,
                               Products products = Products::widened) {
  const double fold = fold_flops(shape, seqlen_q);
  const double absorbed = fold + (products == Products::native ? 0.6 : 1.0) *
                                     (absorbed_flops(shape, seqlen_q, seqlen_kv) - fold);
  const double expanded =
      expanded_flops(shape, seqlen_q, seqlen_kv) + 0.2 * expansion_flops(shape, seqlen_kv);
  return absorbed <= expanded ? MlaPath::absorbed : MlaPath::expanded;
}

namespace detail {

/// q_nope W_UK stands for q_nope . (W_UK c_KV): the up-projection moves from every cached token to
/// the query, and W_UV likewise from every token to the result.
///
/// \param query   [num_heads, rows, nope_dim + rope_dim]
/// \param folded  [num_heads, rows, latent_dim + rope_dim], overwritten
template <class T>
void fold_queries(const LatentProjections<T>& layer, HeadsView<const T> query, HeadsView<T> folded,
                  const AnyExecutor& executor) {
  const LatentShape& shape = layer.shape();
  executor.parallel_for(shape.num_heads, [&](Index head) {
    layer.key_up(head).apply_transposed(query.head(head).middle_cols(0, shape.nope_dim),
                                        folded.head(head).middle_cols(0, shape.latent_dim));
    for (Index row = 0; row < query.rows; ++row)
      std::copy_n(query.row(head, row) + shape.nope_dim, shape.rope_dim,
                  folded.row(head, row) + shape.latent_dim);
  });
}
/// \param latent_out  [num_heads, rows, latent_dim]; \param heads  [num_heads, rows, head_dim_v]
template <class T>
void unfold_results(const LatentProjections<T>& layer, HeadsView<const T> latent_out,
                    HeadsView<T> heads, const AnyExecutor& executor) {
  executor.parallel_for(layer.shape().num_heads, [&](Index head) {
    layer.value_up(head).apply(latent_out.head(head), heads.head(head));
  });
}

template <class T, class Cache, class Mask, class Score>
void attend_absorbed(const LatentProjections<T>& layer, HeadsView<const T> query,
                     const Cache& cache, const Mask& mask, const Score& score, HeadsView<T> heads,
                     const LatentOptions& options, Workspace& workspace) {
  const LatentShape& shape = layer.shape();
  const Index rows = query.rows, width = layer.latent_width();
  Matrices<T> scratch(workspace, rows * shape.num_heads * (width + shape.latent_dim));
  const auto folded = split_heads(scratch.take(rows, shape.num_heads * width), shape.num_heads);
  const auto latent_out =
      split_heads(scratch.take(rows, shape.num_heads * shape.latent_dim), shape.num_heads);
  fold_queries<T>(layer, query, folded, options.executor);
  attend(folded, cache, mask, score, latent_out,
         AttendOptions<T>{.executor = options.executor, .workspace = &workspace});
  unfold_results<T>(layer, latent_out, heads, options.executor);
}

/// Elements that expanded keys and values of some heads may take at a time (64 MiB of float); one
/// head is the least.
inline constexpr Index expanded_elements = Index{16} << 20;

template <class T, class Cache, class Mask, class Score>
void attend_expanded(const LatentProjections<T>& layer, HeadsView<const T> query,
                     const Cache& cache, const Mask& mask, const Score& score, HeadsView<T> heads,
                     const LatentOptions& options, Workspace& workspace) {
  const LatentShape& shape = layer.shape();
  const Index seqlen = cache.seqlen();
  const Index key_width = layer.head_dim(), value_width = shape.head_dim_v;
  const Index most =
      std::clamp<Index>(expanded_elements / std::max<Index>(1, seqlen * (key_width + value_width)),
                        1, shape.num_heads);
  Matrices<T> scratch(workspace,
                      seqlen * (layer.latent_width() + most * (key_width + value_width)));
  const RowsView<T> latent = scratch.take(seqlen, layer.latent_width());
  const HeadsView<T> key = split_heads(scratch.take(seqlen, most * key_width), most);
  const HeadsView<T> value = split_heads(scratch.take(seqlen, most * value_width), most);
  cache.read_latent(layer.c_kv(latent), layer.k_rope(latent));
  for (Index begin = 0; begin < shape.num_heads; begin += most) {
    const Index count = std::min(most, shape.num_heads - begin);
    options.executor.parallel_for(count, [&](Index head) {
      const RowsView<const T> c_kv = layer.c_kv(latent);
      layer.key_up(begin + head).apply(c_kv, key.head(head).middle_cols(0, shape.nope_dim));
      layer.value_up(begin + head).apply(c_kv, value.head(head));
      for (Index row = 0; row < seqlen; ++row)
        std::copy_n(layer.k_rope(latent).row(row), shape.rope_dim,
                    key.row(head, row) + shape.nope_dim);
    });
    const MatrixSource<T> source(key.middle_heads(0, count), value.middle_heads(0, count),
                                 dropped_keys(cache));
    attend_heads<T>(query.middle_heads(begin, count), source, mask, score,
                    heads.middle_heads(begin, count),
                    {.executor = options.executor, .workspace = &workspace},
                    {.first = begin, .num_heads = shape.num_heads});
  }
}

/// The path that a pass names, or the cheaper one; of a cache that has let tokens go, the one whose
/// cost does not grow with them.
template <class Cache>
MlaPath path_of(const LatentShape& shape, Index seqlen_q, const Cache& cache,
                const LatentOptions& options) {
  constexpr bool is_native = IsNative<Cache> && has_native_products<typename Cache::Element>;
  if (options.path != MlaPath::automatic) return options.path;
  if (!dropped_keys(cache).empty()) return MlaPath::absorbed;
  return cheaper_path(shape, seqlen_q, cache.seqlen(),
                      is_native ? Products::native : Products::widened);
}

template <class T, class Cache, class Mask, class Score>
void attend_latent(const LatentProjections<T>& layer, HeadsView<const T> query, const Cache& cache,
                   const Mask& mask, const Score& score, HeadsView<T> heads,
                   const LatentOptions& options, Workspace& workspace) {
  if (path_of(layer.shape(), query.rows, cache, options) == MlaPath::absorbed)
    attend_absorbed(layer, query, cache, mask, score, heads, options, workspace);
  else
    attend_expanded(layer, query, cache, mask, score, heads, options, workspace);
}

/// A sequence of a batch, and its first row among those of all.
template <class Cache, class Mask>
struct PlacedSequence {
  const BatchSequence<Cache, Mask>* sequence;
  Index begin;
};

/// Calls f(begin, row, count) for each run of rows [begin, begin + count) that belong to neighbours
/// in the list; `row` of those in the list come before it.
template <class Cache, class Mask, class F>
void for_each_run(std::span<const PlacedSequence<Cache, Mask>> placed, const F& f) {
  Index row = 0;
  for (std::size_t i = 0; i < placed.size();) {
    const Index begin = placed[i].begin;
    Index count = 0;
    for (; i < placed.size() && placed[i].begin == begin + count; ++i)
      count += placed[i].sequence->seqlen;
    f(begin, row, count);
    row += count;
  }
}

/// Some sequences of a batch on the absorbed path.
/// \param query  [rows of all, num_heads * (nope_dim + rope_dim)]
/// \param heads  [rows of all, num_heads * head_dim_v], overwritten where these have their rows
template <class T, class Cache, class Mask, class Score>
void attend_absorbed_batch(const LatentProjections<T>& layer, RowsView<const T> query,
                           std::span<const PlacedSequence<Cache, Mask>> placed, const Score& score,
                           RowsView<T> heads, const LatentOptions& options, Workspace& workspace) {
  const Index num_heads = layer.shape().num_heads, latent_dim = layer.shape().latent_dim;
  Index rows = 0;
  for (const auto& one : placed) rows += one.sequence->seqlen;
  Matrices<T> scratch(workspace, rows * num_heads * (layer.latent_width() + latent_dim));
  const auto folded = split_heads(scratch.take(rows, num_heads * layer.latent_width()), num_heads);
  const auto latent_out = split_heads(scratch.take(rows, num_heads * latent_dim), num_heads);
  for_each_run(placed, [&](Index begin, Index row, Index count) {
    fold_queries<T>(layer, split_heads(query.middle_rows(begin, count), num_heads),
                    folded.middle_rows(row, count), options.executor);
  });
  BorrowedList<AttendSequence<T, Cache, Mask>> attends(workspace, placed.size());
  Index first = 0;
  for (const auto& one : placed) {
    const auto& [seqlen, cache, mask] = *one.sequence;
    attends.add(
        {folded.middle_rows(first, seqlen), cache, mask, latent_out.middle_rows(first, seqlen)});
    first += seqlen;
  }
  attend_batch(attends.all(), score,
               AttendOptions<T>{.executor = options.executor, .workspace = &workspace});
  for_each_run(placed, [&](Index begin, Index row, Index count) {
    unfold_results<T>(layer, latent_out.middle_rows(row, count),
                      split_heads(heads.middle_rows(begin, count), num_heads), options.executor);
  });
}

/// The sequences of a batch whose path is the absorbed one together, the others one by one.
/// Arguments as before.
template <class T, class Cache, class Mask, class Score>
void attend_latent_batch(const LatentProjections<T>& layer, RowsView<const T> query,
                         std::span<const BatchSequence<Cache, Mask>> sequences, const Score& score,
                         RowsView<T> heads, const LatentOptions& options, Workspace& workspace) {
  const Index num_heads = layer.shape().num_heads;
  BorrowedList<PlacedSequence<Cache, Mask>> absorbed(workspace, sequences.size());
  Index begin = 0;
  for (const auto& sequence : sequences) {
    const auto& [seqlen, cache, mask] = sequence;
    if (path_of(layer.shape(), seqlen, *cache, options) == MlaPath::absorbed)
      absorbed.add({&sequence, begin});
    else
      attend_expanded<T>(layer, split_heads(query.middle_rows(begin, seqlen), num_heads),
                         std::as_const(*cache), mask, score,
                         split_heads(heads.middle_rows(begin, seqlen), num_heads), options,
                         workspace);
    begin += seqlen;
  }
  attend_absorbed_batch<T>(layer, query, absorbed.all(), score, heads, options, workspace);
}

}  // namespace detail
}  // namespace heed
