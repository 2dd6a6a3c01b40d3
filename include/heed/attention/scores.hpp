// SPDX-License-Identifier: MIT
/// \file
/// The scores of a page, of whatever elements its keys are. Layer 5, detail.
///
/// | keys                            | score                                                      |
/// | ------------------------------- | ---------------------------------------------------------- |
/// | not scaled                      | query . key, the query rounded to bf16 if native           |
/// | a scale per token               | (query . codes) * scale                                    |
/// | a scale and offset per channel  | (query * scales) . codes + query . offsets                 |
/// | a latent with a scale, and rope | (query . codes) * scale + query of rope . rope             |
#pragma once

#include <algorithm>

#include "heed/attention/tile.hpp"
#include "heed/simd/code_product.hpp"
#include "heed/simd/row_product.hpp"
#include "heed/simd/with_constant.hpp"
#include "heed/softmax/scaled_softmax.hpp"  // VectorRange

namespace heed::detail {

/// Column c of all rows times scales[c]: how scaled elements come to their size.
template <class T>
void scale_columns(RowsView<T> rows, const float* scales) {
  for (Index c = 0; c < rows.cols; c += simd::lanes<T>) {
    const auto scale = simd::load_as<T>(scales + c);
    for (Index r = 0; r < rows.rows; ++r)
      simd::store(rows.row(r) + c, simd::mul(simd::load(rows.row(r) + c), scale));
  }
}

/// rows[r, c] += what[r, 0].
template <class T>
void add_to_rows(RowsView<T> rows, RowsView<const T> what) {
  for (Index r = 0; r < rows.rows; ++r) {
    const auto added = simd::broadcast(what(r, 0));
    for (Index c = 0; c < rows.cols; c += simd::lanes<T>)
      simd::store(rows.row(r) + c, simd::add(simd::load(rows.row(r) + c), added));
  }
}

/// Works the scales of a page's channels into `Rows` rows of queries from `first` on: fills
/// scratch.scaled_query, and the first column of scratch.more_scores with what the offsets add.
template <int Rows, class T, class Source, class Element>
void scale_query_rows(const TileScratch<T, Source>& scratch, Index first, Index head_dim,
                      const PageView<Element>& page) {
  constexpr Index n = simd::lanes<T>;
  const T* const plain = scratch.plain_query + first * scratch.query_stride;
  const RowsView<const T> query(plain, Rows, scratch.query_stride);
  const RowsView<T> to = scratch.scaled_query_rows({first, first + Rows});
  simd::Packet<T> sum[Rows];
  for (auto& s : sum) s = simd::broadcast(T{0});
  const Index whole = head_dim / n * n;
  for (Index c = 0; c < whole; c += n) {
    const auto scales = simd::load_as<T>(page.channel_scales + c);
    const auto offsets = simd::load_as<T>(page.channel_offsets + c);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const auto q = simd::load(query.row(r) + c);
      sum[r] = simd::mul_add(q, offsets, sum[r]);
      simd::store(to.row(r) + c, simd::mul(q, scales));
    }
  }
  for (int r = 0; r < Rows; ++r) {
    T rest = simd::sum_lanes(sum[r]);
    for (Index c = whole; c < head_dim; ++c) {
      rest += query(r, c) * static_cast<T>(page.channel_offsets[c]);
      to(r, c) = query(r, c) * static_cast<T>(page.channel_scales[c]);
    }
    scratch.more_scores[(first + r) * page_size] = rest;
  }
}
/// The same for any number of rows. Inlined, like its caller: a page of a single row is short work.
template <class T, class Source, class Element>
[[gnu::always_inline]] inline void scale_queries(const TileScratch<T, Source>& scratch,
                                                 RowRange rows, Index head_dim,
                                                 const PageView<Element>& page) {
  constexpr int most = simd::max_tile_rows;
  for (Index r = rows.begin; r < rows.end; r += most)
    simd::with_constant<most>(
        static_cast<int>(std::min<Index>(most, rows.end - r)),
        [&](auto some) { scale_query_rows<decltype(some)::value>(scratch, r, head_dim, page); });
}

/// scores = query . keys, by the product that fits the layout of the keys and what factors are.
template <class T, class Source, class Element>
void multiply_keys(const TileScratch<T, Source>& scratch,
                   RowsView<const QueryFactorFor<T, Source, Element>> query,
                   [[maybe_unused]] Index first_row, RowsView<const Element> keys,
                   RowsView<T> scores, const Element* ahead) {
  using Factor = QueryFactorFor<T, Source, Element>;
  constexpr bool transposed = Source::key_layout == KeyLayout::transposed;
  if constexpr (simd::is_split_code<Factor>) {
    const simd::CodeRow* const units = scratch.query_units + first_row;
    if constexpr (transposed)
      simd::product(query, units, keys, scores, ahead);
    else
      simd::dot_product(query, units, keys, scores);
  } else if constexpr (transposed) {
    simd::product<T, Element, Factor>(query, keys, scores, ahead);
  } else {
    simd::dot_product<T, Element, Factor>(query, keys, scores);
  }
}

