// SPDX-License-Identifier: MIT
#include "stored_projection.hpp"

#include <algorithm>
#include <span>

namespace smollm2 {
namespace {

using heed::Index;

/// Rows begin .. begin + count. \param out  [count, cols], overwritten
void widen_rows(const StoredMatrix& matrix, Index begin, Index count, std::vector<float>& out) {
  const auto cols = static_cast<std::size_t>(matrix.cols);
  out.resize(static_cast<std::size_t>(count) * cols);
  const Index bytes = row_bytes(matrix.type, matrix.cols);
  for (Index r = 0; r < count; ++r)
    widen_row(matrix.type, matrix.data + (begin + r) * bytes,
              std::span(out).subspan(static_cast<std::size_t>(r) * cols, cols));
}

/// Outputs of a task. For a token, so few that the widened rows stay in the first cache; for a
/// prompt, so many that Eigen packs x for few tasks.
Index outputs_per_task(Index seqlen) { return seqlen == 1 ? 8 : 256; }

}  // namespace

void StoredProjection::apply(heed::RowsView<const float> x, heed::RowsView<float> y,
                             const heed::AnyExecutor& executor) const {
  const Index most = outputs_per_task(x.rows);
  executor.parallel_for((out() + most - 1) / most, [&](Index task) {
    thread_local std::vector<float> widened;  // kept from call to call
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
