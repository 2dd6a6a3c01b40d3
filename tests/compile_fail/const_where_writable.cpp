// expect: is const where heed writes.
#include "heed/base/views.hpp"

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

heed::RowsView<float> view(const Rows& matrix) { return matrix; }
