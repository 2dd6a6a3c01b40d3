// expect: HeadsView
#include "heed/attention/attend.hpp"

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

void use(const Matrix& rows) {
  heed::attend(heed::split_heads(rows, 2), heed::split_heads(rows, 2), heed::split_heads(rows, 2),
               heed::NoMask{}, 0.5, heed::split_heads(Matrix(rows.rows(), rows.cols()), 2));
}
