// SPDX-License-Identifier: MIT
// Attention over parts of the keys merges to the attention over all of them.
#include <cstdio>

#include "inputs.hpp"

namespace {

const double softmax_scale = heed::default_softmax_scale(16);

/// What attending to some of the keys leaves behind: a mean of values, and the weight it stands
/// for.
struct Part {
  Matrix out, lse;

  Part(heed::Index seqlen_q, heed::Index head_dim_v)
      : out(seqlen_q, head_dim_v), lse(1, seqlen_q) {}
};

template <class Mask>
Part attend(const Matrix& query, const Matrix& key, const Matrix& value, const Mask& mask) {
  Part part(query.rows(), value.cols());
  heed::attend(query, key, value, mask, softmax_scale, part.out, part.lse);
  return part;
}

Part merge(const Part& a, const Part& b) {
  Part merged(a.out.rows(), a.out.cols());
  heed::merge(a.out, a.lse, b.out, b.lse, merged.out, merged.lse);
  return merged;
}

bool same(const Part& a, const Part& b) {
  return distance(a.out, b.out) < 1e-5F && distance(a.lse, b.lse) < 1e-5F;
}

}  // namespace

int main() {
  const Matrix query = normal_matrix(3, 16, 1), key = normal_matrix(150, 16, 2);
  const Matrix value = normal_matrix(150, 16, 3);
  const heed::NoMask no_mask;
  const Part whole = attend(query, key, value, no_mask);

  // Three parts of any lengths, which other threads or machines may hold.
  const Part a = attend(query, key.topRows(20), value.topRows(20), no_mask);
  const Part b = attend(query, key.middleRows(20, 100), value.middleRows(20, 100), no_mask);
  const Part c = attend(query, key.bottomRows(30), value.bottomRows(30), no_mask);
  std::printf("(a, b), c is the whole: %s\n", yes_or_no(same(merge(merge(a, b), c), whole)));
  std::printf("a, (c, b) is the whole: %s\n", yes_or_no(same(merge(a, merge(c, b)), whole)));
  std::printf("exp(lse) adds up: %s\n",
              yes_or_no(distance(a.lse.array().exp() + b.lse.array().exp() + c.lse.array().exp(),
                                 whole.lse.array().exp()) < 1e-3F));

  // No keys at all: out = 0, lse = -inf, and the merge takes no notice.
  const Part none = attend(query, key.topRows(0), value.topRows(0), no_mask);
  std::printf("no keys: out %g, lse %g\n", static_cast<double>(none.out.cwiseAbs().maxCoeff()),
              static_cast<double>(none.lse.maxCoeff()));
  std::printf("merged with no keys, a stays a: %s\n", yes_or_no(same(merge(a, none), a)));

  // A prefix that all queries see, and causal attention among the newest tokens: together they are
  // causal attention. So a prefix that many conversations share can be attended to apart.
  const Part prefix = attend(query, key.topRows(147), value.topRows(147), no_mask);
  const Part newest = attend(query, key.bottomRows(3), value.bottomRows(3), heed::CausalMask{});
  const Part causal = attend(query, key, value, heed::CausalMask{});
  std::printf("prefix and newest are the causal whole: %s\n",
              yes_or_no(same(merge(prefix, newest), causal)));
}
