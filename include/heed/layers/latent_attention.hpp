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

/// FLOPs of attention on these pairs in all heads, with keys and values of so many columns
/// together.
constexpr double attention_flops(const LatentShape& shape, double pairs, Index width) {
  return 2 * static_cast<double>(shape.num_heads) * pairs * static_cast<double>(width);
}
/// Of the absorbed path on latents, and of the expanded one on what is made of them.
constexpr double absorbed_attention_flops(const LatentShape& shape, Index seqlen_q,
                                          Index seqlen_kv) {
  return attention_flops(shape, causal_pairs(seqlen_q, seqlen_kv),
                         2 * shape.latent_dim + shape.rope_dim);
}
constexpr double expanded_attention_flops(const LatentShape& shape, Index seqlen_q,
                                          Index seqlen_kv) {
  return attention_flops(shape, causal_pairs(seqlen_q, seqlen_kv),
                         shape.head_dim() + shape.head_dim_v);
}

}  // namespace detail

/// FLOPs of W_UK and W_UV in all heads on so many rows: on the absorbed path these are queries and
/// their results, on the expanded one cached tokens.
constexpr double up_projection_flops(const LatentShape& shape, Index rows) {
  return 2 * static_cast<double>(shape.num_heads * rows) *
         static_cast<double>(shape.latent_dim * shape.up_width());
}
/// FLOPs of the absorbed path for seqlen_q causal queries on seqlen_kv tokens, themselves included;
/// projections that both paths share left out.
constexpr double absorbed_flops(const LatentShape& shape, Index seqlen_q, Index seqlen_kv) {
  return up_projection_flops(shape, seqlen_q) +
         detail::absorbed_attention_flops(shape, seqlen_q, seqlen_kv);
}
/// The same of the expanded path.
constexpr double expanded_flops(const LatentShape& shape, Index seqlen_q, Index seqlen_kv) {
  return up_projection_flops(shape, seqlen_kv) +
         detail::expanded_attention_flops(shape, seqlen_q, seqlen_kv);
}

/// The path that is taken unless a pass names one: that with fewer FLOPs, those of the expansion
/// counted a fifth more, as it also copies what it makes. Where the paths take the same time is
/// measured in docs/speed.md.
/// \param products  with native ones, which the absorbed path alone can use, its attention counts
///                  0.6 times: in docs/speed.md, decode/mla128 takes 0.54 to 0.70 of the time
///                  (over int8 and int4 without, a tenth less, which is not counted)
constexpr MlaPath cheaper_path(const LatentShape& shape, Index seqlen_q, Index seqlen_kv,
                               Products products = Products::exact) {
  const double absorbed = up_projection_flops(shape, seqlen_q) +
                          (products == Products::native ? 0.6 : 1.0) *
                              detail::absorbed_attention_flops(shape, seqlen_q, seqlen_kv);
  const double expanded = 1.2 * up_projection_flops(shape, seqlen_kv) +
                          detail::expanded_attention_flops(shape, seqlen_q, seqlen_kv);
  return absorbed <= expanded ? MlaPath::absorbed : MlaPath::expanded;
}

namespace detail {

/// Elements that expanded keys and values of some heads may take at a time (64 MiB of float); one
/// head is the least.
inline constexpr Index expanded_elements = Index{16} << 20;

/// A sequence of a batch, and its first row among those of all.
template <class Cache, class Mask>
struct PlacedSequence {
  const BatchSequence<Cache, Mask>* sequence;
  Index begin;
};

/// Calls f(begin, row, count) for each run of rows [begin, begin + count) that belong to neighbours
/// in the list; `row` rows of the list come before them.
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

/// The attention of a pass, over caches that hold its latents.
///
///     query  [num_heads, rows, nope_dim + rope_dim]
///     heads  [num_heads, rows, head_dim_v], overwritten
///
/// In a batch, the rows of all sequences follow one another in both.
template <class T, class Score>
struct LatentPass {
  const LatentProjections<T>& layer;
  const Score& score;
  const LatentOptions& options;
  Workspace& workspace;

  /// On the path that is named, or the cheaper one.
  template <class Cache, class Mask>
  void attend(HeadsView<const T> query, const Cache& cache, const Mask& mask,
              HeadsView<T> heads) const {
    if (path_of(query.rows, cache) == MlaPath::absorbed)
      attend_absorbed(query, cache, mask, heads);
    else
      attend_expanded(query, cache, mask, heads);
  }
  /// The sequences of a batch whose path is the absorbed one together, the others one by one.
  template <class Cache, class Mask>
  void attend_batch(std::span<const BatchSequence<Cache, Mask>> sequences, HeadsView<const T> query,
                    HeadsView<T> heads) const {
    BorrowedList<PlacedSequence<Cache, Mask>> absorbed(workspace, sequences.size());
    Index begin = 0;
    for (const auto& sequence : sequences) {
      const auto& [seqlen, cache, mask] = sequence;
      if (path_of(seqlen, *cache) == MlaPath::absorbed)
        absorbed.add({&sequence, begin});
      else
        attend_expanded(query.middle_rows(begin, seqlen), std::as_const(*cache), mask,
                        heads.middle_rows(begin, seqlen));
      begin += seqlen;
    }
    attend_absorbed_batch(absorbed.all(), query, heads);
  }

 private:
  const LatentShape& shape() const { return layer.shape(); }
  AttendOptions<T> attend_options() const {
    return {.executor = options.executor, .workspace = &workspace};
  }
  /// The path that the pass names, or the cheaper one; of a cache that has let tokens go, the one
  /// whose cost does not grow with them.
  template <class Cache>
  MlaPath path_of(Index seqlen_q, const Cache& cache) const {
    constexpr bool is_native = IsNative<Cache> && has_native_products<typename Cache::Element>;
    if (options.path != MlaPath::automatic) return options.path;
    if (!dropped_keys(cache).empty()) return MlaPath::absorbed;
    return cheaper_path(shape(), seqlen_q, cache.seqlen(),
                        is_native ? Products::native : Products::exact);
  }

