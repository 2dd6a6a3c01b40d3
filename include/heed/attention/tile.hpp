// SPDX-License-Identifier: MIT
/// \file
/// A tile of query rows that share their keys: what it reads, keeps and writes. Layer 5, detail.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <type_traits>

#include "heed/attention/partial.hpp"
#include "heed/attention/problem.hpp"
#include "heed/simd/factors.hpp"
#include "heed/simd/split_code.hpp"
#include "heed/simd/walsh_hadamard.hpp"

namespace heed::detail {

/// No tile has more rows. A multiple of the register tile.
inline constexpr Index max_rows_per_tile = 16 * simd::max_tile_rows;

/// Rows [begin, begin + count) of those that share a key/value head.
struct Tile {
  Index kv_head;
  Index begin;
  Index count;
};

/// Rows [begin, end) of a tile.
struct RowRange {
  Index begin;
  Index end;
};

/// How the values of a page are.
enum class ValuesAre { finite, some_not_finite };

/// A page on its way through the kernel.
template <class Element>
struct CurrentPage {
  PageView<Element> view;
  const Element* after_keys;    ///< to be fetched from memory while its keys are read, or null
  const Element* after_values;  ///< likewise while its values are
  Index begin;                  ///< its first key
  ValuesAre values;             ///< a NaN or inf must not reach rows that do not see it
  KeyLayout keys;               ///< the source's, but for few rows row_major if HasPagesInRows
};

/// What queries (of codes, Code is int8) and probabilities (std::uint8_t) are kept as, which pages
/// are multiplied by.
template <class T, class Source, class Code>
using Factor = std::conditional_t<
    has_scales<typename Source::Element>,
    simd::CodeFactor<IsNative<Source> ? simd::native_codes : simd::exact_codes, Code>,
    std::conditional_t<IsNative<Source>, simd::RoundedFactor, T>>;
/// Likewise for a page of `Element`: the one that is being filled is in T, whatever the others are.
template <class T, class Usual, class Element>
using FactorFor = std::conditional_t<simd::is_split_code<Usual> && !has_scales<Element>, T, Usual>;
template <class T, class Source, class Element>
using QueryFactorFor = FactorFor<T, Factor<T, Source, int8>, Element>;
template <class T, class Source, class Element>
using ProbFactorFor = FactorFor<T, Factor<T, Source, std::uint8_t>, Element>;

/// How wide a tile's rows of queries are: the head, or the latent if the rest is apart, filled up
/// to what a row of factors is made of.
template <class Source, class Factor>
Index query_width(Index head_dim, Index head_dim_v) {
  const Index width = has_rope_apart<Source> ? head_dim_v : head_dim;
  if constexpr (simd::is_split_code<Factor>)
    return round_up(width, Factor::block);
  else
    return simd::padded(width);
}

/// A task's working memory, carved from one borrowed block.
template <class T, class Source>
struct TileScratch {
  using Element = typename Source::Element;
  using Factor = detail::Factor<T, Source, int8>;
  using ProbFactor = detail::Factor<T, Source, std::uint8_t>;
  /// Of the rope part of latents that have it apart.
  using RopeFactor = std::conditional_t<IsNative<Source>, simd::RoundedFactor, T>;
  static constexpr bool is_coded = simd::is_split_code<Factor>;
  /// Whether keys come with scales that have to be worked into a copy of the queries.
  static constexpr bool scales_queries = HasChannelScales<Source>;
  /// Whether a score may be a sum of two.
  static constexpr bool adds_scores = scales_queries || has_rope_apart<Source>;

  Factor* query;               // [rows, query_stride]
  RopeFactor* rope_query;      // [rows, rope_stride]
  simd::CodeRow* query_units;  // [rows], if is_coded
  simd::CodeRow* prob_units;   // likewise
  T* plain_query;     // [rows, query_stride]: if is_coded, what query has codes of; query itself
                      // if that is of T; else nothing
  T* scaled_query;    // [rows, query_stride], if scales_queries
  T* more_scores;     // [rows, page_size], if adds_scores: of rope, or what offsets add
  T* scores;          // [rows, page_size]
  ProbFactor* probs;  // [rows, page_size]: in place of the scores, unless they are of another
                      // type
  std::uint64_t* visible;  // [rows]
  Element* page;           // what the source needs to pack one
  Index query_stride;
  Index rope_stride;   // 0 unless the rope part is apart
  Partial<T> partial;  // of one key split
  Partial<T> total;    // of all splits so far

