// expect: heed: tokens are rows, so the matrix must be row-major.
#include "heed/base/views.hpp"

auto view(Eigen::MatrixXf& matrix) { return heed::split_heads(matrix, 2); }
