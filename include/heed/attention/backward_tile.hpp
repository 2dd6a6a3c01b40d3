// SPDX-License-Identifier: MIT
/// \file
/// The backward pass between a tile of query rows and a page of keys. Layer 5, detail.
///
///     probs       = exp(score(query . key^T) - lse)                   those of the forward pass
///     grad_scores = probs (grad_out . value^T - delta) slope(score)   d loss / d (query . key^T)
///     grad_query += grad_scores   . key
///     grad_key   += grad_scores^T . query
///     grad_value += probs^T       . grad_out
///
/// where a row's delta is grad_out . out. Nothing of the forward pass has to be kept but its result
/// and its log-sum-exp. Source: Dao 2023, arXiv:2307.08691, algorithm 2.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "heed/attention/backward_problem.hpp"
#include "heed/attention/visibility.hpp"
#include "heed/simd/exp.hpp"
#include "heed/simd/product.hpp"
#include "heed/simd/transpose.hpp"

namespace heed::detail {

/// A matrix's rows with the zeros behind each.
template <class T>
RowsView<T> with_padding(RowsView<T> rows) {
  return {rows.data, rows.rows, simd::padded(rows.cols), rows.stride};
}

template <class T>
void fill_zeros(RowsView<T> rows) {
  std::fill_n(rows.data, rows.rows * rows.stride, T{0});
}

/// Copies the tile's rows side by side.
template <class T, class Mask>
void load_rows(const BackwardProblem<T, Mask>& problem, const Tile& tile,
               const BackwardScratch<T>& scratch) {
  const auto& forward = problem.forward;
  for (Index r = 0; r < tile.count; ++r) {
    const Index head = forward.head(tile.kv_head, tile.begin + r),
                q_row = forward.position(tile.begin + r);
    simd::copy_padded(problem.grad_out.row(head, q_row), problem.grad_out.cols,
                      scratch.grad_out.row(r));
    T* const query = scratch.query.row(r);
    simd::copy_scaled(forward.query.row(head, q_row), forward.query.cols, forward.query_scale,
                      query);
    std::fill(query + forward.query.cols, query + scratch.query.stride, T{0});
  }
}

/// Copies a page's keys, and its keys and values as columns.
template <class T, class Mask>
void load_page(const BackwardProblem<T, Mask>& problem, Index kv_head, Index page_begin,
               const typename BackwardScratch<T>::Page& page) {
  const Index tokens = std::min(page_size, problem.key.rows - page_begin);
  const RowsView<const T> keys = problem.key.head(kv_head).middle_rows(page_begin, tokens);
  simd::transpose_padded(keys, page.key_columns.data, page_size);
  simd::transpose_padded(problem.value.head(kv_head).middle_rows(page_begin, tokens),
                         page.value_columns.data, page_size);
  for (Index i = 0; i < tokens; ++i) simd::copy_padded(keys.row(i), keys.cols, page.keys.row(i));
  fill_zeros(page.grad_key), fill_zeros(page.grad_value);
}

/// Finds the keys of a page from which each row of a tile had something.
template <class T, class Mask>
PageVisibility find_weighted(const BackwardProblem<T, Mask>& problem, const Tile& tile,
                             const TileKeys& keys, Index page_begin, std::uint64_t* visible) {
  const auto& forward = problem.forward;
  find_visible(forward, tile, keys, page_begin, visible);
  for (Index r = 0; r < tile.count; ++r)
    if (problem.lse(forward.head(tile.kv_head, tile.begin + r), forward.position(tile.begin + r)) ==
        -std::numeric_limits<T>::infinity())
      visible[r] = 0;
  return summarise(visible, {0, tile.count});
}

/// Fills probs and grad_scores of some rows, for whole vectors around the keys that any of them
/// sees: zeros where a row does not see a key.
template <class T, class Mask, class Score>
void compute_grad_scores(const BackwardProblem<T, Mask>& problem, const Score& score,
                         const Tile& tile, RowRange rows, Index page_begin,
                         const PageVisibility& seen, const BackwardScratch<T>& scratch,
                         const typename BackwardScratch<T>::Page& page) {
  constexpr Index n = simd::lanes<T>;
  const Index first = seen.first() / n * n, end = round_up(seen.last(), n);
  const auto part = [&](const RowsView<T>& all) {
    return all.middle_rows(rows.begin, rows.end - rows.begin);
  };
  const auto product = [&](RowsView<const T> left, const RowsView<T>& columns,
                           const RowsView<T>& to) {
    simd::product<T, T>(left, columns.middle_cols(first, end - first),
                        part(to).middle_cols(first, end - first), nullptr);
  };
  product(part(scratch.query), page.key_columns, scratch.probs);
  product(part(scratch.grad_out), page.value_columns, scratch.grad_scores);
  for (Index r = rows.begin; r < rows.end; ++r) {
    const auto& forward = problem.forward;
    const Index row = tile.begin + r;
    const Index head = forward.head(tile.kv_head, row), q_row = forward.position(row);
    const auto lse = simd::broadcast(problem.lse(head, q_row)),
               delta = simd::broadcast(problem.delta(head, q_row));
    T* const probs = scratch.probs.row(r);
    T* const grads = scratch.grad_scores.row(r);
    const auto step = [&]<int Count>(Index key, std::integral_constant<int, Count>) {
      simd::Packet<T> prob[Count], slope[Count];
      for (int i = 0; i < Count; ++i) {
        const ScoreSite site{forward.layer_head(tile.kv_head, row), q_row, page_begin + key + i * n,
                             forward.extent()};
        const auto product_of = simd::load(probs + key + i * n);
        slope[i] = score.template slope<T>(product_of, site);
        prob[i] = simd::sub(score.template apply<T>(product_of, site), lse);
      }
      simd::exp<T>(prob);  // above 0 by rounding at most, unless hidden
      for (int i = 0; i < Count; ++i) {
        T* const grad = grads + key + i * n;
        simd::store(probs + key + i * n, prob[i]);
        simd::store(grad,
                    simd::mul(simd::mul(prob[i], simd::sub(simd::load(grad), delta)), slope[i]));
      }
    };
    Index key = first;
    for (; key + 2 * n <= end; key += 2 * n) step(key, std::integral_constant<int, 2>{});
    if (key < end) step(key, std::integral_constant<int, 1>{});
    if (const std::uint64_t visible = scratch.visible[r]; visible != all_visible)
      for (Index lane = first; lane < end; ++lane)
        if ((visible >> lane & 1) == 0) probs[lane] = grads[lane] = 0;
  }
}

/// No inf and no NaN.
template <class T>
bool all_finite(RowsView<const T> rows) {
  auto sum = simd::broadcast(T{0});
  for (Index r = 0; r < rows.rows; ++r) {
    auto row_sum = simd::broadcast(T{0});  // a chain of its own, so that rows overlap
    for (Index c = 0; c < rows.cols; c += simd::lanes<T>)
      row_sum = simd::mul_add(simd::load(rows.row(r) + c), simd::broadcast(T{0}), row_sum);
    sum = simd::add(sum, row_sum);
  }
  return !std::isnan(simd::sum_lanes(sum));
}

/// out += left . right. \param sees  sees(i, j): whether left(i, j) is of a row and a key that it
/// sees. What it does not see is not touched if it may be no number, with the same operations in
/// the same order, so the same bits.
template <class T, class Sees>
void add_seen_product(RowsView<const T> left, RowsView<T> right, RowsView<T> out,
                      const PageVisibility& seen, const Sees& sees) {
  const RowsView<const T> rows = with_padding(right);
  const RowsView<T> to = with_padding(out);
  if (!seen.edge() || all_finite(rows)) return simd::add_product<T, T>(left, rows, to, 0, nullptr);
  for (Index i = 0; i < left.rows; ++i)
    for (Index c = 0; c < to.cols; c += simd::lanes<T>) {
      auto sum = simd::broadcast(T{0});
      for (Index j = 0; j < left.cols; ++j)
        if (sees(i, j))
          sum = simd::mul_add(simd::broadcast(left(i, j)), simd::load(rows.row(j) + c), sum);
      simd::store(to.row(i) + c, simd::add(simd::load(to.row(i) + c), sum));
    }
}

/// What a tile of rows and a page give each other.
template <class T, class Mask, class Score>
void backward_page(const BackwardProblem<T, Mask>& problem, const Score& score, const Tile& tile,
                   Index page_begin, const PageVisibility& seen, const BackwardScratch<T>& scratch,
                   const typename BackwardScratch<T>::Page& page) {
  const auto of_rows_alike = [&](RowRange rows, const PageVisibility& part) {
    compute_grad_scores(problem, score, tile, rows, page_begin, part, scratch, page);
    const Index count = rows.end - rows.begin, first = part.first(), keys = part.last() - first;
    const auto sees = [&](Index row, Index key) {
      return (scratch.visible[rows.begin + row] >> (first + key) & 1) != 0;
    };
    const auto of_rows = [&](const RowsView<T>& all) { return all.middle_rows(rows.begin, count); };
    const auto of_keys = [&](const RowsView<T>& all) { return all.middle_rows(first, keys); };
    const RowsView<T> grads = of_rows(scratch.grad_scores).middle_cols(first, keys);
    const RowsView<T> probs = of_rows(scratch.probs).middle_cols(first, keys);
    add_seen_product<T>(grads, of_keys(page.keys), of_rows(scratch.grad_query), part, sees);
    const RowsView<T> by_key = of_keys(scratch.by_key).middle_cols(0, count);
    const auto add_by_key = [&](const RowsView<T>& by_row, const RowsView<T>& right,
                                const RowsView<T>& to) {
      simd::transpose_padded(RowsView<const T>(by_row), by_key.data, by_key.stride);
      add_seen_product<T>(by_key, of_rows(right), of_keys(to), part,
                          [&](Index key, Index row) { return sees(row, key); });
    };
    add_by_key(grads, scratch.query, page.grad_key);
    add_by_key(probs, scratch.grad_out, page.grad_value);
  };
  for_rows_alike(tile, seen, scratch.visible, tile.count, of_rows_alike);
}

/// Some pages of keys, and all rows that share the head: writes d loss / d key and d loss / d value
/// of the pages, and what they add to d loss / d query before it is scaled.
/// \param keys       whole pages, and no more than most_pages_per_task of them
/// \param grad_rows  [rows, head_dim], of which only some are written
/// \returns these: all outside of them get nothing from the keys
template <class T, class Mask, class Score>
RowRange backward_keys(const BackwardProblem<T, Mask>& problem, const Score& score, Index kv_head,
                       KeyRange keys, Index rows_per_tile, const BackwardScratch<T>& scratch,
                       RowsView<T> grad_rows, const AttendGradients<T>& gradients) {
  const auto& forward = problem.forward;
  const auto for_pages = [&](const auto& f) {
    for (Index i = 0; keys.begin + i * page_size < keys.end; ++i)
      f(keys.begin + i * page_size, scratch.page[i]);
  };
  for_pages([&](Index begin, const auto& page) { load_page(problem, kv_head, begin, page); });
  RowRange written{0, 0};
  for (Index begin = 0; begin < forward.rows(); begin += rows_per_tile) {
    const Tile tile{kv_head, begin, std::min(rows_per_tile, forward.rows() - begin)};
    const TileKeys range = tile_keys(forward, tile, keys);
    if (range.some.begin >= range.some.end) continue;
    if (written.end == 0) written = {begin, begin};
    fill_zeros(grad_rows.middle_rows(written.end, begin - written.end));  // tiles in between
    written.end = begin + tile.count;
    const RowsView<T> grad_query = scratch.grad_query.middle_rows(0, tile.count);
    fill_zeros(grad_query);
    load_rows(problem, tile, scratch);
    for_pages([&](Index page_begin, const auto& page) {
      const auto seen = find_weighted(problem, tile, range, page_begin, scratch.visible);
      if (!seen.nothing()) backward_page(problem, score, tile, page_begin, seen, scratch, page);
    });
    for (Index r = 0; r < tile.count; ++r)
      std::copy_n(grad_query.row(r), grad_query.cols, grad_rows.row(begin + r));
  }
  for_pages([&](Index begin, const auto& page) {
    for (Index i = 0; i < std::min(page_size, problem.key.rows - begin); ++i) {
      std::copy_n(page.grad_key.row(i), page.grad_key.cols, gradients.key.row(kv_head, begin + i));
      std::copy_n(page.grad_value.row(i), page.grad_value.cols,
                  gradients.value.row(kv_head, begin + i));
    }
  });
  return written;
}

}  // namespace heed::detail
