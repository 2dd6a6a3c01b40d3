// SPDX-License-Identifier: MIT
// Conversations that begin with the same long prompt: it is cached once, and read once for all.
#include <cstdio>
#include <vector>

#include "inputs.hpp"

namespace {

constexpr heed::GroupedShape shape{
    .model_dim = 64, .num_heads = 4, .num_kv_heads = 2, .head_dim = 16};
using Entry = heed::FullKv<shape.num_kv_heads, shape.head_dim>;
using Cache = heed::KvCache<Entry>;
using Sequence = heed::BatchSequence<Cache, heed::CausalMask>;

}  // namespace

int main() {
  const Matrix query = weight_matrix(64, 64, 1), key = weight_matrix(32, 64, 2);
  const Matrix value = weight_matrix(32, 64, 3), output = weight_matrix(64, 64, 4);
  const heed::GroupedQueryAttention<float, shape> attention{{{query}, {key}, {value}, {output}},
                                                            heed::Rope{{.rope_dim = 16}}};

  // Memory for 64 pages of 64 tokens, and a prompt of 20 pages.
  const heed::PagePool<Entry> pool(64);
  Cache prompt(pool, 4096);
  const Matrix prompt_tokens = normal_matrix(1280, 64, 5);
  Matrix unused(1280, 64);
  attention.forward(prompt_tokens, prompt, heed::CausalMask{}, unused);
  std::printf("the prompt takes %td pages\n", pool.num_pages() - pool.free_pages());

  // Four conversations go on from it. None copies it; each takes a page when it writes.
  std::vector<Cache> caches;
  for (int i = 0; i < 4; ++i) caches.push_back(prompt.fork());

  // The first one's next turn has 30 tokens, the others are at their next token: one call, in which
  // the prompt's pages are read once for all of them.
  std::vector<Sequence> sequences{{.seqlen = 30, .cache = &caches[0]}};
  for (std::size_t i = 1; i < 4; ++i) sequences.push_back({.seqlen = 1, .cache = &caches[i]});
  const Matrix x = normal_matrix(33, 64, 6);
  Matrix together(33, 64);
  attention.forward_batch(x, sequences, together);
  std::printf("four conversations and the prompt take %td\n", pool.num_pages() - pool.free_pages());

  // Each gets what it would have got alone.
  Matrix alone(33, 64);
  heed::Index row = 0;
  for (const Sequence& sequence : sequences) {
    Cache cache(pool, 4096);
    cache.assign_prefix(prompt, 1280);
    attention.forward(x.middleRows(row, sequence.seqlen), cache, heed::CausalMask{},
                      alone.middleRows(row, sequence.seqlen));
    row += sequence.seqlen;
  }
  std::printf("the batch gives what each gives alone: %s\n",
              yes_or_no(distance(together, alone) < 1e-5F));
}