  /// q_nope W_UK stands for q_nope . (W_UK c_KV): the up-projection moves from every cached token
  /// to the query, and W_UV likewise from every token to the result.
  /// \param folded  [num_heads, rows, latent_dim + rope_dim], overwritten
  void fold_queries(HeadsView<const T> query, HeadsView<T> folded) const {
    options.executor.parallel_for(shape().num_heads, [&](Index head) {
      layer.key_up(head).apply_transposed(query.head(head).middle_cols(0, shape().nope_dim),
                                          folded.head(head).middle_cols(0, shape().latent_dim));
      for (Index row = 0; row < query.rows; ++row)
        std::copy_n(query.row(head, row) + shape().nope_dim, shape().rope_dim,
                    folded.row(head, row) + shape().latent_dim);
    });
  }
  /// \param latent_out  [num_heads, rows, latent_dim]
  void unfold_results(HeadsView<const T> latent_out, HeadsView<T> heads) const {
    options.executor.parallel_for(shape().num_heads, [&](Index head) {
      layer.value_up(head).apply(latent_out.head(head), heads.head(head));
    });
  }
  struct Folded {
    HeadsView<T> query, out;
  };
  /// What queries are folded to, and what attention over latents gives.
  Folded take_folded(Matrices<T>& scratch, Index rows) const {
    const Index num_heads = shape().num_heads;
    const HeadsView<T> query =
        split_heads(scratch.take(rows, num_heads * layer.latent_width()), num_heads);
    return {query, split_heads(scratch.take(rows, num_heads * shape().latent_dim), num_heads)};
  }
  Index folded_elements(Index rows) const {
    return rows * shape().num_heads * (layer.latent_width() + shape().latent_dim);
  }

  template <class Cache, class Mask>
  void attend_absorbed(HeadsView<const T> query, const Cache& cache, const Mask& mask,
                       HeadsView<T> heads) const {
    Matrices<T> scratch(workspace, folded_elements(query.rows));
    const Folded folded = take_folded(scratch, query.rows);
    fold_queries(query, folded.query);
    heed::attend(folded.query, cache, mask, score, folded.out, attend_options());
    unfold_results(folded.out, heads);
  }
  template <class Cache, class Mask>
  void attend_absorbed_batch(std::span<const PlacedSequence<Cache, Mask>> placed,
                             HeadsView<const T> query, HeadsView<T> heads) const {
    Index rows = 0;
    for (const auto& one : placed) rows += one.sequence->seqlen;
    Matrices<T> scratch(workspace, folded_elements(rows));
    const Folded folded = take_folded(scratch, rows);
    for_each_run(placed, [&](Index begin, Index row, Index count) {
      fold_queries(query.middle_rows(begin, count), folded.query.middle_rows(row, count));
    });
    BorrowedList<AttendSequence<T, Cache, Mask>> attends(workspace, placed.size());
    Index first = 0;
    for (const auto& one : placed) {
      const auto& [seqlen, cache, mask] = *one.sequence;
      attends.add({folded.query.middle_rows(first, seqlen), cache, mask,
                   folded.out.middle_rows(first, seqlen)});
      first += seqlen;
    }
    heed::attend_batch(attends.all(), score, attend_options());
    for_each_run(placed, [&](Index begin, Index row, Index count) {
      unfold_results(folded.out.middle_rows(row, count), heads.middle_rows(begin, count));
    });
  }

  template <class Cache, class Mask>
  void attend_expanded(HeadsView<const T> query, const Cache& cache, const Mask& mask,
                       HeadsView<T> heads) const {
    const Index seqlen = cache.seqlen(), num_heads = shape().num_heads;
    const Index key_width = layer.head_dim(), value_width = shape().head_dim_v;
    const Index most = std::clamp<Index>(
        expanded_elements / std::max<Index>(1, seqlen * (key_width + value_width)), 1, num_heads);
    Matrices<T> scratch(workspace,
                        seqlen * (layer.latent_width() + most * (key_width + value_width)));
    const RowsView<T> latent = scratch.take(seqlen, layer.latent_width());
    const HeadsView<T> key = split_heads(scratch.take(seqlen, most * key_width), most);
    const HeadsView<T> value = split_heads(scratch.take(seqlen, most * value_width), most);
    cache.read_latent(layer.c_kv(latent), layer.k_rope(latent));
    for (Index begin = 0; begin < num_heads; begin += most) {
      const Index count = std::min(most, num_heads - begin);
      options.executor.parallel_for(count, [&](Index head) {
        const RowsView<const T> c_kv = layer.c_kv(latent);
        layer.key_up(begin + head).apply(c_kv, key.head(head).middle_cols(0, shape().nope_dim));
        layer.value_up(begin + head).apply(c_kv, value.head(head));
        for (Index row = 0; row < seqlen; ++row)
          std::copy_n(layer.k_rope(latent).row(row), shape().rope_dim,
                      key.row(head, row) + shape().nope_dim);
      });
      const MatrixSource<T> source(key.middle_heads(0, count), value.middle_heads(0, count),
                                   dropped_keys(cache));
      attend_heads<T>(query.middle_heads(begin, count), source, mask, score,
                      heads.middle_heads(begin, count), attend_options(),
                      {.first = begin, .num_heads = num_heads});
    }
  }
};

}  // namespace detail
}  // namespace heed
