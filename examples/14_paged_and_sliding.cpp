// SPDX-License-Identifier: MIT
// Where a cache keeps its tokens: pages of a pool that sequences share, and a window that slides.
#include <cstdio>

#include "inputs.hpp"

namespace {

constexpr heed::Index model_dim = 64, num_heads = 4, num_kv_heads = 2, head_dim = 16;
constexpr heed::GroupedShape shape{.model_dim = model_dim,
                                   .num_heads = num_heads,
                                   .num_kv_heads = num_kv_heads,
                                   .head_dim = head_dim};
using Attention = heed::GroupedQueryAttention<float, shape>;
using Entry = heed::FullKv<num_kv_heads, head_dim>;
using Pool = heed::PagePool<Entry>;
using Cache = heed::KvCache<Entry>;

Matrix run(const Attention& attention, const Matrix& x, Cache& cache) {
  Matrix out(x.rows(), model_dim);
  attention.forward(x, cache, heed::CausalMask{}, out);
  return out;
}

/// One system prompt, three conversations.
void share_pages(const Attention& attention) {
  const Matrix system_prompt = normal_matrix(150, model_dim, 5);
  const Matrix question = normal_matrix(20, model_dim, 6);

  Pool pool{8};                   // 8 pages of 64 tokens
  Cache prompt_cache{pool, 512};  // at most 512 of them in this sequence
  run(attention, system_prompt, prompt_cache);
  std::printf("the prompt takes %td pages\n", pool.num_pages() - pool.free_pages());

  // A fork has all tokens, a prefix so many of them; what is shared is held once.
  Cache first = prompt_cache.fork();
  Cache second{pool, 512};
  second.assign_prefix(prompt_cache, 128);
  std::printf("a fork and a prefix take none: %td are free\n", pool.free_pages());

  // The fork's next token goes to a page that the prompt holds too, so it copies this page first.
  const Matrix out = run(attention, question, first);
  run(attention, question, second);  // begins a page of its own: 128 fill two
  std::printf("going on, they take one page each: %td are free\n", pool.free_pages());

  Cache alone{512};
  run(attention, system_prompt, alone);
  std::printf("shared pages give what a cache of its own gives: %s\n",
              yes_or_no(out == run(attention, question, alone)));

  // A pool may run out before a cache is full: the call changes nothing.
  Cache third = prompt_cache.fork();
  try {
    run(attention, normal_matrix(250, model_dim, 7), third);
  } catch (const heed::PoolExhaustedError& error) {
    std::printf("%s\n", error.what());
  }
  second.clear();
  first.clear();
  run(attention, normal_matrix(250, model_dim, 7), third);
  std::printf("once the others have given theirs back, there is room: %td tokens\n",
              third.seqlen());
  try {
    alone.assign_prefix(prompt_cache, 64);
  } catch (const heed::StateError& error) {
    std::printf("%s\n", error.what());
  }
}

/// A layer that sees 4 sink tokens and the last 100, on a long sequence.
void slide(const Attention& attention) {
  const heed::Index seqlen = 1000, prompt_len = 200;
  const Matrix tokens = normal_matrix(seqlen, model_dim, 8);
  const heed::SinkWindowMask mask{.num_sink_tokens = 4, .window_left = 100};
  const heed::CacheWindow window{.num_sink_tokens = 4, .window_left = 100};

  Cache sliding{window.capacity(prompt_len), {}, window};  // no call appends more than the prompt
  Cache whole{seqlen};
  Matrix out(1, model_dim), expected(1, model_dim), unused(prompt_len, model_dim);
  attention.forward(tokens.topRows(prompt_len), sliding, mask, unused);
  attention.forward(tokens.topRows(prompt_len), whole, mask, unused);
  bool same = true;
  for (heed::Index token = prompt_len; token < seqlen; ++token) {
    attention.forward(tokens.row(token), sliding, mask, out);
    attention.forward(tokens.row(token), whole, mask, expected);
    same = same && out == expected;
  }
  std::printf("a window gives what a cache of all tokens gives: %s\n", yes_or_no(same));
  std::printf("at token %td, %zu bytes in place of %zu\n", sliding.seqlen(), sliding.bytes(),
              whole.bytes());
  std::printf("tokens %td to %td were let go\n", sliding.dropped().begin,
              sliding.dropped().end - 1);

  sliding.truncate(seqlen - 64);  // at any time
  std::printf("truncated to %td tokens\n", sliding.seqlen());
  try {
    sliding.truncate(500);
  } catch (const heed::ShapeError& error) {
    std::printf("%s\n", error.what());
  }
  try {
    sliding.require_room(400);
  } catch (const heed::CapacityError& error) {
    std::printf("%s\n", error.what());
  }
}

}  // namespace

int main() {
  const Matrix query = weight_matrix(num_heads * head_dim, model_dim, 1);
  const Matrix key = weight_matrix(num_kv_heads * head_dim, model_dim, 2);
  const Matrix value = weight_matrix(num_kv_heads * head_dim, model_dim, 3);
  const Matrix output = weight_matrix(model_dim, num_heads * head_dim, 4);
  const Attention attention{{{query}, {key}, {value}, {output}},
                            heed::Rope{{.rope_dim = head_dim}}};
  share_pages(attention);
  slide(attention);
}
