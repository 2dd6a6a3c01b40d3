// SPDX-License-Identifier: MIT
/// \file
/// The kernel: a tile of query rows that share their keys sweeps over pages. Layer 5, detail.
#pragma once

#include <bit>
#include <span>

#include "heed/base/views.hpp"
#include "heed/base/workspace.hpp"
#include "heed/cache/page.hpp"
#include "heed/policy/mask.hpp"
#include "heed/simd/dot_product.hpp"
#include "heed/softmax/scaled_softmax.hpp"

namespace heed::detail {

/// Where the heads of a call stand among the layer's: masks and scores count from the layer's
/// first.
struct HeadPlace {
  Index first;
  Index total;
};

/// One sequence's attention: what `attend` was called with, checked.
template <class T, class Source, class Mask>
struct Problem {
  HeadsView<const T> query;  ///< [num_heads, seqlen_q, head_dim]
  const Source* source;
  const Mask* mask;
  HeadsView<T> out;          ///< [num_heads, seqlen_q, head_dim_v]
  RowsView<T> lse;           ///< [num_heads, seqlen_q], or empty if not wanted
  std::span<const T> sinks;  ///< [num_heads], or empty if there are none
  HeadPlace place;

  MaskExtent extent() const { return {query.rows, source->seqlen()}; }
  Index group_size() const { return query.num_heads / source->num_kv_heads(); }
  /// Rows that share a key/value head. Row r is position r / group_size of the group's head
  /// r % group_size: neighbours in a tile are neighbours in the sequence, so a mask's edge is
  /// short.
  Index rows() const { return query.rows * group_size(); }
  Index position(Index row) const { return row / group_size(); }
  Index head(Index kv_head, Index row) const { return kv_head * group_size() + row % group_size(); }
  Index layer_head(Index kv_head, Index row) const { return place.first + head(kv_head, row); }
};

/// Rows [begin, begin + count) of those that share a key/value head.
struct Tile {
  Index kv_head;
  Index begin;
  Index count;
};

/// A tile's unfinished result: per row a softmax state and a sum of values.
template <class T>
struct Partial {
  SoftmaxState<T>* state;  ///< [rows]
  T* sum;                  ///< [rows, stride]
  Index stride;            ///< head_dim_v, padded

  void reset(Index rows) const {
    std::fill_n(state, rows, SoftmaxState<T>{});
    std::fill_n(sum, rows * stride, T{0});
  }
  /// Adds what `other` found among other keys.
  void merge(const Partial& other, Index rows) const {
    for (Index r = 0; r < rows; ++r) {
      if (other.state[r].empty()) continue;
      const auto factors = state[r].merge(other.state[r]);
      T* const to = sum + r * stride;
      const T* const from = other.sum + r * stride;
      for (Index c = 0; c < stride; ++c) to[c] = factors.self * to[c] + factors.other * from[c];
    }
  }
};

/// A task's working memory, carved from one borrowed block.
template <class T, class Element>
struct TileScratch {
  T* query;                // [rows, query_stride]
  T* scores;               // [rows, page_size]
  T* carry;                // [rows]
  std::uint64_t* visible;  // [rows]
  Element* page;           // what the source needs to pack one
  Index query_stride;
  Partial<T> partial;  // of one key split
  Partial<T> total;    // of all splits so far

  static std::size_t bytes(Index rows, Index head_dim, Index head_dim_v, Index page_scratch) {
    return carve(nullptr, rows, head_dim, head_dim_v, page_scratch, nullptr);
  }
  TileScratch(std::byte* memory, Index rows, Index head_dim, Index head_dim_v, Index page_scratch) {
    carve(memory, rows, head_dim, head_dim_v, page_scratch, this);
  }

