// expect: heed: the matrix has other elements than the view
#include "heed/base/views.hpp"

using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

heed::HeadsView<const float> view(const Rows& matrix) { return matrix; }
