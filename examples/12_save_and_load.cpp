// SPDX-License-Identifier: MIT
// A conversation that goes on later: the caches of two layers are saved to one file, loaded into
// new ones, and the next token is the same. A file that was altered is refused.
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>

#include <heed/cache/kv_file.hpp>

#include "inputs.hpp"

namespace {

constexpr heed::Index model_dim = 64, num_heads = 4, num_kv_heads = 2, head_dim = 16;
constexpr heed::Index prompt_len = 100, capacity = 256;
constexpr heed::GroupedShape shape{.model_dim = model_dim,
                                   .num_heads = num_heads,
                                   .num_kv_heads = num_kv_heads,
                                   .head_dim = head_dim};
using Attention = heed::GroupedQueryAttention<float, shape>;
using Cache = heed::KvCache<heed::FullKv<num_kv_heads, head_dim>, heed::bf16>;

Matrix forward(const Attention& attention, const Matrix& x, Cache& cache) {
  Matrix out(x.rows(), model_dim);
  attention.forward(x, cache, heed::CausalMask{}, out);
  return out;
}

}  // namespace

int main() {
  const Matrix query = weight_matrix(num_heads * head_dim, model_dim, 1);
  const Matrix key = weight_matrix(num_kv_heads * head_dim, model_dim, 2);
  const Matrix value = weight_matrix(num_kv_heads * head_dim, model_dim, 3);
  const Matrix output = weight_matrix(model_dim, num_heads * head_dim, 4);
  const heed::GroupedWeights<float> weights{{query}, {key}, {value}, {output}};
  const Attention attention{weights, heed::Rope{{.rope_dim = head_dim}}};
  const Matrix prompt = normal_matrix(prompt_len, model_dim, 5);
  const Matrix token = normal_matrix(1, model_dim, 6);

  // Two layers, of equal weights for brevity.
  Cache first{capacity}, second{capacity};
  forward(attention, forward(attention, prompt, first), second);

  std::stringstream file;  // or std::ofstream("conversation.safetensors", std::ios::binary)
  heed::save(first, file);
  heed::save(second, file);
  std::printf("saved %td and %td tokens\n", first.seqlen(), second.seqlen());

  Cache first_again{capacity}, second_again{capacity};
  heed::load(file, first_again);
  heed::load(file, second_again);
  std::printf("loaded %td and %td tokens\n", first_again.seqlen(), second_again.seqlen());

  const Matrix out = forward(attention, forward(attention, token, first), second);
  const Matrix again = forward(attention, forward(attention, token, first_again), second_again);
  std::printf("the next token is the same, bit for bit: %s\n", yes_or_no(out == again));

  // What is not as it was saved is an error that changes nothing.
  std::string bytes = file.str();
  bytes[4000] ^= 1;
  std::istringstream altered(bytes);
  bool refused = false;
  try {
    heed::load(altered, first_again);
  } catch (const heed::FileError&) {
    refused = true;
  }
  std::printf("an altered bit is found: %s; the cache still has %td tokens\n", yes_or_no(refused),
              first_again.seqlen());

  heed::KvCache<heed::FullKv<num_kv_heads, head_dim>, heed::f16> other{capacity};
  file.seekg(0);
  try {
    heed::load(file, other);
  } catch (const heed::FileError& error) {
    std::printf("%s\n", error.what());
  }
}