 private:
  /// Lays the parts out one after another on cache lines and returns the size of all.
  static std::size_t carve(std::byte* memory, Index rows, Index head_dim, Index head_dim_v,
                           Index page_scratch, TileScratch* to) {
    std::size_t used = 0;
    const auto part = [&]<class X>(Index count, X*) {
      const std::size_t at = used;
      used += (static_cast<std::size_t>(count) * sizeof(X) + memory_alignment - 1) /
              memory_alignment * memory_alignment;
      return memory == nullptr ? nullptr : reinterpret_cast<X*>(memory + at);
    };
    const Index width = simd::padded(head_dim);
    const Index width_v = simd::padded(head_dim_v);
    T* const query = part(rows * width, static_cast<T*>(nullptr));
    T* const scores = part(rows * page_size, static_cast<T*>(nullptr));
    T* const carry = part(rows, static_cast<T*>(nullptr));
    auto* const visible = part(rows, static_cast<std::uint64_t*>(nullptr));
    auto* const page = part(page_scratch, static_cast<Element*>(nullptr));
    Partial<T> partials[2];
    for (Partial<T>& p : partials)
      p = {part(rows, static_cast<SoftmaxState<T>*>(nullptr)),
           part(rows * width_v, static_cast<T*>(nullptr)), width_v};
    if (to != nullptr) {
      to->query = query, to->scores = scores, to->carry = carry, to->visible = visible,
      to->page = page;
      to->query_stride = width, to->partial = partials[0], to->total = partials[1];
    }
    return used;
  }
};

/// Copies the tile's query rows side by side, zeros behind each.
template <class T, class Source, class Mask, class Element>
void load_queries(const Problem<T, Source, Mask>& problem, const Tile& tile,
                  const TileScratch<T, Element>& scratch) {
  const Index width = problem.query.cols;
  for (Index r = 0; r < tile.count; ++r) {
    const Index row = tile.begin + r;
    T* const to = scratch.query + r * scratch.query_stride;
    std::copy_n(problem.query.row(problem.head(tile.kv_head, row), problem.position(row)), width,
                to);
    std::fill(to + width, to + scratch.query_stride, T{0});
  }
}

/// What the rows of a tile see of a page.
struct PageVisibility {
  std::uint64_t any = 0;            ///< keys that some row sees
  std::uint64_t all = all_visible;  ///< keys that every row sees

