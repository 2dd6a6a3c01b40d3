// SPDX-License-Identifier: MIT
/// \file
/// Attention as the formula says, with plain loops over plain vectors. Shares no code with the
/// library. In double it is what the library is held against; in float it shows what a plain
/// float32 implementation errs.
#pragma once

#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

namespace heed::reference {

using Size = std::ptrdiff_t;

/// [heads, rows, cols], without gaps.
template <class T>
struct Heads {
  Size heads = 0;
  Size rows = 0;
  Size cols = 0;
  std::vector<T> data = {};

  Heads() = default;
  Heads(Size heads_, Size rows_, Size cols_)
      : Heads(heads_, rows_, cols_,
              std::vector<T>(static_cast<std::size_t>(heads_ * rows_ * cols_))) {}
  Heads(Size heads_, Size rows_, Size cols_, std::vector<T> data_)
      : heads(heads_), rows(rows_), cols(cols_), data(std::move(data_)) {}

  T& operator()(Size head, Size row, Size col) { return data[at(head, row, col)]; }
  const T& operator()(Size head, Size row, Size col) const { return data[at(head, row, col)]; }

 private:
  std::size_t at(Size head, Size row, Size col) const {
    return static_cast<std::size_t>((head * rows + row) * cols + col);
  }
};

/// May query row `q_row` of `head` attend to key row `kv_row`? Unset: all may.
using Visible = std::function<bool(Size head, Size q_row, Size kv_row)>;

/// From q.k to the score: scale, then softcap, then ALiBi, then bias, then whatever `custom` does.
/// What is unset is left out.
template <class T>
struct Score {
  T scale = 1;
  std::optional<T> softcap = {};
  std::vector<T> alibi_slopes = {};   // [num_heads]; the last query is at the last key
  std::optional<Heads<T>> bias = {};  // [num_heads or 1, seqlen_q, seqlen_kv]
  std::function<T(T score, Size head, Size query_position, Size key_position)> custom = {};

  T operator()(T dot, Size head, Size q_row, Size kv_row, Size query_position) const {
    T score = scale * dot;
    if (softcap) score = *softcap * std::tanh(score / *softcap);
    if (!alibi_slopes.empty())
      score +=
          alibi_slopes[static_cast<std::size_t>(head)] * static_cast<T>(kv_row - query_position);
    if (bias) score += (*bias)(bias->heads == 1 ? 0 : head, q_row, kv_row);
    if (custom) score = custom(score, head, query_position, kv_row);
    return score;
  }
};

template <class T>
struct Attention {
  Heads<T> out;     // [num_heads, seqlen_q, head_dim_v]; 0 where no key is visible
  Heads<T> lse;     // [num_heads, seqlen_q, 1]; natural log, without the sink; -inf where none
  Heads<T> scores;  // [num_heads, seqlen_q, seqlen_kv]; -inf where hidden
  Heads<T> probs;   // [num_heads, seqlen_q, seqlen_kv]
};

/// softmax(score(query key^T)) value, where query head h uses key/value head h / (heads / kv
/// heads).
/// \param sinks  one more score per query head that only enters the denominator; may be empty
template <class T>
Attention<T> attention(const Heads<T>& query, const Heads<T>& key, const Heads<T>& value,
                       const Score<T>& score, const Visible& visible = {},
                       const std::vector<T>& sinks = {}) {
  const T infinity = std::numeric_limits<T>::infinity();
  const Heads<T> square(query.heads, query.rows, key.rows);
  Attention<T> result{Heads<T>(query.heads, query.rows, value.cols),
                      Heads<T>(query.heads, query.rows, 1), square, square};
  for (Size head = 0; head < query.heads; ++head) {
    const Size kv_head = head / (query.heads / key.heads);
    for (Size q_row = 0; q_row < query.rows; ++q_row) {
      const auto seen = [&](Size kv_row) { return !visible || visible(head, q_row, kv_row); };

      T row_max = -infinity;
      for (Size kv_row = 0; kv_row < key.rows; ++kv_row) {
        T& s = result.scores(head, q_row, kv_row);
        s = -infinity;
        if (!seen(kv_row)) continue;
        T dot = 0;
        for (Size c = 0; c < query.cols; ++c)
          dot += query(head, q_row, c) * key(kv_head, kv_row, c);
        s = score(dot, head, q_row, kv_row, key.rows - query.rows + q_row);
        if (!(s <= row_max)) row_max = s;  // NaN too
      }
      result.lse(head, q_row, 0) = -infinity;
      if (row_max == -infinity) continue;

      T row_sum = 0;
      for (Size kv_row = 0; kv_row < key.rows; ++kv_row)
        row_sum += std::exp(result.scores(head, q_row, kv_row) - row_max);
      result.lse(head, q_row, 0) = row_max + std::log(row_sum);

      if (!sinks.empty()) row_sum += std::exp(sinks[static_cast<std::size_t>(head)] - row_max);
      for (Size kv_row = 0; kv_row < key.rows; ++kv_row) {
        if (!seen(kv_row)) continue;  // a hidden value may be inf or NaN
        const T prob = std::exp(result.scores(head, q_row, kv_row) - row_max) / row_sum;
        result.probs(head, q_row, kv_row) = prob;
        for (Size c = 0; c < value.cols; ++c)
          result.out(head, q_row, c) += prob * value(kv_head, kv_row, c);
      }
    }
  }
  return result;
}

}  // namespace heed::reference
