// SPDX-License-Identifier: MIT
/// \file
/// A KvCache of random tokens as a DecodeCase.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "heed/attention/attend.hpp"
#include "heed/cache/kv_cache.hpp"
#include "kv_memory/decode_case.hpp"
#include "kv_memory/heap_bytes.hpp"
#include "kv_memory/reference.hpp"

namespace heed::bench {
namespace detail {

inline DecodeSizes decode_sizes(const GroupedShape& shape, Index tokens) {
  return {.num_heads = shape.num_heads,
          .num_kv_heads = shape.num_kv_heads,
          .head_dim = shape.head_dim,
          .head_dim_v = shape.head_dim_v,
          .tokens = tokens,
          .value_stream = Stream::value,
          .softmax_scale = 1 / std::sqrt(static_cast<double>(shape.head_dim))};
}

/// MLA in absorbed form: all heads attend to the latents as MQA does to its one key. Random
/// elements need the scale of the width they are summed over, not a trained model's 1/sqrt(nope_dim
/// + rope_dim).
inline DecodeSizes decode_sizes(const LatentShape& shape, Index tokens) {
  const Index width = shape.latent_dim + shape.rope_dim;
  return {.num_heads = shape.num_heads,
          .num_kv_heads = 1,
          .head_dim = width,
          .head_dim_v = shape.latent_dim,
          .tokens = tokens,
          .value_stream = Stream::key,
          .softmax_scale = 1 / std::sqrt(static_cast<double>(width))};
}

template <class Element>
auto make_cache(const GroupedShape& shape, Index tokens) {
  return KvCache<FullKv<>, Element>(tokens, FullKv<>{.num_kv_heads = shape.num_kv_heads,
                                                     .head_dim = shape.head_dim,
                                                     .head_dim_v = shape.head_dim_v});
}
template <class Element>
auto make_cache(const LatentShape& shape, Index tokens) {
  return KvCache<LatentKv<>, Element>(
      tokens, LatentKv<>{.latent_dim = shape.latent_dim, .rope_dim = shape.rope_dim});
}

/// Appends `count` random tokens. Row token * num_kv_heads + kv_head of a stream is that head's.
template <class T, class Cache>
void append_random(const GroupedShape& shape, Index first_token, Index count, Cache& cache) {
  const Index heads = shape.num_kv_heads;
  const auto rows = [&](Stream stream, Index width, std::vector<T>& memory) {
    memory.resize(static_cast<std::size_t>(count * heads * width));
    fill_random(stream, first_token * heads, 1, RowsView<T>(memory.data(), count * heads, width));
    return split_heads(RowsView<T>(memory.data(), count, heads * width), heads);
  };
  std::vector<T> keys, values;
  cache.append(rows(Stream::key, shape.head_dim, keys),
               rows(Stream::value, shape.head_dim_v, values));
}
template <class T, class Cache>
void append_random(const LatentShape& shape, Index first_token, Index count, Cache& cache) {
  const Index width = shape.latent_dim + shape.rope_dim;
  std::vector<T> memory(static_cast<std::size_t>(count * width));
  const RowsView<T> rows(memory.data(), count, width);
  fill_random(Stream::key, first_token, 1, rows);
  cache.append(rows.middle_cols(0, shape.latent_dim),
               rows.middle_cols(shape.latent_dim, shape.rope_dim));
}

template <class Element, class Shape>
class FilledCache final : public DecodeCase {
  using T = ComputeType<Element>;

 public:
  FilledCache(const Shape& shape, Index tokens, const AnyExecutor& executor)
      : sizes_(decode_sizes(shape, tokens)), executor_(executor),
        allocated_bytes_(-live_heap_bytes()), cache_(make_cache<Element>(shape, tokens)) {
    for (Index token = 0; token < tokens; token += page_size)
      append_random<T>(shape, token, std::min(page_size, tokens - token), cache_);
    allocated_bytes_ += live_heap_bytes();

    query_.resize(static_cast<std::size_t>(sizes_.num_heads * sizes_.head_dim));
    fill_random(Stream::query, 0, 1, RowsView<T>(query_.data(), sizes_.num_heads, sizes_.head_dim));
    for (T& element : query_) element *= query_scale;
    out_.resize(static_cast<std::size_t>(sizes_.num_heads * sizes_.head_dim_v));
  }

  void decode() override {
    const HeadsView<const T> query(query_.data(), sizes_.num_heads, 1, sizes_.head_dim);
    const HeadsView<T> out(out_.data(), sizes_.num_heads, 1, sizes_.head_dim_v);
    attend(query, cache_, CausalMask{}, sizes_.softmax_scale, out,
           {.executor = executor_, .workspace = &workspace_});
  }

  Index allocated_bytes() const override { return allocated_bytes_; }
  Index reported_bytes() const override { return static_cast<Index>(cache_.bytes()); }

  double largest_error() const override {
    std::vector<double> expected(out_.size());
    reference_decode(sizes_, executor_,
                     RowsView<double>(expected.data(), sizes_.num_heads, sizes_.head_dim_v));
    double largest = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const double error = std::abs(static_cast<double>(out_[i]) - expected[i]);
      if (std::isnan(error)) return error;
      largest = std::max(largest, error);
    }
    return largest;
  }

  /// Scores reach about 8, so rounding shifts each by some 8 epsilon, and its weight by as much in
  /// proportion; the weights sum to 1 and values are below 1. Times 4 for the sums' own rounding.
  double tolerance() const override { return 32 * std::numeric_limits<T>::epsilon(); }

 private:
  DecodeSizes sizes_;
  AnyExecutor executor_;
  Index allocated_bytes_;
  decltype(make_cache<Element>(std::declval<const Shape&>(), Index{})) cache_;
  Workspace workspace_;
  std::vector<T> query_, out_;
};

}  // namespace detail

/// A cache of `tokens` tokens that stores `Element`.
template <class Element>
std::unique_ptr<DecodeCase> make_decode_case(const AttentionShape& shape, Index tokens,
                                             const AnyExecutor& executor) {
  return std::visit(
      [&](const auto& one) -> std::unique_ptr<DecodeCase> {
        using Shape = std::remove_cvref_t<decltype(one)>;
        return std::make_unique<detail::FilledCache<Element, Shape>>(one, tokens, executor);
      },
      shape);
}

}  // namespace heed::bench
