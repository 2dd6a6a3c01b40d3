// SPDX-License-Identifier: MIT
/// \file
/// One decode step in float64, computed naively from the random tokens, or from what a cache gives
/// back where it cannot hold them as they are: shares no code with the kernel.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "heed/base/executor.hpp"
#include "heed/cache/kv_bytes.hpp"
#include "kv_memory/random_tokens.hpp"

namespace heed::bench {

/// What a decode step attends to, as sizes alone. A latent is one key/value head, whose values are
/// the first columns of its keys.
struct DecodeSizes {
  Index num_heads, num_kv_heads, head_dim, head_dim_v;
  Index first_token, tokens;  ///< those from the first on are seen
  Stream value_stream;
  double softmax_scale;
};

/// Queries are drawn from [-4, 4): scores then have a standard deviation near 1, and the softmax is
/// neither flat nor one-hot.
inline constexpr float query_scale = 4.0F;

namespace detail {

/// [rows, cols] of float64, zeroed.
class Matrix {
 public:
  Matrix(Index rows, Index cols)
      : elements_(static_cast<std::size_t>(rows * cols)), view(elements_.data(), rows, cols) {}
  Matrix(const Matrix&) = delete;  // it would look at the other one's elements

 private:
  std::vector<double> elements_;

 public:
  const RowsView<double> view;
};

inline void softmax(double* scores, Index count) {
  const double most = *std::max_element(scores, scores + count);
  double sum = 0;
  for (Index k = 0; k < count; ++k) sum += scores[k] = std::exp(scores[k] - most);
  for (Index k = 0; k < count; ++k) scores[k] /= sum;
}

/// Calls f(first token, rows [count, width]) with all tokens of one head that are seen, some at a
/// time.
template <class Rows, class F>
void for_each_page(const DecodeSizes& sizes, const Rows& rows_of, Stream stream, Index width,
                   const F& f) {
  const Matrix page(page_size, width);
  for (Index token = sizes.first_token; token < sizes.tokens; token += page_size) {
    const auto rows = page.view.middle_rows(0, std::min(page_size, sizes.tokens - token));
    rows_of(stream, token, rows);
    f(token - sizes.first_token, rows);
  }
}

/// Heads head .. head + count of one key/value head.
/// \param out       [count, head_dim_v]
/// \param prob_norm [count]: the length of each head's vector of probabilities
template <class Rows>
void reference_heads(const DecodeSizes& sizes, const Rows& rows_of, Index head, Index count,
                     RowsView<double> out, double* prob_norm) {
  const Index seen = sizes.tokens - sizes.first_token;
  const Matrix query(count, sizes.head_dim);
  fill_random(Stream::query, head, 1, query.view);
  const Matrix scores(count, seen);

  for_each_page(sizes, rows_of, Stream::key, sizes.head_dim,
                [&](Index token, RowsView<double> keys) {
                  for (Index h = 0; h < count; ++h)
                    for (Index r = 0; r < keys.rows; ++r) {
                      double score = 0;
                      for (Index c = 0; c < keys.cols; ++c) score += query.view(h, c) * keys(r, c);
                      scores.view(h, token + r) = score * query_scale * sizes.softmax_scale;
                    }
                });
  for (Index h = 0; h < count; ++h) {
    const double* const prob = scores.view.row(h);
    softmax(scores.view.row(h), seen);
    prob_norm[h] = std::sqrt(std::inner_product(prob, prob + seen, prob, 0.0));
    std::fill_n(out.row(h), out.cols, 0.0);
  }
  for_each_page(sizes, rows_of, sizes.value_stream, sizes.head_dim_v,
                [&](Index token, RowsView<double> values) {
                  for (Index h = 0; h < count; ++h)
                    for (Index r = 0; r < values.rows; ++r)
                      for (Index c = 0; c < values.cols; ++c)
                        out(h, c) += scores.view(h, token + r) * values(r, c);
                });
}

}  // namespace detail

/// The random tokens of a head, as they were appended.
inline auto random_rows(const DecodeSizes& sizes, Index kv_head) {
  return [&sizes, kv_head](Stream stream, Index token, RowsView<double> rows) {
    fill_random(stream, token * sizes.num_kv_heads + kv_head, sizes.num_kv_heads, rows);
  };
}

/// \param rows_of_head  (kv_head) -> (stream, token, rows): writes the rows from that token on
/// \param out           [num_heads, head_dim_v]
/// \returns the length of the longest vector of probabilities that a head has: 1 if it looks at one
///          token alone, 1 / sqrt(tokens) if at all alike
template <class RowsOfHead>
double reference_decode(const DecodeSizes& sizes, const RowsOfHead& rows_of_head,
                        const AnyExecutor& executor, RowsView<double> out) {
  std::vector<double> prob_norm(static_cast<std::size_t>(sizes.num_heads));
  const Index group_size = sizes.num_heads / sizes.num_kv_heads;
  const Index heads_per_task = std::min<Index>(group_size, 16);
  const Index tasks_per_group = ceil_div(group_size, heads_per_task);
  executor.parallel_for(sizes.num_kv_heads * tasks_per_group, [&](Index task) {
    const Index in_group = task % tasks_per_group * heads_per_task;
    const Index head = task / tasks_per_group * group_size + in_group;
    const Index count = std::min(heads_per_task, group_size - in_group);
    detail::reference_heads(sizes, rows_of_head(head / group_size), head, count,
                            out.middle_rows(head, count), prob_norm.data() + head);
  });
  return *std::max_element(prob_norm.begin(), prob_norm.end());
}

}  // namespace heed::bench
