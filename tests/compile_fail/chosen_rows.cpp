// expect: heed: a view needs an Eigen object with memory behind it. Write the expression to a
#include "heed/base/views.hpp"

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
// Eigen says of these that they have direct access, but not where.
heed::RowsView<const float> even_rows(Matrix& x) {
  return x(Eigen::seq(0, Eigen::last, 2), Eigen::all);
}
