// SPDX-License-Identifier: MIT
/// \file
/// Rows whose columns are wanted as vectors. Layer 1, detail.
#pragma once

#include <algorithm>

#include "heed/base/views.hpp"
#include "heed/simd/packet.hpp"

namespace heed::simd {

/// The columns of as many rows as a vector has lanes, of each row as many elements.
template <class T>
PacketSquare<T> load_columns(const T* from, Index stride) {
  constexpr Index n = lanes<T>;
  PacketSquare<T> square;
  for (Index i = 0; i < n; ++i) square.packet[i] = load(from + i * stride);
  if constexpr (n > 1) Eigen::internal::ptranspose(square);
  return square;
}
#if defined(__AVX512F__)
/// Row i and the one 8 below it side by side, half of each: so the loads do what would else take a
/// fourth of the shuffles, and memory is read from few rows at a time.
template <>
inline PacketSquare<float> load_columns<float>(const float* from, Index stride) {
  const auto halves = [&](Index row, Index column) {
    const float* const at = from + row * stride + column;
    const __m256d below = _mm256_castps_pd(_mm256_loadu_ps(at + 8 * stride));
    return _mm512_insertf64x4(_mm512_castps_pd(_mm512_castps256_ps512(_mm256_loadu_ps(at))), below,
                              1);
  };
  __m512d half[8][2];
#pragma GCC unroll 8
  for (Index i = 0; i < 8; ++i) half[i][0] = halves(i, 0), half[i][1] = halves(i, 8);
  const auto pairs = [](const __m512d& a, const __m512i& which, const __m512d& b) {
    return _mm512_castpd_ps(_mm512_permutex2var_pd(a, which, b));
  };
  const __m512i even = _mm512_set_epi64(13, 12, 5, 4, 9, 8, 1, 0),
                odd = _mm512_set_epi64(15, 14, 7, 6, 11, 10, 3, 2);
  // Four columns of rows i, i + 4, i + 8 and i + 12, one row in each quarter.
  __m512 quarters[4][4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i)
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      quarters[2 * h][i] = pairs(half[i][h], even, half[i + 4][h]);
      quarters[2 * h + 1][i] = pairs(half[i][h], odd, half[i + 4][h]);
    }
  PacketSquare<float> square;
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const auto& row = quarters[c];
    const __m512d low01 = _mm512_castps_pd(_mm512_unpacklo_ps(row[0], row[1])),
                  high01 = _mm512_castps_pd(_mm512_unpackhi_ps(row[0], row[1])),
                  low23 = _mm512_castps_pd(_mm512_unpacklo_ps(row[2], row[3])),
                  high23 = _mm512_castps_pd(_mm512_unpackhi_ps(row[2], row[3]));
    square.packet[4 * c] = _mm512_castpd_ps(_mm512_unpacklo_pd(low01, low23));
    square.packet[4 * c + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low01, low23));
    square.packet[4 * c + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high01, high23));
    square.packet[4 * c + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high01, high23));
  }
  return square;
}
#endif

/// [cols, lanes]: the columns of a part of a square, zeros where rows are not there.
template <class T>
void part_columns(RowsView<const T> from, T* to) {
  constexpr Index n = lanes<T>;
  T rows[n * n]{};
  for (Index i = 0; i < from.rows; ++i)
    store(rows + i * n, from.cols == n ? load(from.row(i)) : load_some(from.row(i), from.cols));
  const PacketSquare<T> square = load_columns(rows, n);
  for (Index i = 0; i < n; ++i) store(to + i * n, square.packet[i]);
}

/// to[c * to_stride + r] = from(r, c): token r becomes a column, [rows, cols] -> [cols, rows]; and
/// zeros for as many more rows as fill a vector.
template <class T>
void transpose_padded(RowsView<const T> from, T* to, Index to_stride) {
  constexpr Index n = lanes<T>;
  for (Index r = 0; r < from.rows; r += n)
    for (Index c = 0; c < from.cols; c += n) {
      const Index rows = std::min(n, from.rows - r), cols = std::min(n, from.cols - c);
      T* const at = to + c * to_stride + r;
      if (rows == n && cols == n) {
        const PacketSquare<T> square = load_columns(from.row(r) + c, from.stride);
        for (Index i = 0; i < n; ++i) store(at + i * to_stride, square.packet[i]);
      } else {
        T columns[n * n];
        part_columns(from.middle_rows(r, rows).middle_cols(c, cols), columns);
        for (Index i = 0; i < cols; ++i) store(at + i * to_stride, load(columns + i * n));
      }
    }
}

/// The same without the zeros.
template <class T>
void transpose(RowsView<const T> from, T* to, Index to_stride) {
  const Index whole = from.rows / lanes<T> * lanes<T>;
  transpose_padded(from.middle_rows(0, whole), to, to_stride);
  for (Index r = whole; r < from.rows; ++r)
    for (Index c = 0; c < from.cols; ++c) to[c * to_stride + r] = from(r, c);
}

}  // namespace heed::simd
