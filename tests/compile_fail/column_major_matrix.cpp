// expect: heed: tokens are rows, so the matrix must be row-major.
#include "heed/base/views.hpp"

heed::RowsView<const float> view(const Eigen::MatrixXf& matrix) { return matrix; }
