// SPDX-License-Identifier: MIT
/// \file
/// The output that a golden file recorded, and what it should be where the source has none.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "golden/case.hpp"        // Case
#include "golden/comparison.hpp"  // Report
#include "golden/mask.hpp"        // CaseMask

namespace heed::golden {

/// A query that sees no key is NaN in torch, and an average over hidden keys in transformers, which
/// marks it by `row_valid` 0. In heed it attends to nothing, and a layer's output is its output
/// bias. The naive code, which does so too, stands in for the file there.
class RecordedOut {
 public:
  /// \param shape  of `out`: [batch, seqlen_q, model_dim] or [batch, heads, seqlen_q, head_dim_v]
  /// \param naive  the naive output, of that shape
  RecordedOut(const Case& golden, const CaseMask& mask, const std::vector<Index>& shape,
              const std::vector<double>& naive)
      : out_(golden.values<double>("out", shape)), source_(golden.values<float>("out_f32", shape)) {
    std::vector<int> valid(static_cast<std::size_t>(golden.batch * golden.seqlen_q), 1);
    if (golden.has("row_valid"))
      valid = golden.values<int>("row_valid", {golden.batch, golden.seqlen_q});
    const Index width = shape.back(), rows = static_cast<Index>(out_.size()) / width;
    Index num_compared = 0;
    for (Index row = 0; row < rows; ++row) {
      const Index q = row % golden.seqlen_q, sequence = row / (rows / golden.batch);
      const auto begin = static_cast<std::size_t>(row * width);
      const std::span numbers(out_.data() + begin, static_cast<std::size_t>(width));
      const bool is_nan = std::ranges::any_of(numbers, [](double x) { return std::isnan(x); });
      if (is_nan && !mask.has_blind_head(sequence, q))
        throw NotUnderstood("out is NaN in a row that sees keys");
      const bool is_valid = valid[static_cast<std::size_t>(sequence * golden.seqlen_q + q)] != 0;
      num_compared += is_nan || is_valid;
      if (!is_nan && is_valid) continue;
      for (std::size_t i = begin; i < begin + static_cast<std::size_t>(width); ++i) {
        out_[i] = naive[i];
        source_[i] = static_cast<float>(naive[i]);
      }
    }
    if (num_compared == 0 && rows > 0) throw NotUnderstood("row_valid leaves nothing to compare");
  }

  template <class T>
  void compare(Report& report, std::string what, const std::vector<T>& ours, Index stages) const {
    report.add(std::move(what), ours, out_, source_, stages);
  }

 private:
  std::vector<double> out_;
  std::vector<float> source_;
};

}  // namespace heed::golden
