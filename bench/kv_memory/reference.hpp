// SPDX-License-Identifier: MIT
/// \file
/// One decode step in float64, computed naively from the random tokens: shares no code with the
/// kernel.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "heed/base/executor.hpp"
#include "heed/cache/kv_bytes.hpp"
#include "kv_memory/random_tokens.hpp"

namespace heed::bench {

/// What a decode step attends to, as sizes alone. A latent is one key/value head, whose values are
/// the first columns of its keys.
struct DecodeSizes {
  Index num_heads, num_kv_heads, head_dim, head_dim_v, tokens;
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

/// Calls f(first token, rows [count, width]) with all tokens of one head, page by page.
template <class F>
void for_each_page(const DecodeSizes& sizes, Stream stream, Index kv_head, Index width,
                   const F& f) {
  const Matrix page(page_size, width);
  for (Index token = 0; token < sizes.tokens; token += page_size) {
    const auto rows = page.view.middle_rows(0, std::min(page_size, sizes.tokens - token));
    fill_random(stream, token * sizes.num_kv_heads + kv_head, sizes.num_kv_heads, rows);
    f(token, rows);
  }
}

/// Heads head .. head + count of one key/value head. \param out  [count, head_dim_v]
inline void reference_heads(const DecodeSizes& sizes, Index head, Index count,
                            RowsView<double> out) {
  const Index kv_head = head / (sizes.num_heads / sizes.num_kv_heads);
  const Matrix query(count, sizes.head_dim);
  fill_random(Stream::query, head, 1, query.view);
  const Matrix scores(count, sizes.tokens);

  for_each_page(sizes, Stream::key, kv_head, sizes.head_dim,
                [&](Index token, RowsView<double> keys) {
                  for (Index h = 0; h < count; ++h)
                    for (Index r = 0; r < keys.rows; ++r) {
                      double score = 0;
                      for (Index c = 0; c < keys.cols; ++c) score += query.view(h, c) * keys(r, c);
                      scores.view(h, token + r) = score * query_scale * sizes.softmax_scale;
                    }
                });
  for (Index h = 0; h < count; ++h) {
    softmax(scores.view.row(h), sizes.tokens);
    std::fill_n(out.row(h), out.cols, 0.0);
  }
  for_each_page(sizes, sizes.value_stream, kv_head, sizes.head_dim_v,
                [&](Index token, RowsView<double> values) {
                  for (Index h = 0; h < count; ++h)
                    for (Index r = 0; r < values.rows; ++r)
                      for (Index c = 0; c < values.cols; ++c)
                        out(h, c) += scores.view(h, token + r) * values(r, c);
                });
}

}  // namespace detail

/// \param out  [num_heads, head_dim_v]
inline void reference_decode(const DecodeSizes& sizes, const AnyExecutor& executor,
                             RowsView<double> out) {
  const Index group_size = sizes.num_heads / sizes.num_kv_heads;
  const Index heads_per_task = std::min<Index>(group_size, 16);
  const Index tasks_per_group = (group_size + heads_per_task - 1) / heads_per_task;
  executor.parallel_for(sizes.num_kv_heads * tasks_per_group, [&](Index task) {
    const Index in_group = task % tasks_per_group * heads_per_task;
    const Index head = task / tasks_per_group * group_size + in_group;
    const Index count = std::min(heads_per_task, group_size - in_group);
    detail::reference_heads(sizes, head, count, out.middle_rows(head, count));
  });
}

}  // namespace heed::bench
