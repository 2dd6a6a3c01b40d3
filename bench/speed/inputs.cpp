// SPDX-License-Identifier: MIT
#include "speed/inputs.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

#include "heed/policy/score.hpp"
#include "shared/attend_exactly.hpp"

namespace heed::bench {
namespace {

/// splitmix64: as good as needed here, and hundreds of millions of numbers take a second.
class Generator {
 public:
  explicit Generator(std::uint64_t seed) : state_(seed * 0x2545F4914F6CDD1DU) {}

  /// The sum of four uniform numbers: near enough to a normal one.
  float operator()() {
    std::uint64_t bits = (state_ += 0x9E3779B97F4A7C15U);
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9U;
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EBU;
    bits ^= bits >> 31;
    float sum = 0;
    for (int part = 0; part < 64; part += 16)
      sum += static_cast<float>((bits >> part) & 0xFFFFU) / 65536.0F - 0.5F;
    return sum * 1.7320508F;  // each has variance 1/12, the sum 1/3
  }

 private:
  std::uint64_t state_;
};

/// Of one query row of one head.
Eigen::RowVectorXd reference_row(const SpeedCase& c, const Inputs& inputs,
                                 const SequenceRows& sequence, Index head, Index q_row) {
  const Index kv_head = head / (c.num_heads / c.num_kv_heads);
  const Index seen = c.seen(sequence, q_row);
  const auto key =
      inputs.key.block(sequence.kv_begin, kv_head * c.head_dim, seen, c.head_dim).cast<double>();
  const auto value =
      inputs.value.block(sequence.kv_begin, kv_head * c.head_dim_v, seen, c.head_dim_v)
          .cast<double>();
  const Eigen::RowVectorXd query = inputs.query.row(sequence.q_begin + q_row)
                                       .segment(head * c.head_dim, c.head_dim)
                                       .cast<double>();
  return attend_exactly(query, key, value, default_softmax_scale(c.head_dim));
}

}  // namespace

Matrix random_matrix(Index rows, Index cols, unsigned seed) {
  Generator next(seed);
  Matrix matrix(rows, cols);
  std::generate_n(matrix.data(), matrix.size(), [&] { return next(); });
  return matrix;
}
Matrix random_weight(Index out, Index in, unsigned seed) {
  return random_matrix(out, in, seed) / std::sqrt(static_cast<float>(in));
}

Inputs::Inputs(const SpeedCase& c)
    : query(random_matrix(c.rows_q(), c.num_heads * c.head_dim, 1)),
      key(random_matrix(c.rows_kv(), c.num_kv_heads * c.head_dim, 2)),
      value(c.kv == Kv::latent ? Matrix(key.leftCols(c.head_dim_v))
                               : random_matrix(c.rows_kv(), c.num_kv_heads * c.head_dim_v, 3)) {
  if (c.pass == Pass::forward) return;
  grad_out = random_matrix(c.rows_q(), c.num_heads * c.head_dim_v, 4);
  exact = std::make_shared<const ExactGradients>(
      exact_gradients(c, query, key, value, grad_out, default_softmax_scale(c.head_dim)));
}

double largest_error(const SpeedCase& c, const Inputs& inputs, const Matrix& out) {
  if (out.rows() != c.rows_q() || out.cols() != c.num_heads * c.head_dim_v || out.hasNaN())
    return std::numeric_limits<double>::quiet_NaN();
  double largest = 0;
  for (const SequenceRows& sequence : c.sequences)
    for (const Index head : {Index{0}, c.num_heads / 3, c.num_heads - 1})
      for (const Index q_row :
           {Index{0}, sequence.seqlen_q / 5, sequence.seqlen_q * 2 / 3, sequence.seqlen_q - 1}) {
        const Eigen::RowVectorXd found = out.row(sequence.q_begin + q_row)
                                             .segment(head * c.head_dim_v, c.head_dim_v)
                                             .cast<double>();
        const auto expected = reference_row(c, inputs, sequence, head, q_row);
        largest = larger_or_nan(largest, relative_error(found, expected));
      }
  return largest;
}

}  // namespace heed::bench
