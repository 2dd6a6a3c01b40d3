// SPDX-License-Identifier: MIT
// Multi-head latent attention: what is cached is the latent, and two ways lead from it to the
// output.
#include <cstdio>
#include <vector>

#include "inputs.hpp"

namespace {

constexpr heed::LatentShape shape{.model_dim = 64,
                                  .num_heads = 4,
                                  .latent_dim = 32,
                                  .rope_dim = 8,
                                  .nope_dim = 16,
                                  .head_dim_v = 16,
                                  .query_latent_dim = 24};

void print_cheaper_path(const heed::LatentShape& of, heed::Index seqlen_q, heed::Index seqlen_kv) {
  const double absorbed = heed::absorbed_flops(of, seqlen_q, seqlen_kv);
  const double expanded = heed::expanded_flops(of, seqlen_q, seqlen_kv);
  std::printf("%4td queries on %td tokens: absorbed %8.3f GFLOP, expanded %8.3f: %s\n", seqlen_q,
              seqlen_kv, absorbed * 1e-9, expanded * 1e-9,
              heed::cheaper_path(of, seqlen_q, seqlen_kv) == heed::MlaPath::absorbed ? "absorbed"
                                                                                     : "expanded");
}

}  // namespace

int main() {
  // Per head, a query and a key are [nope | rope] wide; W_UK and W_UV lie in kv_up, head by head.
  const Matrix query_down = weight_matrix(shape.query_latent_dim, shape.model_dim, 1);
  const Matrix query_up =
      weight_matrix(shape.num_heads * shape.head_dim(), shape.query_latent_dim, 2);
  const Matrix kv_down = weight_matrix(shape.latent_dim + shape.rope_dim, shape.model_dim, 3);
  const Matrix kv_up =
      weight_matrix(shape.num_heads * (shape.nope_dim + shape.head_dim_v), shape.latent_dim, 4);
  const Matrix output = weight_matrix(shape.model_dim, shape.num_heads * shape.head_dim_v, 5);
  const std::vector<float> query_gain(shape.query_latent_dim, 1), kv_gain(shape.latent_dim, 1);
  const heed::LatentWeights<float> weights{
      .query =
          heed::LatentQuery<float>{.down = {query_down}, .norm = {{query_gain}}, .up = {query_up}},
      .kv_down = {kv_down},
      .kv_norm = {{kv_gain}},
      .kv_up = {kv_up},
      .out = {output}};
  const heed::Rope rope{{.rope_dim = shape.rope_dim, .pairing = heed::RopePairing::interleaved}};
  const heed::MultiHeadLatentAttention<float, shape> mla{weights, rope};

  // Twelve tokens of prompt, then three of decode. The path is chosen by cost unless it is named.
  const Matrix tokens = normal_matrix(15, shape.model_dim, 6);
  Matrix out(15, shape.model_dim), absorbed(15, shape.model_dim), expanded(15, shape.model_dim);
  heed::KvCache<heed::LatentKv<shape.latent_dim, shape.rope_dim>> cache{64};
  mla.forward(tokens.topRows(12), cache, heed::CausalMask{}, out.topRows(12));
  for (heed::Index token = 12; token < 15; ++token)
    mla.forward(tokens.row(token), cache, heed::CausalMask{}, out.row(token));
  mla.forward(tokens, heed::CausalMask{}, absorbed, {.path = heed::MlaPath::absorbed});
  mla.forward(tokens, heed::CausalMask{}, expanded, {.path = heed::MlaPath::expanded});
  std::printf("absorbed and expanded agree: %s\n", yes_or_no(distance(absorbed, expanded) < 1e-5F));
  std::printf("prefill and decode agree with both: %s\n",
              yes_or_no(distance(out, absorbed) < 1e-5F && distance(out, expanded) < 1e-5F));

  std::printf("\none layer, float32: %zu bytes per token of latent and rotated key\n",
              cache.bytes_per_token());
  std::printf("expanded to keys and values of all heads they would be %td\n",
              heed::expanded_kv_bytes_per_token(shape, heed::kv_element<float>));

  constexpr heed::LatentShape v2_lite{.model_dim = 2048,
                                      .num_heads = 16,
                                      .latent_dim = 512,
                                      .rope_dim = 64,
                                      .nope_dim = 128,
                                      .head_dim_v = 128};
  constexpr heed::KvElement two_bytes{.bits = 16};
  std::printf("\nDeepSeek-V2-Lite, 27 layers, 16 bits: %td bytes per token, expanded %td\n",
              27 * heed::kv_bytes_per_token(v2_lite, two_bytes),
              27 * heed::expanded_kv_bytes_per_token(v2_lite, two_bytes));
  print_cheaper_path(v2_lite, 1, 4096);
  print_cheaper_path(v2_lite, 4096, 4096);
}
