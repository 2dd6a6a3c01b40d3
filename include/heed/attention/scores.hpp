// SPDX-License-Identifier: MIT
/// \file
/// The scores of a page, of whatever elements its keys are. Layer 5, detail.
///
/// | keys                            | score                                                      |
/// | ------------------------------- | ---------------------------------------------------------- |
/// | not scaled                      | query . key, the query rounded as the key is if native     |
/// | a scale per token               | (query . codes) * scale                                    |
/// | a scale and offset per channel  | (query * scales) . codes + query . offsets                 |
/// | a latent with a scale, and rope | (query . codes) * scale + query of rope . rope             |
#pragma once

#include <algorithm>

#include "heed/attention/tile.hpp"
#include "heed/simd/code_product.hpp"
#include "heed/softmax/scaled_softmax.hpp"  // VectorRange

namespace heed::detail {

/// row[key] *= scales[key] in every row: how scaled elements come to their size.
template <class T>
void scale_columns(RowsView<T> rows, const float* scales, VectorRange vectors) {
  constexpr Index n = simd::lanes<T>;
  for (Index v = vectors.begin; v < vectors.end; ++v) {
    const auto scale = simd::load_as<T>(scales + v * n);
    for (Index r = 0; r < rows.rows; ++r)
      simd::store(rows.row(r) + v * n, simd::mul(simd::load(rows.row(r) + v * n), scale));
  }
}

/// row[key] += what, in one row.
template <class T>
void add_to_all(T* row, VectorRange vectors, T what) {
  constexpr Index n = simd::lanes<T>;
  for (Index v = vectors.begin; v < vectors.end; ++v)
    simd::store(row + v * n, simd::add(simd::load(row + v * n), simd::broadcast(what)));
}

/// Works the scales of a page's channels into `Rows` rows of queries: to [Rows, head_dim], and what
/// the offsets add to the scores to offset [Rows, page_size], whose first column it takes.
template <int Rows, class T, class Element>
void scale_queries(RowsView<const T> query, const PageView<Element>& page, RowsView<T> to,
                   RowsView<T> offset) {
  constexpr Index n = simd::lanes<T>;
  simd::Packet<T> sum[Rows];
  for (auto& s : sum) s = simd::broadcast(T{0});
  const Index whole = query.cols / n * n;
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
    for (Index c = whole; c < query.cols; ++c) {
      rest += query(r, c) * static_cast<T>(page.channel_offsets[c]);
      to(r, c) = query(r, c) * static_cast<T>(page.channel_scales[c]);
    }
    offset(r, 0) = rest;
  }
}

/// scores = query . keys, by the product that fits the layout of the keys and what factors are.
template <class T, class Source, class Element>
void multiply_keys(const TileScratch<T, Source>& scratch,
                   RowsView<const typename TileScratch<T, Source>::Factor> query,
                   [[maybe_unused]] Index first_row, RowsView<const Element> keys,
                   RowsView<T> scores, const Element* ahead) {
  using Factor = typename TileScratch<T, Source>::Factor;
  constexpr bool transposed = Source::key_layout == KeyLayout::transposed;
  if constexpr (TileScratch<T, Source>::is_coded) {
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

/// Query . key, for some rows of a tile and the tokens in `vectors`. Fills scratch.scores.
template <class Problem, class T, class Source, class Element>
void compute_scores(const Problem& problem, RowRange rows, const CurrentPage<Element>& page,
                    VectorRange vectors, const TileScratch<T, Source>& scratch) {
  constexpr Index n = simd::lanes<T>;
  using Factor = typename TileScratch<T, Source>::Factor;
  const PageView<Element>& view = page.view;
  const Index first = vectors.begin * n, width = (vectors.end - vectors.begin) * n;
  const RowsView<const Factor> query(scratch.query + rows.begin * scratch.query_stride,
                                     rows.end - rows.begin, scratch.query_stride);
  const RowsView<T> all_scores(scratch.scores + rows.begin * page_size, query.rows, page_size);
  const RowsView<T> scores = all_scores.middle_cols(first, width);
  if constexpr (Source::key_layout == KeyLayout::transposed) {
    const Index head_dim = problem.source->head_dim();
    constexpr Index step = simd::DepthStep<T, Factor>::rows;
    const RowsView<const Factor> head = query.middle_cols(0, round_up(head_dim, step));
    const RowsView<const Element> keys(view.keys + first, head_dim, width, view.key_stride);
    if constexpr (has_scales<Element> && !IsNative<Source>) {
      if (view.channel_scales != nullptr) {
        const RowsView<T> scaled(scratch.scaled_query + rows.begin * scratch.query_stride,
                                 head.rows, head.cols, scratch.query_stride);
        const RowsView<T> offset(scratch.more_scores + rows.begin * page_size, head.rows,
                                 page_size);
        for (Index r = 0; r < head.rows; r += simd::max_tile_rows) {
          const Index some = std::min<Index>(simd::max_tile_rows, head.rows - r);
          simd::with_constant<simd::max_tile_rows>(static_cast<int>(some), [&](auto fixed) {
            scale_queries<decltype(fixed)::value>(head.middle_rows(r, some), view,
                                                  scaled.middle_rows(r, some),
                                                  offset.middle_rows(r, some));
          });
        }
        simd::product<T, Element, T>(scaled, keys, scores, page.after_keys);
        for (Index r = 0; r < head.rows; ++r) add_to_all(all_scores.row(r), vectors, offset(r, 0));
        return;
      }
    }
    multiply_keys(scratch, head, rows.begin, keys, scores, page.after_keys);
  } else {
    const Index depth =
        has_rope_apart<Source> ? simd::padded(problem.source->head_dim_v()) : query.cols;
    multiply_keys(
        scratch, query.middle_cols(0, depth), rows.begin,
        RowsView<const Element>(view.keys + first * view.key_stride, width, depth, view.key_stride),
        scores, page.after_keys);
  }
  if constexpr (has_scales<Element>) scale_columns(all_scores, view.key_scales, vectors);
  if constexpr (has_rope_apart<Source>) {
    if (view.rope_stride == 0) return;
    using RopeFactor = typename TileScratch<T, Source>::RopeFactor;
    const RowsView<T> rope_scores(scratch.more_scores + rows.begin * page_size, query.rows,
                                  page_size);
    simd::dot_product<T, bf16, RopeFactor>(
        {scratch.rope_query + rows.begin * scratch.rope_stride, query.rows, scratch.rope_stride,
         scratch.rope_stride},
        {view.rope_keys + first * view.rope_stride, width, view.rope_stride, view.rope_stride},
        rope_scores.middle_cols(first, width));
    for (Index r = 0; r < query.rows; ++r)
      for (Index v = vectors.begin; v < vectors.end; ++v)
        simd::store(all_scores.row(r) + v * n, simd::add(simd::load(all_scores.row(r) + v * n),
                                                         simd::load(rope_scores.row(r) + v * n)));
  }
}

}  // namespace heed::detail
