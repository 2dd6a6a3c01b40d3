// SPDX-License-Identifier: MIT
/// \file
/// Gradients of a golden case: attention forward and back, the linear maps around it, and the
/// comparison with what the file recorded.
#pragma once

#include <string>
#include <vector>

#include <Eigen/Core>

#include "golden/case.hpp"              // Case
#include "golden/comparison.hpp"        // Report
#include "golden/policies.hpp"          // CasePolicies
#include "heed/attention/attend.hpp"    // attend
#include "heed/attention/backward.hpp"  // attend_backward
#include "heed/base/views.hpp"          // RowsView, HeadsView
#include "reference/layers.hpp"         // reference::Linear
#include "support/tolerance.hpp"        // golden_bound, gradient_passes

namespace heed::golden {

template <class T>
using RowMajor = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Rows without gaps, for Eigen.
template <class T>
Eigen::Map<const RowMajor<T>> matrix(RowsView<const T> rows) {
  return {rows.data, rows.rows, rows.cols};
}

/// Writes `out` and the gradients of one sequence's attention.
template <class T>
void attend_both_ways(const CasePolicies& policies, Index sequence, HeadsView<const T> query,
                      HeadsView<const T> key, HeadsView<const T> value, HeadsView<const T> grad_out,
                      HeadsView<T> out, const AttendGradients<T>& gradients) {
  RowMajor<T> lse(query.num_heads, query.rows);
  const CaseScore::Policies<T> scores(policies.score(), sequence);
  policies.with<T>(scores, sequence, policies.whole(), [&](const auto& mask, const auto& score) {
    attend(query, key, value, mask, score, out, lse);
    attend_backward(query, key, value, mask, score, {.out = out, .lse = lse}, grad_out, gradients);
  });
}

/// y = x W^T + b, and the gradients of W and b summed over all rows that were added.
template <class T>
struct TrainedLinear {
  RowMajor<T> weight, bias;            // [out, in]; [1, out], 0 if there is none
  RowMajor<T> grad_weight, grad_bias;  // likewise

  explicit TrainedLinear(const reference::Linear<T>& stored)
      : weight(matrix<T>({stored.weight.data.data(), stored.weight.rows, stored.weight.cols})),
        bias(RowMajor<T>::Zero(1, weight.rows())),
        grad_weight(RowMajor<T>::Zero(weight.rows(), weight.cols())), grad_bias(bias) {
    if (!stored.bias.empty()) bias = matrix<T>({stored.bias.data(), 1, weight.rows()});
  }

  RowMajor<T> forward(const RowMajor<T>& x) const {
    return (x * weight.transpose()).rowwise() + bias.row(0);
  }
  /// d loss / d x, from d loss / d y.
  RowMajor<T> grad_input(const RowMajor<T>& grad_y) const { return grad_y * weight; }
  void add(const RowMajor<T>& x, const RowMajor<T>& grad_y) {
    grad_weight += grad_y.transpose() * x;
    grad_bias += grad_y.colwise().sum();
  }
  /// Both.
  RowMajor<T> backward(const RowMajor<T>& x, const RowMajor<T>& grad_y) {
    add(x, grad_y);
    return grad_input(grad_y);
  }
};

/// A file whose gradients attend_both_ways cannot give.
inline void require_no_sinks(const Case& golden) {
  if (golden.has("w.sinks")) throw NotUnderstood("gradients of attention with sinks");
}

/// Holds gradients against those of the file.
class RecordedGradients {
 public:
  /// \param stages  of the forward pass
  RecordedGradients(const Case& golden, Index stages, Report& report)
      : case_(golden), stages_(test::gradient_passes * stages), report_(report),
        source_error_(golden.metadata.real("grad_f32_vs_f64_max_rel")) {}

  /// Does nothing if the file does not have this one. The file has no float32 run of the gradients,
  /// but says how far that of its source was off, as a part of the largest element.
  template <class T>
  void compare(const std::string& name, const std::vector<T>& ours,
               const std::vector<Index>& shape) const {
    if (!case_.has(name)) return;
    const auto recorded = case_.values<double>(name, shape);
    const double magnitude = largest_magnitude(recorded), source = source_error_ * magnitude;
    report_.comparisons.push_back({.what = name,
                                   .error = largest_difference(ours, recorded),
                                   .source = source,
                                   .magnitude = magnitude,
                                   .bound = test::golden_bound<T>(source, magnitude, stages_)});
  }
  template <class T>
  void compare(const std::string& name, const RowMajor<T>& ours) const {
    compare(name, elements(ours), {ours.rows(), ours.cols()});
  }
  /// A matrix of one row: a vector in the file.
  template <class T>
  void compare_row(const std::string& name, const RowMajor<T>& ours) const {
    compare(name, elements(ours), {ours.cols()});
  }
  /// Of the weights NAME.weight and NAME.bias.
  template <class T>
  void compare_linear(const std::string& name, const TrainedLinear<T>& ours) const {
    compare("grad." + name + ".weight", ours.grad_weight);
    compare_row("grad." + name + ".bias", ours.grad_bias);
  }

 private:
  template <class T>
  static std::vector<T> elements(const RowMajor<T>& m) {
    return {m.data(), m.data() + m.size()};
  }

  const Case& case_;
  Index stages_;
  Report& report_;
  double source_error_;
};

}  // namespace heed::golden
