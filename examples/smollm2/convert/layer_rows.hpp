// SPDX-License-Identifier: MIT
/// \file
/// Tensors put together from rows of others.
#pragma once

#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "blocks.hpp"
#include "gguf_writer.hpp"
#include "model.hpp"

namespace smollm2 {

/// A tensor in the making. Rows keep their blocks: what is copied loses nothing.
class RowsInTheMaking {
 public:
  RowsInTheMaking(TensorType type, Index cols) : type_(type), cols_(cols) {}

  void copy(const StoredMatrix& from, Index row) {
    const std::size_t size = grow();
    std::memcpy(data_.data() + size, from.row(row), data_.size() - size);
  }
  /// Zeros, of which the blocks of every type consist if all their bytes are zero.
  void zero() { grow(); }
  void add(std::span<const float> row) {
    const std::size_t size = grow();
    narrow_row(type_, row, data_.data() + size);
  }

  TensorType type() const noexcept { return type_; }
  Index rows() const noexcept { return rows_; }
  Index cols() const noexcept { return cols_; }
  std::vector<std::byte> take() && { return std::move(data_); }

 private:
  /// \returns  the bytes before
  std::size_t grow() {
    const std::size_t size = data_.size();
    data_.resize(size + static_cast<std::size_t>(row_bytes(type_, cols_)));
    ++rows_;
    return size;
  }

  TensorType type_;
  Index cols_, rows_ = 0;
  std::vector<std::byte> data_;
};

/// A tensor as it is, in the file's memory.
inline void add_as_is(const std::string& name, const StoredMatrix& tensor, GgufWriter& out) {
  out.add_tensor(name, tensor.type, tensor.rows, tensor.cols, tensor.bytes());
}

/// Throws for what a conversion would leave out. \param endings  of the tensors' names
inline void refuse_biases(const GgufFile& file, std::initializer_list<std::string_view> endings) {
  for (const auto& [name, tensor] : file.tensors())
    for (const std::string_view ending : endings)
      if (name.ends_with(ending))
        throw std::invalid_argument("the model has " + name + ", and biases are not converted");
}

/// A stored matrix as an Eigen one.
inline Matrix widened(const StoredMatrix& matrix) {
  const std::vector<float> all = widen(matrix);
  return Eigen::Map<const Matrix>(all.data(), matrix.rows, matrix.cols);
}

}  // namespace smollm2
