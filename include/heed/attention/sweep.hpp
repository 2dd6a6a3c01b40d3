// SPDX-License-Identifier: MIT
/// \file
/// The kernel: a tile of query rows sweeps over the pages of its keys. Layer 5, detail.
#pragma once

#include <bit>
#include <cmath>
#include <optional>

#include "heed/attention/scores.hpp"
#include "heed/attention/visibility.hpp"
#include "heed/softmax/scaled_softmax.hpp"

namespace heed::detail {

/// Looks at the values of the keys that are seen at all. Only finite ones may be multiplied by the
/// probability of 0 that a hidden key has.
template <class T, class Element>
ValuesAre inspect_values(const PageView<Element>& page, const PageVisibility& seen, Index width) {
  const StripsView<const Element> values = page.value_rows(seen.last(), width);
  const auto zero = simd::broadcast(T{0});
  auto sum = zero;
  for (Index key = seen.first(); key < seen.last(); ++key) {
    auto row_sum = zero;  // a chain of its own, so that rows overlap
    for (Index c = 0; c < width; c += simd::lanes<T>)
      row_sum = simd::mul_add(simd::load_as<T>(values.at(key, c)), zero, row_sum);
    sum = simd::add(sum, row_sum);
  }
  return std::isnan(simd::sum_lanes(sum)) ? ValuesAre::some_not_finite : ValuesAre::finite;
}

/// partial += probabilities . values, touching no key that the row does not see.
/// The same operations in the same order as the product, so the same bits.
template <class T, class Source, class Element>
void add_visible_values(const TileScratch<T, Source>& scratch, const PageView<Element>& page,
                        RowRange rows, Index width) {
  using Step = simd::DepthStep<T, ProbFactorFor<T, Source, Element>>;
  static const Element zeros[simd::lanes<T>]{};
  const StripsView<const Element> values = page.value_rows(page_size, width);
  for (Index r = rows.begin; r < rows.end; ++r)
    for (Index c = 0; c < width; c += simd::lanes<T>) {
      T* const to = scratch.partial.sum + r * scratch.partial.stride + c;
      auto sum = Step::zero();
      for (std::uint64_t bits = scratch.visible[r]; bits != 0;) {
        const Index key = std::countr_zero(bits) / Step::rows * Step::rows;
        const Element* row[Step::rows];
        for (Index i = 0; i < Step::rows; ++i) {
          const std::uint64_t bit = std::uint64_t{1} << (key + i);
          row[i] = (bits & bit) != 0 ? values.at(key + i, c) : zeros;
          bits &= ~bit;
        }
        typename Step::Operand columns[1];
        Step::columns(row, columns);
        sum = Step::mul_add(Step::factor(scratch.template probs_of<Element>(r), key), columns[0],
                            sum);
      }
      simd::store(to, simd::add(simd::load(to), sum));
    }
}

/// Whether probabilities are kept in fewer digits than they are computed in. Codes have a unit for
/// each row and the digits of float.
template <class T, class Factor>
inline constexpr bool is_rounded = !simd::is_split_code<Factor> && !std::same_as<T, Factor>;

/// The softmax's last part for a row: its probabilities, times the values' scales, as factors.
template <class T, class Source, class Element>
[[gnu::always_inline]] inline void take_probs(const TileScratch<T, Source>& scratch,
                                              const PageView<Element>& page, Index row,
                                              VectorRange vectors) {
  using Factor = ProbFactorFor<T, Source, Element>;
  constexpr bool is_coded = simd::is_split_code<Factor>;
  T* const scores = scratch.scores + row * page_size;
  Factor* const probs = scratch.template probs_of<Element>(row);
  const auto keep = [&](Index key, simd::Packet<T> prob) {
    if constexpr (has_scales<Element>)
      prob = simd::mul(prob, simd::load_as<T>(page.value_scales + key));
    if constexpr (is_rounded<T, Factor>)
      simd::store_rounded(probs + key, prob);
    else
      simd::store(scores + key, prob);
  };
  exponentiate(scores, vectors, scratch.partial.state[row], keep);
  if constexpr (is_coded) {
    const Index begin = vectors.begin * simd::lanes<T>, end = vectors.end * simd::lanes<T>;
    scratch.prob_units[row] = simd::encode(scores, begin, end, probs, page_size);
  }
}

/// partial += probabilities . values.
template <class Problem, class T, class Source, class Element>
void add_values(const Problem& problem, const TileScratch<T, Source>& scratch,
                const CurrentPage<Element>& page, RowRange rows, const PageVisibility& seen) {
  constexpr Index n = simd::lanes<T>;
  using Factor = ProbFactorFor<T, Source, Element>;
  const Index head_dim_v = problem.source->head_dim_v();
  if constexpr (!has_scales<Element>)
    if (seen.edge() && page.values == ValuesAre::some_not_finite)
      return add_visible_values(scratch, page.view, rows, head_dim_v);
  // Whole steps up to the last key that anyone sees.
  constexpr Index step = simd::DepthStep<T, Factor>::rows;
  const Index keys = round_up(seen.last(), step);
  const Index width = round_up(head_dim_v, n);
  const RowsView<const Factor> probs =
      scratch.template prob_rows<Element>(rows).middle_cols(0, keys);
  const StripsView<const Element> values = page.view.value_rows(seen.last(), width);
  const RowsView<T> sum = scratch.sum_rows(rows).middle_cols(0, width);
  if constexpr (simd::is_split_code<Factor>)
    simd::add_product(probs, scratch.prob_units + rows.begin, values, sum, seen.first(),
                      page.after_values);
  else
    simd::add_product<T, Element, Factor>(probs, values, sum, seen.first(), page.after_values);
}

/// Some rows of a tile attend to a page: scores, softmax step, values.
/// \param seen  what these rows see of it; scratch.visible says it row by row
template <class Problem, class T, class Source, class Score, class Element>
void attend_page(const Problem& problem, const Score& score, const Tile& tile, RowRange rows,
                 const CurrentPage<Element>& page, const PageVisibility& seen,
                 const TileScratch<T, Source>& scratch) {
  constexpr Index n = simd::lanes<T>;
  // Rounding spares a probability of 1, which the largest has if the maximum follows at once.
  constexpr int most_above =
      is_rounded<T, ProbFactorFor<T, Source, Element>> ? 0 : most_above_row_max;
  const PageView<Element>& view = page.view;
  // Whole vectors around the keys that anyone sees; a full page is the usual case.
  const VectorRange vectors{seen.first() / n, ceil_div(seen.last(), n)};
  compute_scores(problem, rows, page, vectors, scratch);
  // A row that sees the whole page gets a branch of its own, in which the compiler knows it.
  const auto either_way = [&](Index r, const auto& f) __attribute__((always_inline)) {
    if (scratch.visible[r] == all_visible)
      f(VectorRange{0, page_size / n}, all_visible);
    else
      f(vectors, scratch.visible[r]);
  };
  for (Index r = rows.begin; r < rows.end; ++r) {
    const Index row = tile.begin + r;
    const ScoreSite site{problem.layer_head(tile.kv_head, row), problem.position(row), page.begin,
                         problem.extent_of(row)};
    either_way(r, [&](VectorRange range, std::uint64_t visible) __attribute__((always_inline)) {
      const T factor = raise_row_max(scratch.scores + r * page_size, range, visible, score, site,
                                     most_above, scratch.partial.state[r]);
      if (factor != 1) [[unlikely]]
        scratch.partial.rescale(r, factor);
    });
  }
  for (Index r = rows.begin; r < rows.end; ++r)
    either_way(r, [&](VectorRange range, std::uint64_t)
                      __attribute__((always_inline)) { take_probs(scratch, view, r, range); });
  add_values(problem, scratch, page, rows, seen);
}

/// Rows that are taken through a page together. With 16 registers a strip of the page is narrow,
/// and all rows pass by each: as many as stay in the L1 cache beside it.
inline constexpr Index rows_at_once = (simd::num_registers < 32 ? 8 : 16) * simd::max_tile_rows;

/// A tile attends to a page of which it sees something.
template <class Problem, class T, class Source, class Score, class Element>
void sweep_page(const Problem& problem, const Score& score, const Tile& tile,
                CurrentPage<Element> page, const PageVisibility& seen,
                const TileScratch<T, Source>& scratch) {
  if constexpr (!has_scales<Element>)  // codes are finite
    if (seen.edge()) page.values = inspect_values<T>(page.view, seen, problem.source->head_dim_v());
  for_rows_alike(tile, seen, scratch.visible, rows_at_once,
                 [&](RowRange rows, const PageVisibility& part) {
                   attend_page(problem, score, tile, rows, page, part, scratch);
                 });
}

/// A tile of no more rows is done with a page before the next one could be fetched: the fewer bytes
/// an element has, the sooner it comes. Measured (docs/decisions.md).
template <class Element>
inline constexpr Index rows_done_before_fetch = sizeof(Element);

/// What is fetched from memory while a page is read. \param next  the page after it, if there is
/// one
template <class Source, class Element>
void fetch_ahead(const Source& source, const Tile& tile, std::optional<Index> next,
                 CurrentPage<Element>& page) {
  using T = ComputeType<Element>;
  if constexpr (HasOpenPage<Source>)
    if (next == source.open_page_index()) next.reset();  // it is not where other pages are
  if constexpr (HasPackedPages<Source>) {
    if (next) page.after_keys = page.after_values = source.packed_page(tile.kv_head, *next);
  } else if (tile.count > rows_done_before_fetch<Element> ||
             !simd::reads_in_order<T, ProbFactorFor<T, Source, Element>>(tile.count)) {
    // With fewer rows the processor's own prefetching of the stream does better alone, if it is
    // one.
    const bool lies_somewhere = source.page_scratch() == 0;
    const PageView<Element> after =
        next && lies_somewhere ? source.page(tile.kv_head, *next, nullptr) : page.view;
    // Each half of a page fetches the half that is read after it. Where they are not as large, it
    // would fetch too much or too little, and fetches its like in the next page.
    const bool alike = source.head_dim() == source.head_dim_v();
    page.after_keys = alike ? page.view.values : after.keys;
    page.after_values = alike ? after.keys : after.values;
  }
}

/// A page that is not the open one, and what to fetch meanwhile. \param next  as in fetch_ahead
template <class T, class Source>
auto page_of(const Source& source, const Tile& tile, Index index, std::optional<Index> next,
             const TileScratch<T, Source>& scratch) {
  using Page = CurrentPage<typename Source::Element>;
  const Index begin = index * page_size;
  if constexpr (HasPagesInRows<Source>)
    if (simd::has_row_product<T>(tile.count, source.head_dim()))
      return Page{source.page_in_rows(tile.kv_head, index, scratch.page),
                  nullptr,
                  nullptr,
                  begin,
                  ValuesAre::finite,
                  KeyLayout::row_major};
  Page page{source.page(tile.kv_head, index, scratch.page),
            nullptr,
            nullptr,
            begin,
            ValuesAre::finite,
            Source::key_layout};
  fetch_ahead(source, tile, next, page);
  return page;
}

/// Continues the attention of a tile over some keys of a split: adds to scratch.partial.
/// \param problem  whose the tile's rows are: a Problem, or the JoinedRows of several
template <class Problem, class T, class Source, class Score>
void sweep_keys(const Problem& problem, const Score& score, const Tile& tile, KeyRange range,
                const TileScratch<T, Source>& scratch) {
  const Source& source = *problem.source;
  const TileKeys keys = tile_keys(problem, tile, range);
  const auto held_from = [dropped = dropped_keys(source)](Index index) {
    return first_held_page(index, dropped);
  };
  for (Index index = held_from(keys.some.begin / page_size); index * page_size < keys.some.end;
       index = held_from(index + 1)) {
    const Index begin = index * page_size;
    const PageVisibility seen = find_visible(problem, tile, keys, begin, scratch.visible);
    if (seen.nothing()) continue;
    if constexpr (HasOpenPage<Source>) {
      if (index == source.open_page_index()) {
        const PageView<T> open = source.open_page(tile.kv_head);
        sweep_page(
            problem, score, tile,
            CurrentPage<T>{open, nullptr, nullptr, begin, ValuesAre::finite, Source::key_layout},
            seen, scratch);
        continue;
      }
    }
    const Index next = held_from(index + 1);
    const bool is_last = next * page_size >= keys.some.end;
    sweep_page(problem, score, tile,
               page_of(source, tile, index, is_last ? std::nullopt : std::optional(next), scratch),
               seen, scratch);
  }
}

/// The attention of a tile over the keys of one split: fills scratch.partial.
template <class T, class Source, class Mask, class Score>
void sweep(const Problem<T, Source, Mask>& problem, const Score& score, const Tile& tile,
           KeyRange split, const TileScratch<T, Source>& scratch) {
  scratch.partial.reset(tile.count);
  sweep_keys(problem, score, tile, split, scratch);
}

}  // namespace heed::detail