  Index first() const { return std::countr_zero(any); }
  Index last() const { return page_size - std::countl_zero(any); }
  /// Some row does not see some key between the first and the last.
  bool edge() const { return all != range_bits({first(), last()}, 0); }
};

template <class T, class Source, class Mask>
PageVisibility find_visible(const Problem<T, Source, Mask>& problem, const Tile& tile,
                            Index page_begin, std::uint64_t* visible) {
  const Index group = varies_by_head(*problem.mask) ? 1 : problem.group_size();
  PageVisibility page;
  for (Index r = 0; r < tile.count; ++r) {
    const Index row = tile.begin + r;
    // All heads of a position see the same unless the mask says otherwise.
    visible[r] = r > 0 && row % group != 0
                     ? visible[r - 1]
                     : mask_bits(*problem.mask, problem.layer_head(tile.kv_head, row),
                                 problem.position(row), page_begin, problem.extent());
    page.any |= visible[r];
    page.all &= visible[r];
  }
  return page;
}

/// The keys within `keys` that any row of the tile may see.
template <class T, class Source, class Mask>
KeyRange tile_range(const Problem<T, Source, Mask>& problem, const Tile& tile, KeyRange keys) {
  KeyRange common{keys.end, keys.begin};
  const Index last = problem.position(tile.begin + tile.count - 1);
  for (Index q_row = problem.position(tile.begin); q_row <= last; ++q_row) {
    const KeyRange range = intersection(mask_range(*problem.mask, q_row, problem.extent()), keys);
    if (range.end <= range.begin) continue;
    common = {std::min(common.begin, range.begin), std::max(common.end, range.end)};
  }
  return common;
}

/// Whether the values of keys [begin, end) of a page are finite: only then may a hidden key's value
/// be multiplied by its probability of 0.
template <class T>
bool values_finite(const PageView<T>& page, Index begin, Index end, Index vectors) {
  const auto zero = simd::broadcast(T{0});
  auto sum = zero;
  for (Index key = begin; key < end; ++key)
    for (Index v = 0; v < vectors; ++v)
      sum = simd::mul_add(simd::load(page.values + key * page.value_stride + v * simd::lanes<T>),
                          zero, sum);
  return !std::isnan(simd::sum_lanes(sum));
}

/// partial = carry * partial + probabilities . values, touching no key that the row does not see.
/// The same operations in the same order as the product, so the same bits.
template <class T, class Element>
void add_visible_values(const TileScratch<T, Element>& scratch, const PageView<Element>& page,
                        Index rows, Index vectors) {
  for (Index r = 0; r < rows; ++r)
    for (Index v = 0; v < vectors; ++v) {
      T* const to = scratch.partial.sum + r * scratch.partial.stride + v * simd::lanes<T>;
      auto sum = simd::mul(simd::broadcast(scratch.carry[r]), simd::load(to));
      for (std::uint64_t bits = scratch.visible[r]; bits != 0; bits &= bits - 1) {
        const Index key = std::countr_zero(bits);
        const auto value = simd::load(page.values + key * page.value_stride + v * simd::lanes<T>);
        sum = simd::mul_add(simd::broadcast(scratch.scores[r * page_size + key]), value, sum);
      }
      simd::store(to, sum);
    }
}

/// The attention of a tile over the keys of one split: fills scratch.partial.
template <class T, class Source, class Mask, class Score, class Element>
void sweep(const Problem<T, Source, Mask>& problem, const Score& score, const Tile& tile,
           KeyRange split, const TileScratch<T, Element>& scratch) {
  constexpr Index n = simd::lanes<T>;
  const Source& source = *problem.source;
  const Partial<T>& partial = scratch.partial;
  const Index value_vectors = (source.head_dim_v() + n - 1) / n;
  scratch.partial.reset(tile.count);

  const KeyRange keys = tile_range(problem, tile, split);
  for (Index index = keys.begin / page_size; index * page_size < keys.end; ++index) {
    const Index page_begin = index * page_size;
    const PageVisibility seen = find_visible(problem, tile, page_begin, scratch.visible);
    if (seen.any == 0) continue;
    const PageView<Element> page = source.page(tile.kv_head, index, scratch.page);

    // Whole vectors around the keys that anyone sees; a full page is the usual case.
    const VectorRange vectors{seen.first() / n, (seen.last() + n - 1) / n};
    const Index first = vectors.begin * n;
    T* const scores = scratch.scores + first;
    if constexpr (Source::key_layout == KeyLayout::transposed)
      simd::product(scratch.query, scratch.query_stride, page.keys + first, page.key_stride,
                    source.head_dim(), scores, page_size, tile.count, vectors.end - vectors.begin);
    else
      simd::dot_product(scratch.query, scratch.query_stride, page.keys + first * page.key_stride,
                        page.key_stride, scratch.query_stride, scores, page_size, tile.count,
                        (vectors.end - vectors.begin) * n);

    for (Index r = 0; r < tile.count; ++r) {
      const Index row = tile.begin + r;
      const ScoreSite site{problem.layer_head(tile.kv_head, row), problem.position(row), page_begin,
                           problem.extent()};
      T* const row_scores = scratch.scores + r * page_size;
      scratch.carry[r] = scratch.visible[r] == all_visible
                             ? softmax_step(row_scores, VectorRange{0, page_size / n}, all_visible,
                                            score, site, partial.state[r])
                             : softmax_step(row_scores, vectors, scratch.visible[r], score, site,
                                            partial.state[r]);
    }

    if (seen.edge() && !values_finite(page, seen.first(), seen.last(), value_vectors))
      add_visible_values(scratch, page, tile.count, value_vectors);
    else
      simd::product_carry(scratch.scores + seen.first(), page_size,
                          page.values + seen.first() * page.value_stride, page.value_stride,
                          seen.last() - seen.first(), partial.sum, partial.stride, tile.count,
                          value_vectors, scratch.carry);
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
      factor = denominator.merge({problem.sinks[static_cast<std::size_t>(head)], T{1}}).self;
    const T* const sum = total.sum + r * total.stride;
    T* const out = problem.out.row(head, q_row);
    if (state.empty()) {
      std::fill_n(out, width, T{0});
    } else {
      for (Index c = 0; c < width; ++c) out[c] = factor * sum[c] / denominator.row_sum;
    }
    if (problem.lse.data != nullptr) problem.lse(head, q_row) = state.lse();
  }
}

}  // namespace heed::detail
