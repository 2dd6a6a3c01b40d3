// SPDX-License-Identifier: MIT
/// \file
/// The parts of a layer, naively: linear maps, RMSNorm, and RoPE as the complex product it is.
#pragma once

#include <cmath>
#include <complex>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "reference/attention.hpp"  // Heads, Size

namespace heed::reference {

/// [rows, cols], without gaps.
template <class T>
struct Matrix {
  Size rows = 0;
  Size cols = 0;
  std::vector<T> data = {};

  Matrix() = default;
  Matrix(Size rows_, Size cols_)
      : Matrix(rows_, cols_, std::vector<T>(static_cast<std::size_t>(rows_ * cols_))) {}
  Matrix(Size rows_, Size cols_, std::vector<T> data_)
      : rows(rows_), cols(cols_), data(std::move(data_)) {}

  T& operator()(Size row, Size col) { return data[static_cast<std::size_t>(row * cols + col)]; }
  const T& operator()(Size row, Size col) const {
    return data[static_cast<std::size_t>(row * cols + col)];
  }
};

/// Columns begin .. begin + count.
template <class T>
Matrix<T> columns(const Matrix<T>& x, Size begin, Size count) {
  Matrix<T> result(x.rows, count);
  for (Size row = 0; row < x.rows; ++row)
    for (Size col = 0; col < count; ++col) result(row, col) = x(row, begin + col);
  return result;
}

/// [seqlen, heads * dim] to [heads, seqlen, dim].
template <class T>
Heads<T> split(const Matrix<T>& x, Size heads) {
  Heads<T> result(heads, x.rows, x.cols / heads);
  for (Size head = 0; head < heads; ++head)
    for (Size row = 0; row < x.rows; ++row)
      for (Size col = 0; col < result.cols; ++col)
        result(head, row, col) = x(row, head * result.cols + col);
  return result;
}

/// [heads, seqlen, dim] to [seqlen, heads * dim].
template <class T>
Matrix<T> join(const Heads<T>& x) {
  Matrix<T> result(x.rows, x.heads * x.cols);
  for (Size head = 0; head < x.heads; ++head)
    for (Size row = 0; row < x.rows; ++row)
      for (Size col = 0; col < x.cols; ++col) result(row, head * x.cols + col) = x(head, row, col);
  return result;
}

/// y = x W^T + b; the weight is [out, in], the bias [out] or empty.
template <class T>
struct Linear {
  Matrix<T> weight = {};
  std::vector<T> bias = {};

  Matrix<T> operator()(const Matrix<T>& x) const {
    Matrix<T> y(x.rows, weight.rows);
    for (Size row = 0; row < x.rows; ++row)
      for (Size out = 0; out < weight.rows; ++out) {
        T sum = 0;
        for (Size in = 0; in < x.cols; ++in) sum += x(row, in) * weight(out, in);
        y(row, out) = bias.empty() ? sum : sum + bias[static_cast<std::size_t>(out)];
      }
    return y;
  }
};

/// x / sqrt(mean(x^2) + epsilon) times the gain, row by row.
template <class T>
struct RmsNorm {
  std::vector<T> gain = {};
  T epsilon = 0;

  Matrix<T> operator()(Matrix<T> x) const {
    for (Size row = 0; row < x.rows; ++row) {
      T square_sum = 0;
      for (Size col = 0; col < x.cols; ++col) square_sum += x(row, col) * x(row, col);
      const T rms = std::sqrt(square_sum / static_cast<T>(x.cols) + epsilon);
      for (Size col = 0; col < x.cols; ++col)
        x(row, col) = x(row, col) / rms * gain[static_cast<std::size_t>(col)];
    }
    return x;
  }

  /// Every head of its own.
  Heads<T> operator()(const Heads<T>& x) const {
    const Matrix<T> rows = (*this)(Matrix<T>(x.heads * x.rows, x.cols, x.data));
    return Heads<T>(x.heads, x.rows, x.cols, rows.data);
  }
};

/// Rotates the pair i of the columns first .. first + 2 * frequencies.size() by the angle
/// position * frequencies[i] and scales it. The pair is (2i, 2i+1) or (i, i + half the width).
struct Rope {
  enum class Pairing { interleaved, half_split };

  std::vector<double> frequencies = {};
  Pairing pairing = Pairing::half_split;
  double attention_scaling = 1;

  template <class T>
  Heads<T> operator()(Heads<T> x, const std::vector<Size>& positions, Size first = 0) const {
    const auto half = static_cast<Size>(frequencies.size());
    for (Size head = 0; head < x.heads; ++head)
      for (Size row = 0; row < x.rows; ++row)
        for (Size i = 0; i < half; ++i) {
          const bool interleaved = pairing == Pairing::interleaved;
          T& real = x(head, row, first + (interleaved ? 2 * i : i));
          T& imaginary = x(head, row, first + (interleaved ? 2 * i + 1 : i + half));
          const double angle = static_cast<double>(positions[static_cast<std::size_t>(row)]) *
                               frequencies[static_cast<std::size_t>(i)];
          const std::complex<T> turn(std::polar(attention_scaling, angle));
          const std::complex<T> turned = std::complex<T>(real, imaginary) * turn;
          real = turned.real();
          imaginary = turned.imag();
        }
    return x;
  }
};

}  // namespace heed::reference
