// compiles: what the cases beside this file do wrong, done right
#include "heed/base/executor.hpp"
#include "heed/base/views.hpp"

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

void views(Rows& matrix, const Rows& constant) {
  heed::RowsView<float> writable(matrix);
  heed::RowsView<const float> readable(constant);
  heed::HeadsView<const float> heads = writable;
  readable = matrix.leftCols(2);
}

struct CallerExecutor {
  heed::Index concurrency() const { return 1; }
  template <class Body>
  void parallel_for(heed::Index count, const Body& body) const {
    for (heed::Index task = 0; task < count; ++task) body(task);
  }
};
heed::AnyExecutor executor = CallerExecutor{};