  static std::size_t bytes(Index rows, Index head_dim, Index head_dim_v, Index page_scratch) {
    return TileScratch().carve(nullptr, rows, head_dim, head_dim_v, page_scratch);
  }
  TileScratch(std::byte* memory, Index rows, Index head_dim, Index head_dim_v, Index page_scratch) {
    carve(memory, rows, head_dim, head_dim_v, page_scratch);
  }

  // Some rows of these, as views.
  template <class E>
  RowsView<const QueryFactorFor<T, Source, E>> query_rows(RowRange rows) const {
    const QueryFactorFor<T, Source, E>* first;
    if constexpr (std::same_as<QueryFactorFor<T, Source, E>, Factor>)
      first = query;
    else
      first = plain_query;
    return {first + rows.begin * query_stride, rows.end - rows.begin, query_stride};
  }
  RowsView<const RopeFactor> rope_query_rows(RowRange rows) const {
    return {rope_query + rows.begin * rope_stride, rows.end - rows.begin, rope_stride};
  }
  RowsView<T> scaled_query_rows(RowRange rows) const {
    return {scaled_query + rows.begin * query_stride, rows.end - rows.begin, query_stride};
  }
  RowsView<T> more_score_rows(RowRange rows) const {
    return {more_scores + rows.begin * page_size, rows.end - rows.begin, page_size};
  }
  RowsView<T> score_rows(RowRange rows) const {
    return {scores + rows.begin * page_size, rows.end - rows.begin, page_size};
  }
  template <class E>
  RowsView<const ProbFactorFor<T, Source, E>> prob_rows(RowRange rows) const {
    return {probs_of<E>(rows.begin), rows.end - rows.begin, page_size};
  }
  /// Those of a row.
  template <class E>
  ProbFactorFor<T, Source, E>* probs_of(Index row) const {
    if constexpr (std::same_as<ProbFactorFor<T, Source, E>, ProbFactor>)
      return probs + row * page_size;
    else
      return scores + row * page_size;
  }
  RowsView<T> sum_rows(RowRange rows) const {
    return {partial.sum + rows.begin * partial.stride, rows.end - rows.begin, partial.stride};
  }

  /// Keeps the first `width` numbers of a row as its query's codes.
  void encode_query(const T* numbers, Index row, Index width) const
    requires is_coded
  {
    query_units[row] = simd::encode(numbers, 0, width, query + row * query_stride, query_stride);
  }

  /// The same memory without that of the rows before `row`.
  TileScratch from_row(Index row) const {
    TileScratch rest = *this;
    rest.query += row * query_stride, rest.rope_query += row * rope_stride;
    if constexpr (is_coded) rest.query_units += row, rest.prob_units += row;
    if constexpr (is_coded || std::same_as<Factor, T>) rest.plain_query += row * query_stride;
    if constexpr (scales_queries) rest.scaled_query += row * query_stride;
    if constexpr (adds_scores) rest.more_scores += row * page_size;
    rest.scores += row * page_size, rest.probs += row * page_size;
    rest.visible += row;
    rest.partial = partial.from_row(row), rest.total = total.from_row(row);
    return rest;
  }

 private:
  TileScratch() = default;

