// SPDX-License-Identifier: MIT
/// \file
/// Scores against row-major keys: dot products in register tiles. Layer 1, detail.
#pragma once

#include "heed/simd/product.hpp"

namespace heed::simd {
namespace detail {

/// Tokens and rows of the largest tile: rows * tokens sums, a register per row and one for the
/// token.
inline constexpr int dot_tokens = 4;
inline constexpr int dot_rows = num_registers >= 32 ? 5 : 3;

template <int Rows, int Tokens, class T>
void dot_tile(const T* left, Index left_stride, const T* right, Index right_stride, Index depth,
              T* out, Index out_stride) {
  Packet<T> sum[Rows][Tokens];
  for (auto& row : sum)
    for (auto& s : row) s = broadcast(T{0});
  for (Index k = 0; k < depth; k += lanes<T>) {
    Packet<T> query[Rows];
    for (int r = 0; r < Rows; ++r) query[r] = keep_in_register(load(left + r * left_stride + k));
    for (int t = 0; t < Tokens; ++t) {
      const Packet<T> key = keep_in_register(load(right + t * right_stride + k));
      for (int r = 0; r < Rows; ++r) sum[r][t] = mul_add(query[r], key, sum[r][t]);
    }
  }
  for (int r = 0; r < Rows; ++r)
    for (int t = 0; t < Tokens; ++t) out[r * out_stride + t] = sum_lanes(sum[r][t]);
}

}  // namespace detail

/// out[r, t] = left row r . right row t, for `rows` rows and `tokens` tokens. `depth` is a multiple
/// of the vector width: rows are padded with zeros.
template <class T>
void dot_product(const T* left, Index left_stride, const T* right, Index right_stride, Index depth,
                 T* out, Index out_stride, Index rows, Index tokens) {
  using namespace detail;
  // Tokens outside: a few rows of the page stay in the L1 cache while all query rows pass by.
  for (Index t = 0; t < tokens; t += dot_tokens)
    with_constant<dot_tokens>(
        static_cast<int>(std::min<Index>(dot_tokens, tokens - t)), [&](auto width) {
          for (Index r = 0; r < rows; r += dot_rows)
            with_constant<dot_rows>(
                static_cast<int>(std::min<Index>(dot_rows, rows - r)), [&](auto height) {
                  dot_tile<decltype(height)::value, decltype(width)::value>(
                      left + r * left_stride, left_stride, right + t * right_stride, right_stride,
                      depth, out + r * out_stride + t, out_stride);
                });
        });
}

}  // namespace heed::simd
