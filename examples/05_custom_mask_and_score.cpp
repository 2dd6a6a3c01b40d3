// SPDX-License-Identifier: MIT
// Masks and scores: ready-made ones, conjunctions and chains of them, and your own.
#include <cstdio>
#include <vector>

#include "inputs.hpp"

namespace {

/// A mask of our own. Sequences are cut into chunks, and a query sees the tokens of its own chunk
/// up to itself. The keys of a row are contiguous, so one function says it all and whole pages are
/// skipped.
struct ChunkMask {
  heed::Index chunk_size;

  heed::KeyRange visible(heed::Index q_row, const heed::MaskExtent& extent) const noexcept {
    const heed::Index position = extent.query_position(q_row);
    return {position / chunk_size * chunk_size, position + 1};
  }
};

/// What a mask lets through, read off the probabilities: with unit vectors as values, attention
/// gives those. All scores are 0 here, so a probability is 0 only where the mask hides the key.
template <class Mask>
void draw(const char* name, const Mask& mask, heed::Index seqlen_q, heed::Index seqlen_kv) {
  const Matrix query = Matrix::Zero(seqlen_q, 1), key = Matrix::Zero(seqlen_kv, 1);
  const Matrix unit_vectors = Matrix::Identity(seqlen_kv, seqlen_kv);
  Matrix probs(seqlen_q, seqlen_kv);
  heed::attend(query, key, unit_vectors, mask, 1.0, probs);
  std::printf("%s\n", name);
  for (heed::Index q_row = 0; q_row < seqlen_q; ++q_row) {
    std::printf("   ");
    for (heed::Index kv_row = 0; kv_row < seqlen_kv; ++kv_row)
      std::printf(" %d", probs(q_row, kv_row) > 0 ? 1 : 0);
    std::printf("\n");
  }
}

void draw_masks() {
  const heed::CausalMask causal;
  draw("CausalMask, 2 queries on 4 keys", causal, 2, 4);
  draw("SlidingWindowMask{.window_left = 1}", heed::SlidingWindowMask{.window_left = 1}, 4, 4);
  draw("both(CausalMask, PaddingMask): two keys of left padding",
       heed::both(causal, heed::PaddingMask{.begin = 2, .end = 6}), 6, 6);
  draw("ChunkMask of our own, chunks of 3", ChunkMask{3}, 6, 6);

  // A lambda on the two positions decides pair by pair: itself, and every third token before.
  const heed::CustomMask strided{[](heed::Index query_position, heed::Index key_position) {
    return (query_position - key_position) % 3 == 0;
  }};
  draw("both(CausalMask, CustomMask): every third key back", heed::both(causal, strided), 6, 6);
}

/// Two heads, 5 queries, 5 keys.
struct Inputs {
  Matrix query = normal_matrix(5, 2 * 8, 1), key = normal_matrix(5, 2 * 8, 2);
  Matrix value = normal_matrix(5, 2 * 8, 3);

  template <class Score>
  Matrix attend(const Score& score) const {
    Matrix out(5, 2 * 8);
    heed::attend(heed::split_heads(query, 2), heed::split_heads(key, 2),
                 heed::split_heads(value, 2), heed::CausalMask{}, score, heed::split_heads(out, 2));
    return out;
  }
};

void compare_scores() {
  const Inputs inputs;
  const double softmax_scale = heed::default_softmax_scale(8);
  const Matrix plain = inputs.attend(softmax_scale);

  // A penalty by distance, ready-made and as a lambda.
  const auto slopes = heed::alibi_slopes<float>(2);
  const Matrix alibi =
      inputs.attend(heed::chain(heed::Scale{softmax_scale}, heed::Alibi<float>{slopes}));
  const heed::CustomScore by_distance{
      [&](float score, heed::Index head, heed::Index query_position, heed::Index key_position) {
        return score + slopes[static_cast<std::size_t>(head)] *
                           static_cast<float>(key_position - query_position);
      }};
  const Matrix custom = inputs.attend(heed::chain(heed::Scale{softmax_scale}, by_distance));
  std::printf("ALiBi slopes of two heads: %g, %g\n", static_cast<double>(slopes[0]),
              static_cast<double>(slopes[1]));
  std::printf("ALiBi changes the result: %s\n", yes_or_no(distance(alibi, plain) > 0.01F));
  std::printf("a lambda that computes the same gives the same: %s\n",
              yes_or_no(distance(custom, alibi) < 1e-5F));

  // A cap far above the scores changes next to nothing; a tight one flattens the probabilities.
  const auto capped = [&](double cap) {
    return inputs.attend(heed::chain(heed::Scale{softmax_scale}, heed::Softcap{cap}));
  };
  std::printf("softcap 1000 changes the result by less than 1e-3: %s\n",
              yes_or_no(distance(capped(1000), plain) < 1e-3F));
  std::printf("softcap 0.1 changes it by more than 0.1: %s\n",
              yes_or_no(distance(capped(0.1), plain) > 0.1F));
}

/// A sink is one more score in a head's denominator: it takes its share of the probability and
/// gives no value, so out shrinks by that share.
void add_sinks() {
  const Matrix query = normal_matrix(5, 8, 4), key = normal_matrix(5, 8, 5);
  const Matrix value = normal_matrix(5, 8, 6);
  const double softmax_scale = heed::default_softmax_scale(8);
  const std::vector<float> sinks{2};
  Matrix plain(5, 8), lse(1, 5), with_sink(5, 8);
  heed::attend(query, key, value, heed::CausalMask{}, softmax_scale, plain, lse);
  heed::attend(query, key, value, heed::CausalMask{}, softmax_scale, with_sink, {.sinks = sinks});
  const Matrix share = 1 / (1 + (sinks[0] - lse.array()).exp());
  std::printf("a sink takes its share: %s\n",
              yes_or_no(distance(with_sink, share.row(0).asDiagonal() * plain) < 1e-5F));
}

}  // namespace

int main() {
  draw_masks();
  std::printf("\n");
  compare_scores();
  add_sinks();
}
