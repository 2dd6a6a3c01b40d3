// SPDX-License-Identifier: MIT
// Rotary position embedding: scores that know how far apart two tokens are, and not where.
#include <cstdio>

#include "inputs.hpp"

namespace {

constexpr heed::Index head_dim = 16;

/// The score of a query at one position and a key at another.
double score_of(const heed::Rope& rope, heed::Index query_position, heed::Index key_position) {
  Matrix query = normal_matrix(1, head_dim, 1), key = normal_matrix(1, head_dim, 2);
  rope.rotate(query, query_position);
  rope.rotate(key, key_position);
  return static_cast<double>(query.row(0).dot(key.row(0)));
}

void print_scores(const char* name, const heed::Rope& rope) {
  std::printf("%-22s", name);
  for (const heed::Index apart : {0, 1, 2, 8, 32})
    std::printf(" %7.2f", score_of(rope, 1000 + apart, 1000));
  std::printf("\n");
}

}  // namespace

int main() {
  const heed::Rope rope{{.rope_dim = head_dim}};
  std::printf("distance                     0       1       2       8      32\n");
  print_scores("rope", rope);
  print_scores("interleaved",
               heed::Rope{{.rope_dim = head_dim, .pairing = heed::RopePairing::interleaved}});
  print_scores("half of the columns", heed::Rope{{.rope_dim = head_dim / 2}});
  print_scores("linear scaling by 2",
               heed::Rope{{.rope_dim = head_dim, .scaling = heed::LinearScaling{.factor = 2}}});

  const double difference = score_of(rope, 1005, 1000) - score_of(rope, 5, 0);
  std::printf("the same distance anywhere gives the same score: %s\n",
              yes_or_no(difference < 1e-4 && difference > -1e-4));

  // Positions may come in any order; rows of a left-padded batch start late.
  Matrix rows = normal_matrix(3, head_dim, 3), one_by_one = rows;
  const heed::Index positions[] = {7, 0, 3};
  rope.rotate(rows, positions);
  for (heed::Index row = 0; row < 3; ++row) rope.rotate(one_by_one.row(row), positions[row]);
  std::printf("rows at positions of their own: %s\n", yes_or_no(rows == one_by_one));
}
