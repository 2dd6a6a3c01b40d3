// SPDX-License-Identifier: MIT
#include "stored_projection.hpp"

#include <algorithm>
#include <span>

namespace smollm2 {
namespace {

using heed::Index;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Rows begin .. begin + count. \param out  [count, cols], overwritten
void widen_rows(const StoredMatrix& matrix, Index begin, Index count, std::vector<float>& out) {
  const auto cols = static_cast<std::size_t>(matrix.cols);
  out.resize(static_cast<std::size_t>(count) * cols);
  const Index bytes = row_bytes(matrix.type, matrix.cols);
  for (Index r = 0; r < count; ++r)
    widen_row(matrix.type, matrix.data + (begin + r) * bytes,
              std::span(out).subspan(static_cast<std::size_t>(r) * cols, cols));
}

/// Outputs of a task.
constexpr Index task_outputs = 64;
/// Of a prompt, so many that Eigen packs x for few tasks.
constexpr Index prompt_task_outputs = 256;

/// A token's x W^T, block by block.
void apply_to_row(const StoredMatrix& weight, std::span<const float> x, heed::RowsView<float> y,
                  const heed::AnyExecutor& executor) {
  thread_local std::vector<float> sums_here;  // scratch of each thread, kept from call to call
  std::vector<float>& sums = sums_here;       // the calling thread's, for all tasks
  sums.resize(x.size() / 32);
  const Eigen::Map<const Matrix> parts(x.data(), std::ssize(sums), 32);
  Eigen::Map<Eigen::VectorXf>(sums.data(), std::ssize(sums)) = parts.rowwise().sum();
  const Index bytes = row_bytes(weight.type, weight.cols);
  executor.parallel_for(heed::ceil_div(weight.rows, task_outputs), [&](Index task) {
    const Index begin = task * task_outputs, end = std::min(weight.rows, begin + task_outputs);
    for (Index row = begin; row < end; ++row)
      y(0, row) = dot_row(weight.type, weight.data + row * bytes, x, sums);
  });
}

}  // namespace

void StoredProjection::apply(heed::RowsView<const float> x, heed::RowsView<float> y,
                             const heed::AnyExecutor& executor) const {
  if (x.rows == 1 && has_dot_row(weight_.type))
    return apply_to_row(weight_, {x.data, static_cast<std::size_t>(x.cols)}, y, executor);
  const Index most = x.rows == 1 ? task_outputs : prompt_task_outputs;
  executor.parallel_for(heed::ceil_div(out(), most), [&](Index task) {
    thread_local std::vector<float> widened;
    const Index begin = task * most, count = std::min(most, out() - begin);
    widen_rows(weight_, begin, count, widened);
    const heed::Linear<float> tile{{widened.data(), count, in()}};
    tile.apply(x, y.middle_cols(begin, count), heed::SerialExecutor{});
  });
}

std::vector<float> widen(const StoredMatrix& matrix) {
  std::vector<float> all;
  widen_rows(matrix, 0, matrix.rows, all);
  return all;
}

}  // namespace smollm2
