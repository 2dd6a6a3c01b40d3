// expect: heed: the softmax scale is an integer, as 1 / 8 is, which is 0. Write 1.0 / 8.
#include "heed/attention/attend.hpp"

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

void use(const Matrix& rows, Matrix& out) {
  heed::attend(rows, rows, rows, heed::NoMask{}, 1 / 8, out);
}
