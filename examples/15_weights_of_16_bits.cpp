// SPDX-License-Identifier: MIT
// Weights in bf16 where they lie, as in a mapped checkpoint: nothing is copied, and the results of
// a few rows have the bits that the same numbers in float give.
#include <cstddef>
#include <cstdio>
#include <initializer_list>
#include <vector>

#include "inputs.hpp"

namespace {

constexpr heed::Index model_dim = 64, num_heads = 8, num_kv_heads = 2, head_dim = 16;
constexpr heed::GroupedShape gqa{.model_dim = model_dim,
                                 .num_heads = num_heads,
                                 .num_kv_heads = num_kv_heads,
                                 .head_dim = head_dim};
using Narrow = Eigen::Matrix<heed::bf16, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// What a file of tensors would hold from its first byte on: q_proj, k_proj, v_proj, o_proj.
std::vector<std::byte> checkpoint(std::initializer_list<Narrow> tensors) {
  std::vector<std::byte> bytes;
  for (const Narrow& tensor : tensors) {
    const auto* const first = reinterpret_cast<const std::byte*>(tensor.data());
    bytes.insert(bytes.end(), first,
                 first + static_cast<std::size_t>(tensor.size()) * sizeof(heed::bf16));
  }
  return bytes;
}

}  // namespace

int main() {
  constexpr heed::Index query_width = num_heads * head_dim, kv_width = num_kv_heads * head_dim;
  const Narrow query = weight_matrix(query_width, model_dim, 1).cast<heed::bf16>();
  const Narrow key = weight_matrix(kv_width, model_dim, 2).cast<heed::bf16>();
  const Narrow value = weight_matrix(kv_width, model_dim, 3).cast<heed::bf16>();
  const Narrow output = weight_matrix(model_dim, query_width, 4).cast<heed::bf16>();
  const std::vector<std::byte> file = checkpoint({query, key, value, output});

  const auto* const numbers = reinterpret_cast<const heed::bf16*>(file.data());
  const auto* const k_proj = numbers + query_width * model_dim;
  const auto* const v_proj = k_proj + kv_width * model_dim;
  const auto* const o_proj = v_proj + kv_width * model_dim;
  const heed::GroupedQueryAttention<float, gqa> attention{
      {.query = {{numbers, query_width, model_dim}},  // [out, in]
       .key = {{k_proj, kv_width, model_dim}},
       .value = {{v_proj, kv_width, model_dim}},
       .out = {{o_proj, model_dim, query_width}}},
      heed::Rope{{.rope_dim = head_dim}}};
  std::printf("%zu bytes of weights\n", file.size());

  const Matrix tokens = normal_matrix(13, model_dim, 5);
  Matrix out(13, model_dim), expected(13, model_dim);
  attention.forward(tokens, heed::CausalMask{}, out);

  const Matrix wide_query = query.cast<float>(), wide_key = key.cast<float>();
  const Matrix wide_value = value.cast<float>(), wide_output = output.cast<float>();
  const heed::GroupedQueryAttention<float, gqa> wide{
      {{wide_query}, {wide_key}, {wide_value}, {wide_output}}, heed::Rope{{.rope_dim = head_dim}}};
  wide.forward(tokens, heed::CausalMask{}, expected);
  std::printf("the same bits as of float weights: %s\n", yes_or_no(out == expected));

  // Each weight is of what it is: here one that was trained further, in float.
  const heed::GroupedQueryAttention<float, gqa> mixed{{{query}, {wide_key}, {value}, {output}},
                                                      heed::Rope{{.rope_dim = head_dim}}};
  mixed.forward(tokens, heed::CausalMask{}, out);
  std::printf("with one of them in float, too: %s\n", yes_or_no(out == expected));
}
