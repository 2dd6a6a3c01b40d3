// expect: heed: what is written here would be lost: the matrix is a temporary one.
#include "heed/attention/attend.hpp"

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

void use(const Matrix& rows) {
  heed::attend(rows, rows, rows, heed::NoMask{}, 0.5, Matrix(rows.rows(), rows.cols()));
}
