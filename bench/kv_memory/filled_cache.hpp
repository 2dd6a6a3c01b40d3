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
#include "heed/instances/extern_narrow.hpp"
#include "kv_memory/heap_bytes.hpp"
#include "kv_memory/placed_cache.hpp"
#include "kv_memory/reference.hpp"
#include "shared/read_keys.hpp"

namespace heed::bench {
namespace detail {

inline DecodeSizes decode_sizes(const GroupedShape& shape, const MeasuredCase& one) {
  return {.num_heads = shape.num_heads,
          .num_kv_heads = shape.num_kv_heads,
          .head_dim = shape.head_dim,
          .head_dim_v = shape.head_dim_v,
          .first_token = one.tokens - one.tokens_seen(),
          .tokens = one.tokens,
          .value_stream = Stream::value,
          .softmax_scale = default_softmax_scale(shape.head_dim)};
}

/// MLA in absorbed form: all heads attend to the latents as MQA does to its one key. Random
/// elements need the scale of the width they are summed over, not a trained model's 1/sqrt(nope_dim
/// + rope_dim).
inline DecodeSizes decode_sizes(const LatentShape& shape, const MeasuredCase& one) {
  const Index width = shape.latent_dim + shape.rope_dim;
  return {.num_heads = shape.num_heads,
          .num_kv_heads = 1,
          .head_dim = width,
          .head_dim_v = shape.latent_dim,
          .first_token = one.tokens - one.tokens_seen(),
          .tokens = one.tokens,
          .value_stream = Stream::key,
          .softmax_scale = default_softmax_scale(width)};
}

/// Whether a cache gives random tokens back as they were: they are drawn so that it does
/// (random_tokens.hpp).
template <class Element>
inline constexpr bool holds_random_tokens = !has_scales<Element> || std::same_as<Element, int8>;

/// The rows of a head as a cache gives them back.
template <class Cache>
class StoredRows {
  using T = typename Cache::Scalar;

 public:
  StoredRows(const Cache& cache, Index kv_head)
      : key_(read(cache, kv_head, Stream::key)), value_(read(cache, kv_head, Stream::value)),
        width_(cache.head_dim()), width_v_(cache.head_dim_v()) {}

  void operator()(Stream stream, Index token, RowsView<double> rows) const {
    const bool is_key = stream == Stream::key;
    const Index width = is_key ? width_ : width_v_;
    const T* from = (is_key ? key_ : value_).data() + token * width;
    for (Index r = 0; r < rows.rows; ++r, from += width) std::copy_n(from, rows.cols, rows.row(r));
  }

 private:
  /// Of a latent, the key is the row, and values are read from it too.
  static std::vector<T> read(const Cache& cache, Index kv_head, Stream stream) {
    const Index width = stream == Stream::key ? cache.head_dim() : cache.head_dim_v();
    std::vector<T> memory(static_cast<std::size_t>(cache.seqlen() * width));
    const RowsView<T> rows(memory.data(), cache.seqlen(), width);
    if (stream == Stream::key)
      read_keys(cache, kv_head, rows);
    else if constexpr (Cache::key_layout == KeyLayout::transposed)
      cache.read_value(kv_head, rows);
    return memory;
  }

  std::vector<T> key_, value_;
  Index width_, width_v_;
};

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

  using Placed = PlacedCache<decltype(kv_entry(std::declval<const Shape&>())), Element>;

 public:
  FilledCache(const Shape& shape, const MeasuredCase& one, Placement placement,
              const AnyExecutor& executor)
      : sizes_(decode_sizes(shape, one)), window_(one.window), executor_(executor),
        allocated_bytes_(-live_heap_bytes()), placed_(kv_entry(shape), one, placement, page_size) {
    for (Index token = 0; token < one.tokens; token += page_size)
      append_random<T>(shape, token, std::min(page_size, one.tokens - token), placed_.cache());
    allocated_bytes_ += live_heap_bytes();

    query_.resize(static_cast<std::size_t>(sizes_.num_heads * sizes_.head_dim));
    fill_random(Stream::query, 0, 1, RowsView<T>(query_.data(), sizes_.num_heads, sizes_.head_dim));
    for (T& element : query_) element *= query_scale;
    out_.resize(static_cast<std::size_t>(sizes_.num_heads * sizes_.head_dim_v));
  }

  void decode() override {
    const HeadsView<const T> query(query_.data(), sizes_.num_heads, 1, sizes_.head_dim);
    const HeadsView<T> out(out_.data(), sizes_.num_heads, 1, sizes_.head_dim_v);
    const AttendOptions<T> options{.executor = executor_, .workspace = &workspace_};
    if (window_)
      attend(query, placed_.cache(), SlidingWindowMask{.window_left = *window_ - 1},
             sizes_.softmax_scale, out, options);
    else
      attend(query, placed_.cache(), CausalMask{}, sizes_.softmax_scale, out, options);
  }

  Index allocated_bytes() const override { return allocated_bytes_; }
  Index reported_bytes() const override { return placed_.reported_bytes(); }
  Index held_bytes() const override { return placed_.held_bytes(); }

  /// Scores reach about 8, so rounding shifts each by some 8 epsilon, and its weight by as much in
  /// proportion; the weights sum to 1 and values are below 1. Times 4 for the sums' own rounding.
  ///
  /// Native elements have each weight rounded (queries are drawn such that they need not be), to
  /// bf16 by up to a 256th of itself, up or down by chance. An element is then off by a 443rd (a
  /// 256th / sqrt(3)) of the length of all weights times a value, as standard deviation; six of
  /// these are a 74th.
  DecodeError error() const override {
    std::vector<double> expected(out_.size());
    const RowsView<double> rows(expected.data(), sizes_.num_heads, sizes_.head_dim_v);
    const auto decode_exactly = [&](const auto& rows_of_head) {
      return reference_decode(sizes_, rows_of_head, executor_, rows);
    };
    double prob_norm;
    if constexpr (holds_random_tokens<Element>)
      prob_norm = decode_exactly([this](Index kv_head) { return random_rows(sizes_, kv_head); });
    else
      prob_norm =
          decode_exactly([this](Index kv_head) { return StoredRows(placed_.cache(), kv_head); });
    DecodeError error{.allowed = 32 * std::numeric_limits<T>::epsilon() +
                                 (is_native<Element> ? prob_norm / 74 : 0)};
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const double off = std::abs(static_cast<double>(out_[i]) - expected[i]);
      if (!(off <= error.largest)) error.largest = off;  // so does a NaN, and stays
      if (std::isnan(off)) break;
    }
    return error;
  }

 private:
  DecodeSizes sizes_;
  std::optional<Index> window_;
  AnyExecutor executor_;
  Index allocated_bytes_;
  Placed placed_;
  Workspace workspace_;
  std::vector<T> query_, out_;
};

}  // namespace detail

/// A cache that stores `Element`.
template <class Element>
std::unique_ptr<DecodeCase> make_decode_case(const MeasuredCase& one, Placement placement,
                                             const AnyExecutor& executor) {
  return std::visit(
      [&](const auto& shape) -> std::unique_ptr<DecodeCase> {
        using Shape = std::remove_cvref_t<decltype(shape)>;
        if constexpr (CanStore<decltype(kv_entry(shape)), Element>)
          return std::make_unique<detail::FilledCache<Element, Shape>>(shape, one, placement,
                                                                       executor);
        else
          return nullptr;
      },
      one.shape);
}

}  // namespace heed::bench
