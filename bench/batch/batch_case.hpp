// SPDX-License-Identifier: MIT
/// \file
/// Batches of sequences, and the ways to serve them: one by one, in one call, over shared pages.
#pragma once

#include <algorithm>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "heed/attention/attend.hpp"
#include "heed/cache/kv_cache.hpp"
#include "heed/instances/extern_narrow.hpp"
#include "shared/attend_exactly.hpp"
#include "shared/matrix.hpp"
#include "shared/read_keys.hpp"

namespace heed::bench::batch {

/// New tokens of a sequence, and what is in its cache with them.
struct Length {
  Index seqlen_q, seqlen_kv;
};

struct BatchCase {
  std::string name;
  Index num_heads, num_kv_heads, head_dim, head_dim_v;
  std::vector<Length> lengths;
  Index prefix = 0;  ///< tokens that all caches begin with, of which there may be copies

  bool is_latent() const { return head_dim > head_dim_v; }
  /// New tokens of all sequences.
  Index tokens() const {
    Index sum = 0;
    for (const Length& length : lengths) sum += length.seqlen_q;
    return sum;
  }
};

/// One token each but for every eighth sequence, which has a chunk of a prompt.
inline BatchCase mixed_case(Index count) {
  constexpr Index cached[] = {1000, 200, 512, 2500, 900, 1500, 4000, 3000};
  BatchCase c{"mixed, 32 heads / 8", 32, 8, 128, 128, {}};
  for (Index i = 0; i < count; ++i) {
    const Index seqlen_q = i % 8 == 0 ? 128 : 1;
    c.lengths.push_back({seqlen_q, cached[i % 8] + 37 * (i / 8) + seqlen_q});
  }
  return c;
}
/// How many heads of how many groups, and how wide.
struct Heads {
  Index num_heads, num_kv_heads, head_dim = 128, head_dim_v = 128;
};
/// A token each, on a prefix that all have in common and 256 tokens of their own.
inline BatchCase prefix_case(std::string name, const Heads& heads, Index count) {
  constexpr Index prefix = 8192, own = 256;
  BatchCase c{std::move(name), heads.num_heads,  heads.num_kv_heads,
              heads.head_dim,  heads.head_dim_v, {},
              prefix};
  c.lengths.assign(static_cast<std::size_t>(count), {1, prefix + own});
  return c;
}

inline std::vector<BatchCase> batch_cases() {
  return {mixed_case(1),
          mixed_case(8),
          mixed_case(64),
          prefix_case("prefix, GQA 16 heads / 4", {16, 4}, 8),
          prefix_case("prefix, GQA 16 heads / 4", {16, 4}, 64),
          prefix_case("prefix, MHA 16 heads / 16", {16, 16}, 8),
          prefix_case("prefix, MLA 16 heads", {16, 1, 576, 512}, 8),
          prefix_case("prefix, MLA 16 heads", {16, 1, 576, 512}, 64)};
}

inline std::vector<float> random_numbers(Index count, unsigned seed) {
  std::minstd_rand next(seed);
  std::vector<float> numbers(static_cast<std::size_t>(count));
  for (float& number : numbers)
    number = static_cast<float>(next()) / static_cast<float>(std::minstd_rand::max()) * 3.4F - 1.7F;
  return numbers;
}

/// A case with the caches it needs, in one kind of entry and element.
template <class Entry, class Element>
class FilledCase {
  using Cache = KvCache<Entry, Element>;
  using Sequence = AttendSequence<float, Cache, CausalMask>;

 public:
  FilledCase(const BatchCase& c, Entry entry, AnyExecutor executor)
      : case_(c), executor_(std::move(executor)),
        tokens_(random_numbers(num_tokens * token_width(), 1)),
        queries_(random_numbers(c.tokens() * c.num_heads * c.head_dim, 2)) {
    Index pages = 0;
    for (const Length& length : c.lengths) pages += (length.seqlen_kv - c.prefix) / page_size + 2;
    const PagePool<Entry, Element> pool((c.prefix > 0 ? pages : 0) + c.prefix / page_size, entry);
    const Index capacity = c.prefix + c.lengths.back().seqlen_kv;
    Cache plain(c.prefix > 0 ? c.lengths.front().seqlen_kv : 0, entry), pooled(pool, capacity);
    append(plain, 0, c.prefix);
    append(pooled, 0, c.prefix);
    for (std::size_t i = 0; i < c.lengths.size(); ++i) {
      const Index own = c.lengths[i].seqlen_kv - c.prefix;
      const auto first = static_cast<Index>(i) * 61 % num_tokens;
      copies_.push_back(c.prefix > 0 ? plain.fork() : Cache(own, entry));
      append(copies_.back(), first, own);
      if (c.prefix == 0) continue;
      shared_.push_back(pooled.fork());
      append(shared_.back(), first, own);
    }
  }

  void run_one_by_one() { run_one_by_one(copies_, outs_[0]); }
  void run_batch() { run_batch(copies_, outs_[1]); }
  void run_shared() { run_batch(shared_, outs_[2]); }
  /// What the last run of each way gave.
  const std::vector<float>& out(std::size_t way) const { return outs_[way]; }

