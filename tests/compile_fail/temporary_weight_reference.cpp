// expect: heed: the weight is a temporary matrix
#include "heed/layers/linear.hpp"

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

heed::Linear<float> linear(const Matrix& a, const Matrix& b) {
  return {Eigen::Ref<const Matrix>(a * b)};
}
