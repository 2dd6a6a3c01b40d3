// SPDX-License-Identifier: MIT
/// \file
/// The inputs and outputs of a golden case, sequence by sequence.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "golden/case.hpp"       // Case
#include "heed/base/views.hpp"   // RowsView
#include "reference/layers.hpp"  // reference::Matrix

namespace heed::golden {

/// [batch, rows, cols] with a view of each sequence.
template <class T>
class Sequences {
 public:
  Sequences() = default;
  /// The tensor of that name.
  Sequences(const Case& golden, const std::string& name, Index rows, Index cols)
      : rows_(rows), cols_(cols), data_(golden.values<T>(name, {golden.batch, rows, cols})) {}
  /// Filled with what no result is.
  Sequences(Index batch, Index rows, Index cols)
      : rows_(rows), cols_(cols),
        data_(static_cast<std::size_t>(batch * rows * cols), std::numeric_limits<T>::quiet_NaN()) {}

  RowsView<const T> operator[](Index sequence) const {
    return {data_.data() + sequence * rows_ * cols_, rows_, cols_};
  }
  RowsView<T> operator[](Index sequence) {
    return {data_.data() + sequence * rows_ * cols_, rows_, cols_};
  }

  /// All sequences, one after another.
  RowsView<const T> all() const { return {data_.data(), std::ssize(data_) / cols_, cols_}; }
  RowsView<T> all() { return {data_.data(), std::ssize(data_) / cols_, cols_}; }

  const std::vector<T>& data() const { return data_; }
  reference::Matrix<T> matrix(Index sequence) const {
    const T* begin = (*this)[sequence].data;
    return {rows_, cols_, {begin, begin + rows_ * cols_}};
  }

 private:
  Index rows_ = 0, cols_ = 0;
  std::vector<T> data_;
};

/// [batch, heads, rows, cols] with a view of each sequence.
template <class T>
class HeadSequences {
 public:
  /// The tensor of that name.
  HeadSequences(const Case& golden, const std::string& name, Index heads, Index rows, Index cols)
      : heads_(heads), rows_(rows), cols_(cols),
        data_(golden.values<T>(name, {golden.batch, heads, rows, cols})) {}
  /// Filled with what no result is.
  HeadSequences(Index batch, Index heads, Index rows, Index cols)
      : heads_(heads), rows_(rows), cols_(cols),
        data_(static_cast<std::size_t>(batch * heads * rows * cols),
              std::numeric_limits<T>::quiet_NaN()) {}

  HeadsView<const T> operator[](Index sequence) const {
    return {data_.data() + sequence * size(), heads_, rows_, cols_};
  }
  HeadsView<T> operator[](Index sequence) {
    return {data_.data() + sequence * size(), heads_, rows_, cols_};
  }

  const std::vector<T>& data() const { return data_; }
  reference::Heads<T> naive(Index sequence) const {
    const auto begin = data_.begin() + sequence * size();
    return {heads_, rows_, cols_, {begin, begin + size()}};
  }

 private:
  Index size() const { return heads_ * rows_ * cols_; }

  Index heads_, rows_, cols_;
  std::vector<T> data_;
};

template <class T>
RowsView<T> view(reference::Matrix<T>& matrix) {
  return {matrix.data.data(), matrix.rows, matrix.cols};
}

/// Positions that a layer has to be told: none if they are what it counts by itself.
inline std::vector<Index> told_positions(const Case& golden, Index sequence) {
  std::vector<Index> positions = golden.positions(sequence);
  Index next = 0;
  const bool counts =
      std::all_of(positions.begin(), positions.end(), [&](Index p) { return p == next++; });
  return counts ? std::vector<Index>{} : positions;
}

/// The part of them that belongs to a chunk.
inline std::span<const Index> chunk_of(const std::vector<Index>& positions, Index begin,
                                       Index count) {
  if (positions.empty()) return {};
  return std::span(positions).subspan(static_cast<std::size_t>(begin),
                                      static_cast<std::size_t>(count));
}

/// Every token a chunk of its own.
inline std::vector<Index> token_by_token(const Case& golden) {
  return std::vector<Index>(static_cast<std::size_t>(golden.seqlen_q), 1);
}

/// The first `count` of every `width` columns.
template <class T>
std::vector<T> first_columns(const std::vector<T>& rows, Index width, Index count) {
  std::vector<T> columns;
  for (auto row = rows.begin(); row != rows.end(); row += width)
    columns.insert(columns.end(), row, row + count);
  return columns;
}

}  // namespace heed::golden
