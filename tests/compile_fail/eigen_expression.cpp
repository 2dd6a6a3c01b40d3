// expect: heed: a view needs an Eigen object with memory behind it.
#include "heed/base/views.hpp"

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

heed::RowsView<const float> view(const Rows& a, const Rows& b) { return a + b; }