/// Those of transposed keys. \param scores  [rows, tokens in `vectors`], overwritten
template <class Problem, class T, class Source, class Element>
[[gnu::always_inline]] inline void multiply_transposed(const Problem& problem, RowRange rows,
                                                       const CurrentPage<Element>& page,
                                                       VectorRange vectors,
                                                       const TileScratch<T, Source>& scratch,
                                                       RowsView<T> scores) {
  using Factor = QueryFactorFor<T, Source, Element>;
  const Index head_dim = problem.source->head_dim();
  const RowsView<const Factor> query = scratch.template query_rows<Element>(rows).middle_cols(
      0, round_up(head_dim, simd::DepthStep<T, Factor>::rows));
  const RowsView<const Element> keys(page.view.keys + vectors.begin * simd::lanes<T>,
                                     ceil_div(head_dim, rows_per_element<Element>), scores.cols,
                                     page.view.key_stride);
  // (The page that is being filled has none.)
  if constexpr (has_scales<Element> && TileScratch<T, Source>::scales_queries) {
    scale_queries(scratch, rows, head_dim, page.view);
    if constexpr (TileScratch<T, Source>::is_coded) {
      for (Index r = rows.begin; r < rows.end; ++r)
        scratch.encode_query(scratch.scaled_query + r * scratch.query_stride, r, head_dim);
      multiply_keys(scratch, query, rows.begin, keys, scores, page.after_keys);
    } else {
      simd::product<T, Element, T>(scratch.scaled_query_rows(rows).middle_cols(0, head_dim), keys,
                                   scores, page.after_keys);
    }
    add_to_rows<T>(scores, scratch.more_score_rows(rows));
  } else {
    multiply_keys(scratch, query, rows.begin, keys, scores, page.after_keys);
  }
}

/// Keys and values of more bytes come from memory, not from a cache.
inline constexpr Index most_cached_bytes = Index{32} << 20;

/// Those of keys that lie in rows where pages have them transposed. Rows of a head are short and
/// far apart, which is no stream to the processor: values are fetched while the keys of their
/// tokens are multiplied, if they come from memory. From a cache that would take longer.
template <class Problem, class T, class Source>
void multiply_in_rows(const Problem& problem, RowRange rows, const CurrentPage<T>& page,
                      VectorRange vectors, const TileScratch<T, Source>& scratch,
                      RowsView<T> scores) {
  const Source& source = *problem.source;
  const PageView<T>& view = page.view;
  const Index first = vectors.begin * simd::lanes<T>, width = source.head_dim();
  const Index tokens = std::min(scores.cols, source.seqlen() - page.begin - first);
  const Index bytes = source.num_kv_heads() * source.seqlen() * (width + source.head_dim_v()) *
                      static_cast<Index>(sizeof(T));
  const RowsView<const T> values(view.values + first * view.value_stride, tokens,
                                 bytes > most_cached_bytes ? source.head_dim_v() : 0,
                                 view.value_stride);
  simd::row_product<T>(scratch.template query_rows<T>(rows).middle_cols(0, width),
                       {view.keys + first * view.key_stride, tokens, width, view.key_stride},
                       scores, values);
}

/// Those of row-major keys, without the rope part if that is apart.
template <class Problem, class T, class Source, class Element>
void multiply_row_major(const Problem& problem, RowRange rows, const CurrentPage<Element>& page,
                        VectorRange vectors, const TileScratch<T, Source>& scratch,
                        RowsView<T> scores) {
  const auto all = scratch.template query_rows<Element>(rows);
  const Index depth =
      has_rope_apart<Source> ? simd::padded(problem.source->head_dim_v()) : all.cols;
  const Index stride = page.view.key_stride;
  constexpr Index shared = rows_per_element<Element>;
  const Index first = vectors.begin * simd::lanes<T>;
  const RowsView<const Element> keys(page.view.keys + first / shared * stride, scores.cols / shared,
                                     depth, stride);
  multiply_keys(scratch, all.middle_cols(0, depth), rows.begin, keys, scores, page.after_keys);
}

/// scores += those of the rope part of latents that have it apart.
template <class T, class Source, class Element>
void add_rope_scores(RowRange rows, const PageView<Element>& page, VectorRange vectors,
                     const TileScratch<T, Source>& scratch, RowsView<T> scores) {
  constexpr Index n = simd::lanes<T>;
  if (page.rope_stride == 0) return;
  using RopeFactor = typename TileScratch<T, Source>::RopeFactor;
  const Index first = vectors.begin * n;
  const RowsView<T> more = scratch.more_score_rows(rows).middle_cols(first, scores.cols);
  simd::dot_product<T, bf16, RopeFactor>(
      scratch.rope_query_rows(rows),
      {page.rope_keys + first * page.rope_stride, scores.cols, page.rope_stride, page.rope_stride},
      more);
  for (Index r = 0; r < scores.rows; ++r)
    for (Index c = 0; c < scores.cols; c += n)
      simd::store(scores.row(r) + c,
                  simd::add(simd::load(scores.row(r) + c), simd::load(more.row(r) + c)));
}

/// Query . key, for some rows of a tile and the tokens in `vectors`. Fills scratch.scores.
template <class Problem, class T, class Source, class Element>
void compute_scores(const Problem& problem, RowRange rows, const CurrentPage<Element>& page,
                    VectorRange vectors, const TileScratch<T, Source>& scratch) {
  constexpr Index n = simd::lanes<T>;
  const RowsView<T> scores =
      scratch.score_rows(rows).middle_cols(vectors.begin * n, (vectors.end - vectors.begin) * n);
  if constexpr (HasPagesInRows<Source>)
    if (page.keys == KeyLayout::row_major)
      return multiply_in_rows(problem, rows, page, vectors, scratch, scores);
  if constexpr (Source::key_layout == KeyLayout::transposed)
    multiply_transposed(problem, rows, page, vectors, scratch, scores);
  else
    multiply_row_major(problem, rows, page, vectors, scratch, scores);
  if constexpr (has_scales<Element> && !TileScratch<T, Source>::scales_queries)
    scale_columns(scores, page.view.key_scales + vectors.begin * n);
  if constexpr (has_rope_apart<Source>) add_rope_scores(rows, page.view, vectors, scratch, scores);
}

}  // namespace heed::detail