  /// Lays the parts out one after another on cache lines and returns the size of all.
  std::size_t carve(std::byte* memory, Index rows, Index head_dim, Index head_dim_v,
                    Index page_scratch) {
    std::size_t used = 0;
    const auto part = [&]<class X>(X*& to, Index count) {
      to = memory == nullptr ? nullptr : reinterpret_cast<X*>(memory + used);
      used += aligned_bytes(static_cast<std::size_t>(count) * sizeof(X));
    };
    const Index coded_rows = is_coded ? rows : 0, scaled_rows = scales_queries ? rows : 0;
    query_stride = query_width<Source, Factor>(head_dim, head_dim_v);
    rope_stride = has_rope_apart<Source> ? simd::padded(head_dim - head_dim_v) : 0;
    part(query, rows * query_stride);
    part(rope_query, rows * rope_stride);
    part(query_units, coded_rows);
    part(prob_units, coded_rows);
    if constexpr (std::same_as<Factor, T>)
      plain_query = query;
    else
      part(plain_query, coded_rows * query_stride);
    part(scaled_query, scaled_rows * query_stride);
    part(more_scores, adds_scores ? rows * page_size : 0);
    part(scores, rows * page_size);
    if constexpr (std::same_as<Factor, T>)
      probs = scores;
    else
      part(probs, rows * page_size);
    part(visible, rows);
    part(page, page_scratch);
    for (Partial<T>* p : {&partial, &total}) {
      p->stride = simd::padded(head_dim_v);
      part(p->state, rows);
      part(p->sum, rows * p->stride);
    }
    return used;
  }
};

/// Copies the tile's query rows side by side as factors, scaled unless native, zeros behind each
/// piece, through the Walsh-Hadamard transform if the keys went through it.
template <class T, class Source, class Mask>
void load_queries(const Problem<T, Source, Mask>& problem, const Tile& tile,
                  const TileScratch<T, Source>& scratch) {
  using Scratch = TileScratch<T, Source>;
  const Index latent = problem.source->head_dim_v(), cols = problem.query.cols;
  const Index first = has_rope_apart<Source> ? latent : cols;
  for (Index r = 0; r < tile.count; ++r) {
    const Index row = tile.begin + r;
    const T* const from = problem.query.row(problem.head(tile.kv_head, row), problem.position(row));
    auto* const to = scratch.query + r * scratch.query_stride;
    if constexpr (Scratch::is_coded) {
      T* const plain = scratch.plain_query + r * scratch.query_stride;
      simd::copy_scaled(from, first, problem.query_scale, plain);
      if constexpr (IsRotated<Source>) simd::rotate_hadamard(plain, first);
      // Pages with scales per channel do so anew, each for itself.
      if constexpr (!Scratch::scales_queries) scratch.encode_query(plain, r, first);
    } else {
      if constexpr (IsNative<Source> && std::same_as<typename Source::Element, bf16>)
        simd::round_factors(from, first, to);
      else
        simd::copy_scaled(from, first, problem.query_scale, to);
      std::fill(to + first, to + scratch.query_stride, typename Scratch::Factor(0));
      if constexpr (IsRotated<Source>) simd::rotate_hadamard(to, first);
    }
    if constexpr (has_rope_apart<Source>) {
      auto* const rope = scratch.rope_query + r * scratch.rope_stride;
      if constexpr (IsNative<Source>)
        simd::round_factors(from + latent, cols - latent, rope);
      else
        simd::copy_scaled(from + latent, cols - latent, problem.query_scale, rope);
      std::fill(rope + cols - latent, rope + scratch.rope_stride, typename Scratch::RopeFactor(0));
    }
  }
}

/// Divides by the sum, the sink's share included, and writes the tile's rows of out and lse.
template <class T, class Source, class Mask>
void finish(const Problem<T, Source, Mask>& problem, const Tile& tile, const Partial<T>& total) {
  const Index width = problem.source->head_dim_v();
  for (Index r = 0; r < tile.count; ++r) {
    const SoftmaxState<T>& state = total.state[r];
    const Index head = problem.head(tile.kv_head, tile.begin + r);
    const Index q_row = problem.position(tile.begin + r);
    SoftmaxState<T> denominator = state;
    T factor = 1;
    if (!problem.sinks.empty())
      factor = denominator.merge(SoftmaxState<T>::of(problem.sinks[static_cast<std::size_t>(head)]))
                   .self;
    const T* const sum = total.sum + r * total.stride;
    T* const out = problem.out.row(head, q_row);
    const T weight = factor / denominator.row_sum;
    if (state.empty())
      std::fill_n(out, width, T{0});
    else
      simd::copy_scaled(sum, width, weight, out);
    if constexpr (IsRotated<Source>) simd::rotate_hadamard(out, width);
    if (problem.lse) (*problem.lse)(head, q_row) = state.lse();
  }
}

}  // namespace heed::detail
