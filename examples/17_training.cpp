// SPDX-License-Identifier: MIT
// Training: attend_backward and gradient descent, until attention looks one token back.
#include <cstdio>
#include <random>

#include "inputs.hpp"

namespace {

constexpr heed::Index seqlen = 32, dim = 16;
const double softmax_scale = heed::default_softmax_scale(dim);

/// A layer of one head: query, key and value are x times their weights, the first two turned.
struct Attention {
  Matrix query_weight, key_weight, value_weight;  // [out, in]
  heed::Rope rope{{.rope_dim = dim, .theta = 100}};

  /// What the backward pass needs of the forward pass.
  struct Pass {
    Matrix x, query, key, value, out, lse;
  };
  Pass forward(const Matrix& x) const {
    Pass pass{x,
              x * query_weight.transpose(),
              x * key_weight.transpose(),
              x * value_weight.transpose(),
              Matrix(seqlen, dim),
              Matrix(1, seqlen)};
    rope.rotate(pass.query, 0);
    rope.rotate(pass.key, 0);
    heed::attend(pass.query, pass.key, pass.value, heed::CausalMask{}, softmax_scale, pass.out,
                 pass.lse);
    return pass;
  }

  /// A step downhill. \param grad_out  d loss / d out
  void learn(const Pass& pass, const Matrix& grad_out, float rate) {
    Matrix grad_query(seqlen, dim), grad_key(seqlen, dim), grad_value(seqlen, dim);
    heed::attend_backward(pass.query, pass.key, pass.value, heed::CausalMask{}, softmax_scale,
                          {.out = pass.out, .lse = pass.lse}, grad_out,
                          {.query = grad_query, .key = grad_key, .value = grad_value});
    rope.rotate_inverse(grad_query, 0);
    rope.rotate_inverse(grad_key, 0);
    query_weight -= rate * grad_query.transpose() * pass.x;
    key_weight -= rate * grad_key.transpose() * pass.x;
    value_weight -= rate * grad_value.transpose() * pass.x;
  }
};

/// How far out is from the token before, row by row; the first has none.
Matrix difference(const Matrix& x, const Matrix& out) {
  Matrix all = Matrix::Zero(seqlen, dim);
  all.bottomRows(seqlen - 1) = out.bottomRows(seqlen - 1) - x.topRows(seqlen - 1);
  return all;
}

}  // namespace

int main() {
  Attention attention{weight_matrix(dim, dim, 1), weight_matrix(dim, dim, 2),
                      weight_matrix(dim, dim, 3)};
  const Matrix words = normal_matrix(20, dim, 4);
  std::mt19937 engine(5);
  const auto text = [&] {  // random words; column 0 is always 1, which all queries and keys share
    Matrix x(seqlen, dim);
    for (auto row : x.rowwise()) row = words.row(static_cast<heed::Index>(engine() % 20));
    x.col(0).setOnes();
    return x;
  };
  for (int step = 0; step <= 500; ++step) {
    const Matrix x = text();
    const auto pass = attention.forward(x);
    const Matrix error = difference(x, pass.out);
    if (step % 100 == 0)
      std::printf("step %3d: mean squared error %.2f\n", step,
                  static_cast<double>(error.squaredNorm()) / (seqlen - 1) / dim);
    attention.learn(pass, error * (2.0F / seqlen), 0.02F);
  }

  // The probabilities are what attention gives if the values are the unit vectors.
  const auto pass = attention.forward(text());
  const Matrix unit_vectors = Matrix::Identity(seqlen, seqlen);
  Matrix probs(seqlen, seqlen);
  heed::attend(pass.query, pass.key, unit_vectors, heed::CausalMask{}, softmax_scale, probs);
  std::printf("of the last token's attention, %.2f is on the token before\n",
              static_cast<double>(probs(seqlen - 1, seqlen - 2)));
}
