// expect: heed: a view needs an Eigen object with memory behind it. Write the expression to a
#include "heed/base/views.hpp"

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
auto heads(const Matrix& x, const Matrix& weight) {
  return heed::split_heads(x * weight.transpose(), 2);
}
