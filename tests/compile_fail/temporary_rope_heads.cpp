// expect: heed: what is written here would be lost: the matrix is a temporary one.
#include "heed/rope/rope.hpp"

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

void call(const heed::Rope& rope, const Matrix& head) { rope.rotate(Matrix(head), 0); }
