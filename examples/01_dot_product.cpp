// SPDX-License-Identifier: MIT
// Dot-product attention of one head, and why its scores are divided by sqrt(head_dim).
#include <cmath>
#include <cstdio>

#include "inputs.hpp"

namespace {

/// The probabilities themselves: what attention gives if the values are the unit vectors.
Matrix probabilities(const Matrix& query, const Matrix& key, double softmax_scale) {
  const Matrix unit_vectors = Matrix::Identity(key.rows(), key.rows());
  Matrix probs(query.rows(), key.rows());
  heed::attend(query, key, unit_vectors, heed::NoMask{}, softmax_scale, probs);
  return probs;
}

void print(const char* name, const Matrix& matrix) {
  for (heed::Index row = 0; row < matrix.rows(); ++row) {
    std::printf("%-6s", row == 0 ? name : "");
    for (heed::Index col = 0; col < matrix.cols(); ++col)
      std::printf(" %6.3f", static_cast<double>(matrix(row, col)));
    std::printf("\n");
  }
}

double standard_deviation(const Matrix& matrix) {
  const Eigen::ArrayXXd values = matrix.cast<double>();
  return std::sqrt((values - values.mean()).square().mean());
}

void attend_by_hand() {
  Matrix query(2, 4), key(3, 4), value(3, 2);
  query << 2, 0, 0, 0,  // looks for the first key
      0, 0, 0, 0;       // looks for nothing: all keys are alike
  key << 1, 0, 0, 0,    //
      0, 1, 0, 0,       //
      0, 0, 1, 0;
  value << 10, 0,  //
      0, 10,       //
      0, 40;
  Matrix out(2, 2), lse(1, 2);
  heed::attend(query, key, value, heed::NoMask{}, heed::default_softmax_scale(4), out, lse);
  print("probs", probabilities(query, key, heed::default_softmax_scale(4)));
  print("out", out);
  print("lse", lse);
}

void compare_scales() {
  std::printf("\n256 unit-normal queries on 256 unit-normal keys\n");
  std::printf("                    deviation of scores   mean largest probability\n");
  std::printf("head_dim   sqrt     unscaled     scaled       unscaled       scaled\n");
  for (const heed::Index head_dim : {4, 16, 64, 256, 1024}) {
    const Matrix query = normal_matrix(256, head_dim, 1), key = normal_matrix(256, head_dim, 2);
    const double softmax_scale = heed::default_softmax_scale(head_dim);
    const double deviation = standard_deviation(query * key.transpose());
    const Matrix unscaled = probabilities(query, key, 1);
    const Matrix scaled = probabilities(query, key, softmax_scale);
    std::printf("%8td %6.0f %12.1f %10.2f %14.2f %12.2f\n", head_dim, 1 / softmax_scale, deviation,
                deviation * softmax_scale,
                static_cast<double>(unscaled.rowwise().maxCoeff().mean()),
                static_cast<double>(scaled.rowwise().maxCoeff().mean()));
  }
}

}  // namespace

int main() {
  attend_by_hand();
  compare_scales();
}
