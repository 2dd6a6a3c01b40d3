// SPDX-License-Identifier: MIT
// Cross-attention: a decoder's queries on an encoder's memory, whose keys and values are cached
// once.
#include <cstdio>

#include "inputs.hpp"

int main() {
  // The memory may be of another width than the decoder; only the key and value weights see it.
  constexpr heed::Index model_dim = 64, memory_dim = 48, num_heads = 4, head_dim = 16;
  constexpr heed::Index memory_len = 9;
  const Matrix query = weight_matrix(num_heads * head_dim, model_dim, 1);
  const Matrix key = weight_matrix(num_heads * head_dim, memory_dim, 2);
  const Matrix value = weight_matrix(num_heads * head_dim, memory_dim, 3);
  const Matrix output = weight_matrix(model_dim, num_heads * head_dim, 4);
  const heed::MultiHeadAttention<float, model_dim, num_heads, head_dim> attention{
      {{query}, {key}, {value}, {output}}};

  const Matrix memory = normal_matrix(memory_len, memory_dim, 5);
  const Matrix targets = normal_matrix(4, model_dim, 6);

  // Training: all targets at once, keys and values made on the way.
  Matrix at_once(4, model_dim);
  attention.forward_cross(targets, memory, memory, heed::NoMask{}, at_once);

  // Inference: the memory is projected once, then each target reads it.
  heed::KvCache<heed::FullKv<num_heads, head_dim>> cached{memory_len};
  attention.append_memory(memory, memory, cached);
  const heed::Index cached_before = cached.seqlen();
  Matrix out(4, model_dim);
  for (heed::Index target = 0; target < 4; ++target)
    attention.forward_cross(targets.row(target), cached, heed::NoMask{}, out.row(target));
  std::printf("one by one on the cached memory gives what all at once gives: %s\n",
              yes_or_no(distance(out, at_once) < 1e-5F));
  std::printf("tokens of memory before: %td, after: %td\n", cached_before, cached.seqlen());

  // A memory with padding behind it: the mask names the keys that are real.
  Matrix padded(memory_len + 3, memory_dim);
  padded << memory, Matrix::Constant(3, memory_dim, 1e6F);
  attention.forward_cross(targets, padded, padded, heed::PaddingMask{.begin = 0, .end = memory_len},
                          out);
  std::printf("padding that the mask hides changes nothing: %s\n",
              yes_or_no(distance(out, at_once) < 1e-5F));
}
