// SPDX-License-Identifier: MIT
/// \file
/// A projection whose weights stay as they are in the model file.
#pragma once

#include <vector>

#include <heed/heed.hpp>

#include "blocks.hpp"  // StoredMatrix

namespace smollm2 {

/// x W^T for heed's layers, with W's blocks widened to float as they are used. Activations are
/// floats and stay so. (llama.cpp rounds them to 8 bits where weights are quantized.)
class StoredProjection : public heed::Projection<float> {
 public:
  /// \param weight  [out, in], in memory that outlives this
  explicit StoredProjection(const StoredMatrix& weight) : weight_(weight) {}

  heed::Index in() const noexcept override { return weight_.cols; }
  heed::Index out() const noexcept override { return weight_.rows; }
  void apply(heed::RowsView<const float> x, heed::RowsView<float> y,
             const heed::AnyExecutor& executor) const override;

 private:
  StoredMatrix weight_;
};

/// All of a stored matrix as floats, [rows, cols].
std::vector<float> widen(const StoredMatrix& matrix);

}  // namespace smollm2
