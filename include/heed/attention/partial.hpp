// SPDX-License-Identifier: MIT
/// \file
/// What a tile of rows has found among some of its keys. Layer 5, detail.
#pragma once

#include <algorithm>

#include "heed/base/workspace.hpp"
#include "heed/simd/factors.hpp"
#include "heed/softmax/state.hpp"

namespace heed::detail {

/// A tile's unfinished result: per row a softmax state and a sum of values.
template <class T>
struct Partial {
  SoftmaxState<T>* state;  ///< [rows]
  T* sum;                  ///< [rows, stride]
  Index stride;            ///< head_dim_v, padded

  void reset(Index rows) const {
    std::fill_n(state, rows, SoftmaxState<T>{});
    std::fill_n(sum, rows * stride, T{0});
  }
  Partial from_row(Index row) const { return {state + row, sum + row * stride, stride}; }
  /// Multiplies what was summed for a row, whose scores are now relative to another one.
  void rescale(Index row, T factor) const {
    state[row].row_sum *= factor;
    T* const values = sum + row * stride;
    simd::copy_scaled(values, stride, factor, values);
  }
  /// Adds what `other` found among other keys. A side whose keys had no weight adds nothing, not
  /// even a NaN: results must not depend on where a task's keys begin.
  void merge(const Partial& other, Index rows) const {
    for (Index r = 0; r < rows; ++r) {
      if (other.state[r].empty()) continue;
      T* const to = sum + r * stride;
      const T* const from = other.sum + r * stride;
      if (state[r].empty()) std::fill_n(to, stride, T{0});
      const auto factors = state[r].merge(other.state[r]);
      for (Index c = 0; c < stride; ++c) to[c] = factors.self * to[c] + factors.other * from[c];
    }
  }
};

/// Partial results, each of as many rows, in one borrowed block. Their content is unspecified.
template <class T>
class Partials {
 public:
  /// \param width  of a row: head_dim_v, padded
  Partials(Workspace& workspace, Index count, Index rows, Index width)
      : count_(count), rows_(rows), width_(width),
        block_(workspace.borrow(
            static_cast<std::size_t>(count * rows) *
            (static_cast<std::size_t>(width) * sizeof(T) + sizeof(SoftmaxState<T>)))) {}

  Partial<T> operator[](Index i) const {
    T* const sums = reinterpret_cast<T*>(block_.data());
    auto* const states = reinterpret_cast<SoftmaxState<T>*>(sums + count_ * rows_ * width_);
    return {states + i * rows_, sums + i * rows_ * width_, width_};
  }

 private:
  Index count_, rows_, width_;
  Workspace::Borrowed block_;
};

}  // namespace heed::detail
