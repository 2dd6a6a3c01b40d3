// SPDX-License-Identifier: MIT
// A small language model of your own around heed: embedding, two transformer blocks, greedy
// decoding.
#include <cstdio>
#include <vector>

#include "inputs.hpp"

namespace {

constexpr heed::GroupedShape shape{
    .model_dim = 64, .num_heads = 4, .num_kv_heads = 2, .head_dim = 16};
constexpr heed::Index hidden_dim = 160, vocabulary = 50, capacity = 64;
using Cache = heed::KvCache<heed::FullKv<shape.num_kv_heads, shape.head_dim>>;

/// The numbers of a block. heed's layers look at them and keep no copy: they must stay where they
/// are.
struct BlockWeights {
  Matrix query, key, value, out;  // attention
  Matrix gate, up, down;          // SwiGLU
  std::vector<float> attention_gain, mlp_gain;

  explicit BlockWeights(unsigned seed)
      : query(weight_matrix(shape.num_heads * shape.head_dim, shape.model_dim, seed)),
        key(weight_matrix(shape.num_kv_heads * shape.head_dim, shape.model_dim, seed + 1)),
        value(weight_matrix(shape.num_kv_heads * shape.head_dim, shape.model_dim, seed + 2)),
        out(weight_matrix(shape.model_dim, shape.num_heads * shape.head_dim, seed + 3)),
        gate(weight_matrix(hidden_dim, shape.model_dim, seed + 4)),
        up(weight_matrix(hidden_dim, shape.model_dim, seed + 5)),
        down(weight_matrix(shape.model_dim, hidden_dim, seed + 6)),
        attention_gain(shape.model_dim, 1), mlp_gain(shape.model_dim, 1) {}
};

/// x + attention(norm(x)), then x + mlp(norm(x)), as in Llama.
class Block {
 public:
  explicit Block(const BlockWeights& weights)
      : attention_norm_{weights.attention_gain}, mlp_norm_{weights.mlp_gain},
        attention_({{weights.query}, {weights.key}, {weights.value}, {weights.out}},
                   heed::Rope{{.rope_dim = shape.head_dim}}),
        gate_{weights.gate}, up_{weights.up}, down_{weights.down} {}

  /// \param x  [seqlen, model_dim], the newest tokens; replaced by what the block makes of them
  /// \param workspace  scratch, of all blocks
  void forward(Matrix& x, Cache& cache, heed::Workspace& workspace) const {
    Matrix added(x.rows(), x.cols());
    attention_.forward(normed(attention_norm_, x), cache, heed::CausalMask{}, added,
                       {.workspace = &workspace});
    x += added;

    const Matrix input = normed(mlp_norm_, x);
    Matrix gate(x.rows(), hidden_dim), up(x.rows(), hidden_dim);
    gate_.apply(input, gate);
    up_.apply(input, up);
    up.array() *= gate.array() / (1 + (-gate.array()).exp());
    down_.apply(up, added);
    x += added;
  }

 private:
  static Matrix normed(const heed::RmsNorm<float>& norm, Matrix x) {
    norm.apply(heed::RowsView<float>(x));
    return x;
  }

  heed::RmsNorm<float> attention_norm_, mlp_norm_;
  heed::GroupedQueryAttention<float, shape> attention_;
  heed::Linear<float> gate_, up_, down_;
};

class Model {
 public:
  Model() = default;
  Model(const Model&) = delete;  // the blocks look at first_ and second_
  Model& operator=(const Model&) = delete;

  /// A cache per block. Each conversation has its own.
  std::vector<Cache> make_caches() const {
    std::vector<Cache> caches;
    for (std::size_t block = 0; block < blocks_.size(); ++block) caches.emplace_back(capacity);
    return caches;
  }

  /// The likeliest token after these, which follow on the tokens in the caches.
  int next(const std::vector<int>& tokens, std::vector<Cache>& caches) const {
    Matrix x(std::ssize(tokens), shape.model_dim);
    for (heed::Index row = 0; row < x.rows(); ++row)
      x.row(row) = embedding_.row(tokens[static_cast<std::size_t>(row)]);
    for (std::size_t block = 0; block < blocks_.size(); ++block)
      blocks_[block].forward(x, caches[block], workspace_);
    heed::Index likeliest = 0;
    (unembedding_ * x.bottomRows(1).transpose()).col(0).maxCoeff(&likeliest);
    return static_cast<int>(likeliest);
  }

 private:
  BlockWeights first_{10}, second_{20};
  std::vector<Block> blocks_{Block{first_}, Block{second_}};
  mutable heed::Workspace workspace_;  // threads may share it
  Matrix embedding_ = normal_matrix(vocabulary, shape.model_dim, 30);
  Matrix unembedding_ = normal_matrix(vocabulary, shape.model_dim, 40);
};

}  // namespace

int main() {
  const Model model;
  const std::vector<int> prompt{3, 14, 15, 9, 26, 5};
  constexpr int num_new = 8;

  // With caches: the prompt once, then a token at a time.
  std::vector<Cache> caches = model.make_caches();
  std::vector<int> tokens = prompt;
  tokens.push_back(model.next(prompt, caches));
  while (tokens.size() < prompt.size() + num_new)
    tokens.push_back(model.next({tokens.back()}, caches));

  // Without: all over again for every token.
  std::vector<int> recomputed = prompt;
  while (recomputed.size() < prompt.size() + num_new) {
    std::vector<Cache> empty = model.make_caches();
    recomputed.push_back(model.next(recomputed, empty));
  }

  std::printf("tokens");
  for (const int token : tokens) std::printf(" %d", token);
  std::printf("\nthe same without caches: %s\n", yes_or_no(tokens == recomputed));

  std::size_t per_token = 0, bytes = 0;
  for (const Cache& cache : caches) {
    per_token += cache.bytes_per_token();
    bytes += cache.bytes();
  }
  std::printf("%td tokens in %zu caches: %zu bytes per token, %zu for the capacity of %td\n",
              caches.front().seqlen(), caches.size(), per_token, bytes, caches.front().capacity());
}