  /// How far calls one by one are from float64 on what the caches hold, in largest elements of a
  /// row: of some sequences, heads and tokens.
  double largest_error() const {
    double largest = 0;
    Index first_row = 0;
    for (std::size_t i = 0; i < copies_.size(); ++i) {
      const auto [seqlen_q, seqlen_kv] = case_.lengths[i];
      if (i % 8 == 0 || i + 1 == copies_.size())
        for (const Index head : {Index{0}, case_.num_heads / 3, case_.num_heads - 1}) {
          const auto [key, value] = held(copies_[i], head / (case_.num_heads / case_.num_kv_heads));
          for (const Index q_row : {Index{0}, seqlen_q - 1}) {
            const Index seen = seqlen_kv - seqlen_q + q_row + 1;
            const auto expected =
                attend_exactly(part(queries_, first_row + q_row, head, case_.head_dim),
                               key.topRows(seen), value.topRows(seen), scale());
            const auto found = part(outs_[0], first_row + q_row, head, case_.head_dim_v);
            largest = larger_or_nan(largest, relative_error(found, expected));
          }
        }
      first_row += seqlen_q;
    }
    return largest;
  }

 private:
  struct Held {
    Eigen::MatrixXd key, value;
  };
  static Held held(const Cache& cache, Index kv_head) {
    MatrixOf<float> key(cache.seqlen(), cache.head_dim()),
        value(cache.seqlen(), cache.head_dim_v());
    read_keys(cache, kv_head, key);
    if constexpr (is_latent<Entry>)
      value = key.leftCols(cache.head_dim_v());
    else
      cache.read_value(kv_head, value);
    return {key.cast<double>(), value.cast<double>()};
  }
  /// A head of a row of [rows, num_heads * width].
  Eigen::RowVectorXd part(const std::vector<float>& rows, Index row, Index head,
                          Index width) const {
    return Eigen::Map<const Eigen::RowVectorXf>(
               rows.data() + (row * case_.num_heads + head) * width, width)
        .template cast<double>();
  }
  /// Tokens that caches are filled from.
  static constexpr Index num_tokens = 4096;

  Index token_width() const {
    return case_.num_kv_heads * (case_.head_dim + (case_.is_latent() ? 0 : case_.head_dim_v));
  }
  /// Appends tokens, from `first` on, and again from the first when they are at their end.
  void append(Cache& cache, Index first, Index count) {
    while (count > 0) {
      const Index rows = std::min(count, num_tokens - first);
      const RowsView<const float> all(tokens_.data() + first * token_width(), rows, token_width());
      const Index key_width = case_.num_kv_heads * case_.head_dim;
      if constexpr (Entry::key_layout == KeyLayout::row_major)
        cache.append(all.middle_cols(0, case_.head_dim_v),
                     all.middle_cols(case_.head_dim_v, case_.head_dim - case_.head_dim_v));
      else
        cache.append(
            split_heads(all.middle_cols(0, key_width), case_.num_kv_heads),
            split_heads(all.middle_cols(key_width, token_width() - key_width), case_.num_kv_heads));
      first = 0, count -= rows;
    }
  }
  double scale() const { return default_softmax_scale(case_.head_dim); }
  std::vector<Sequence> sequences(const std::vector<Cache>& caches, std::vector<float>& out) {
    const Index query_width = case_.num_heads * case_.head_dim;
    const Index out_width = case_.num_heads * case_.head_dim_v;
    out.resize(static_cast<std::size_t>(case_.tokens() * out_width));
    std::vector<Sequence> all;
    Index row = 0;
    for (std::size_t i = 0; i < caches.size(); ++i) {
      const Index rows = case_.lengths[i].seqlen_q;
      const RowsView<const float> query(queries_.data() + row * query_width, rows, query_width);
      const RowsView<float> to(out.data() + row * out_width, rows, out_width);
      all.push_back({split_heads(query, case_.num_heads), &caches[i], CausalMask{},
                     split_heads(to, case_.num_heads)});
      row += rows;
    }
    return all;
  }
  void run_one_by_one(const std::vector<Cache>& caches, std::vector<float>& out) {
    for (const Sequence& one : sequences(caches, out))
      attend(one.query, *one.source, one.mask, scale(), one.out, options());
  }
  void run_batch(const std::vector<Cache>& caches, std::vector<float>& out) {
    const auto all = sequences(caches, out);
    attend_batch(std::span<const Sequence>(all), scale(), options());
  }
  AttendOptions<float> options() { return {.executor = executor_, .workspace = &workspace_}; }

  BatchCase case_;
  AnyExecutor executor_;
  std::vector<float> tokens_;   // [num_tokens, token_width]
  std::vector<float> queries_;  // [tokens, num_heads * head_dim]
  std::vector<Cache> copies_, shared_;
  std::vector<float> outs_[3];  // [tokens, num_heads * head_dim_v]
  Workspace workspace_;
};

}  // namespace heed::bench::batch
