// SPDX-License-Identifier: MIT
// The same layer over caches of narrower elements: what each takes, and how far its result is from
// that of float.
#include <cstdio>

#include "inputs.hpp"

namespace {

constexpr heed::Index model_dim = 128, num_heads = 8, num_kv_heads = 2, head_dim = 64;
constexpr heed::Index prompt_len = 200, num_tokens = 210;
constexpr heed::GroupedShape shape{.model_dim = model_dim,
                                   .num_heads = num_heads,
                                   .num_kv_heads = num_kv_heads,
                                   .head_dim = head_dim};

/// Prefill and decode over a cache that stores Element.
template <class Element>
Matrix generate(const heed::GroupedQueryAttention<float, shape>& attention, const Matrix& tokens,
                std::size_t& bytes_per_token) {
  heed::KvCache<heed::FullKv<num_kv_heads, head_dim>, Element> cache{num_tokens};
  Matrix out(num_tokens, model_dim);
  attention.forward(tokens.topRows(prompt_len), cache, heed::CausalMask{}, out.topRows(prompt_len));
  for (heed::Index token = prompt_len; token < num_tokens; ++token)
    attention.forward(tokens.row(token), cache, heed::CausalMask{}, out.row(token));
  bytes_per_token = cache.bytes_per_token();
  return out;
}

}  // namespace

int main() {
  const Matrix query = weight_matrix(num_heads * head_dim, model_dim, 1);
  const Matrix key = weight_matrix(num_kv_heads * head_dim, model_dim, 2);
  const Matrix value = weight_matrix(num_kv_heads * head_dim, model_dim, 3);
  const Matrix output = weight_matrix(model_dim, num_heads * head_dim, 4);
  const heed::GroupedWeights<float> weights{{query}, {key}, {value}, {output}};
  const heed::GroupedQueryAttention<float, shape> attention{weights,
                                                            heed::Rope{{.rope_dim = head_dim}}};
  const Matrix tokens = normal_matrix(num_tokens, model_dim, 5);

  std::size_t bytes = 0;
  const Matrix exact = generate<float>(attention, tokens, bytes);
  std::printf("%-22s  %4zu bytes per token\n", "f32", bytes);
  // Relative to the largest output; bounds rather than digits, which differ between machines.
  const auto report = [&](const char* name, const Matrix& out, float bound) {
    const float error = distance(out, exact) / exact.cwiseAbs().maxCoeff();
    std::printf("%-22s  %4zu bytes per token, within %g of f32: %s\n", name, bytes,
                static_cast<double>(bound), yes_or_no(error < bound));
  };
  report("f16", generate<heed::f16>(attention, tokens, bytes), 0.001F);
  report("bf16", generate<heed::bf16>(attention, tokens, bytes), 0.01F);
  report("int8", generate<heed::int8>(attention, tokens, bytes), 0.02F);
  // Scales per channel of the keys, for keys with channels that outweigh the others; or a rotation,
  // which spreads these over all.
  report("int8, keys per channel", generate<heed::PerChannel<heed::int8>>(attention, tokens, bytes),
         0.02F);
  report("int8, rotated", generate<heed::Rotated<heed::int8>>(attention, tokens, bytes), 0.02F);
  report("int4", generate<heed::int4>(attention, tokens, bytes), 0.2F);
  report("int4, rotated", generate<heed::Rotated<heed::int4>>(attention, tokens, bytes), 0.2F);
}
