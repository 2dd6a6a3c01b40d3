// SPDX-License-Identifier: MIT
// Grouped-query attention: prefill, chunks and decode are one call, and MHA and MQA are the same
// layer.
#include <cstdio>

#include "inputs.hpp"

namespace {

constexpr heed::Index model_dim = 64, num_heads = 8, num_kv_heads = 2, head_dim = 16;
constexpr heed::GroupedShape gqa{.model_dim = model_dim,
                                 .num_heads = num_heads,
                                 .num_kv_heads = num_kv_heads,
                                 .head_dim = head_dim};

/// Every key/value head of a weight as often as query heads share it.
Matrix repeat_heads(const Matrix& weight) {
  constexpr heed::Index group_size = num_heads / num_kv_heads;
  Matrix repeated(num_heads * head_dim, model_dim);
  for (heed::Index head = 0; head < num_heads; ++head)
    repeated.middleRows(head * head_dim, head_dim) =
        weight.middleRows(head / group_size * head_dim, head_dim);
  return repeated;
}

template <class Cache>
void print_memory(const char* variant, const Cache& cache) {
  std::printf("%s  %5zu bytes per token, %6zu for %td tokens in whole pages\n", variant,
              cache.bytes_per_token(), cache.bytes(), cache.capacity());
}

}  // namespace

int main() {
  const Matrix query = weight_matrix(num_heads * head_dim, model_dim, 1);
  const Matrix key = weight_matrix(num_kv_heads * head_dim, model_dim, 2);
  const Matrix value = weight_matrix(num_kv_heads * head_dim, model_dim, 3);
  const Matrix output = weight_matrix(model_dim, num_heads * head_dim, 4);
  const heed::GroupedWeights<float> weights{{query}, {key}, {value}, {output}};
  const heed::Rope rope{{.rope_dim = head_dim}};
  const heed::GroupedQueryAttention<float, gqa> attention{weights, rope};

  // All thirteen tokens at once, without a cache: what training does.
  const Matrix tokens = normal_matrix(13, model_dim, 5);
  Matrix at_once(13, model_dim);
  attention.forward(tokens, heed::CausalMask{}, at_once);

  // The same tokens as inference meets them: a prompt in two chunks, then one at a time.
  heed::KvCache<heed::FullKv<num_kv_heads, head_dim>> cache{256};
  Matrix out(13, model_dim);
  attention.forward(tokens.topRows(6), cache, heed::CausalMask{}, out.topRows(6));
  attention.forward(tokens.middleRows(6, 4), cache, heed::CausalMask{}, out.middleRows(6, 4));
  for (heed::Index token = 10; token < 13; ++token)
    attention.forward(tokens.row(token), cache, heed::CausalMask{}, out.row(token));
  std::printf("%td tokens cached\n", cache.seqlen());
  std::printf("prefill, chunk and decode give what all at once gives: %s\n",
              yes_or_no(distance(out, at_once) < 1e-5F));

  // A shape from a config file is given at run time.
  const heed::GroupedQueryAttention<float> from_config{gqa, weights, rope};
  from_config.forward(tokens, heed::CausalMask{}, out);
  std::printf("so does a shape given at run time: %s\n", yes_or_no(distance(out, at_once) < 1e-5F));

  // MHA has a key/value head for every query head. GQA is MHA in which some of them are the same.
  const Matrix keys = repeat_heads(key), values = repeat_heads(value);
  const heed::MultiHeadAttention<float, model_dim, num_heads, head_dim> mha{
      {{query}, {keys}, {values}, {output}}, rope};
  mha.forward(tokens, heed::CausalMask{}, out);
  std::printf("so does MHA with repeated heads: %s\n\n", yes_or_no(distance(out, at_once) < 1e-5F));

  print_memory("MHA", heed::KvCache<heed::FullKv<num_heads, head_dim>>{256});
  print_memory("GQA", cache);
  print_memory("MQA", heed::KvCache<heed::FullKv<1, head_dim>>{256});

  // The formulas know models of any size: Llama-3-8B in 16 bits, and 24 GiB to keep conversations
  // in.
  constexpr heed::GroupedShape llama3{
      .model_dim = 4096, .num_heads = 32, .num_kv_heads = 8, .head_dim = 128};
  constexpr heed::KvLayers model[] = {
      {.num_layers = 32, .bytes_per_token = heed::kv_bytes_per_token(llama3, {.bits = 16})}};
  std::printf("\nLlama-3-8B: %td bytes per token, %td sequences of 8192 tokens in 24 GiB\n",
              heed::kv_bytes_per_token(model),
              heed::sequences_that_fit(model, 8192, heed::Index{24} << 30));
}
