// SPDX-License-Identifier: MIT
// Several conversations at once, and what else a cache can do: fork, truncate, refuse.
#include <cstdio>
#include <vector>

#include "inputs.hpp"

namespace {

constexpr heed::GroupedShape shape{
    .model_dim = 64, .num_heads = 4, .num_kv_heads = 2, .head_dim = 16};
using Cache = heed::KvCache<heed::FullKv<shape.num_kv_heads, shape.head_dim>>;
using Sequence = heed::BatchSequence<Cache, heed::CausalMask>;

}  // namespace

int main() {
  const Matrix query = weight_matrix(64, 64, 1), key = weight_matrix(32, 64, 2);
  const Matrix value = weight_matrix(32, 64, 3), output = weight_matrix(64, 64, 4);
  const heed::GroupedQueryAttention<float, shape> attention{{{query}, {key}, {value}, {output}},
                                                            heed::Rope{{.rope_dim = 16}}};

  // Two conversations have cached 5 and 70 tokens.
  const Matrix first = normal_matrix(5, 64, 5), second = normal_matrix(70, 64, 6);
  Cache first_cache{128}, second_cache{128};
  Matrix unused_first(5, 64), unused_second(70, 64);
  attention.forward(first, first_cache, heed::CausalMask{}, unused_first);
  attention.forward(second, second_cache, heed::CausalMask{}, unused_second);

  // A fork is a copy that goes its own way: the conversations go on apart, and in a batch.
  Cache first_fork = first_cache.fork(), second_fork = second_cache.fork();
  const Matrix x = normal_matrix(4, 64, 7);  // one new token of the first, three of the second
  Matrix apart(4, 64), batched(4, 64);
  attention.forward(x.topRows(1), first_fork, heed::CausalMask{}, apart.topRows(1));
  attention.forward(x.bottomRows(3), second_fork, heed::CausalMask{}, apart.bottomRows(3));

  const std::vector<Sequence> sequences{{.seqlen = 1, .cache = &first_cache},
                                        {.seqlen = 3, .cache = &second_cache}};
  attention.forward_batch(x, sequences, batched);
  std::printf("cached %td and %td tokens\n", first_cache.seqlen(), second_cache.seqlen());
  std::printf("the batch gives what each gives alone: %s\n",
              yes_or_no(distance(batched, apart) < 1e-5F));

  // Two of three guessed tokens turn out wrong: forget them, and go on as if they had not been.
  second_cache.truncate(71);
  Matrix again(2, 64);
  attention.forward(x.bottomRows(2), second_cache, heed::CausalMask{}, again);
  std::printf("after truncate the same tokens give the same: %s\n",
              yes_or_no(distance(again, batched.bottomRows(2)) < 1e-5F));

  // What does not fit is refused, and the cache is as it was.
  Matrix out(70, 64);
  try {
    attention.forward(second, second_cache, heed::CausalMask{}, out);
  } catch (const heed::CapacityError& error) {
    std::printf("%s\n", error.what());
  }
  try {
    attention.forward(x.leftCols(63), second_cache, heed::CausalMask{}, batched);
  } catch (const heed::ShapeError& error) {
    std::printf("%s\n", error.what());
  }
  std::printf("still %td tokens\n", second_cache.seqlen());
}
