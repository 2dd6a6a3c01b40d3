// SPDX-License-Identifier: MIT
/// \file
/// The network of a Llama-family model: heed's attention layers with an embedding, norms and MLPs
/// around them.
#pragma once

#include <deque>
#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include <heed/heed.hpp>

#include "gguf.hpp"
#include "stored_projection.hpp"
#include "vocabulary.hpp"  // Token

namespace smollm2 {

using heed::Index;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Rows = heed::RowsView<float>;
using ConstRows = heed::RowsView<const float>;

/// What a model file says of its network.
struct ModelShape {
  Index num_layers, model_dim, hidden_dim, vocabulary_size;
  Index context_length;  ///< tokens that it was trained on at a time
  std::variant<heed::GroupedShape, heed::LatentShape> attention;
  heed::RopeOptions rope;
  double softmax_scale;
  float rms_epsilon;
};

/// \throws FormatError if the architecture is none that this program runs: `llama`, and
/// `llama-latent` as convert writes it.
ModelShape shape_of(const GgufFile& file);

/// How weights are held.
enum class WeightsKept {
  as_stored,  ///< in the file's blocks, widened as they are used
  as_float,   ///< widened once: more memory, and products by Eigen
};

/// Tensors that are not a layer's.
inline constexpr const char* embedding = "token_embd.weight";
inline constexpr const char* rope_factors = "rope_freqs.weight";

/// The weights of a file as heed's layers take them. They point into the file's memory, or into
/// this object's.
class Weights {
 public:
  Weights(const GgufFile& file, WeightsKept kept) : file_(file), kept_(kept) {}

  /// `NAME.weight` [out, in], and `NAME.bias` if there is one.
  heed::Linear<float> linear(const std::string& name);
  /// `NAME.weight` as floats whatever the file has.
  heed::Linear<float> matrix(const std::string& name);
  /// `NAME.weight` [model_dim].
  heed::RmsNorm<float> norm(const std::string& name, const ModelShape& shape);
  /// \throws FormatError if the file has a tensor that was not asked for
  void require_all_taken() const;

 private:
  const StoredMatrix& taken(const std::string& name);
  std::span<const float> floats(const StoredMatrix& tensor);
  void add_bias(const std::string& name, heed::Linear<float>& linear);

  const GgufFile& file_;
  WeightsKept kept_;
  std::set<std::string> taken_;
  std::deque<StoredProjection> projections_;
  std::deque<std::vector<float>> floats_;
};

/// What passes work in, kept from one to the next. A context has one for all blocks, which come one
/// after another.
struct Scratch {
  heed::Workspace workspace;  ///< of the attention layers
  Matrix gated, upper;        ///< of the MLPs: [seqlen, hidden_dim]
};

/// down(silu(gate(x)) * up(x)). Source: Shazeer 2020 (SwiGLU), arXiv:2002.05202.
class Mlp {
 public:
  /// \throws heed::ShapeError if a weight does not fit the shape
  Mlp(Weights& weights, const ModelShape& shape, const std::string& block);
  void forward(ConstRows x, Rows out, const heed::AnyExecutor& executor, Scratch& scratch) const;

 private:
  heed::Linear<float> gate_, up_, down_;
};

/// x + attention(norm(x)), then x + mlp(norm(x)).
class Block {
 public:
  /// \throws heed::ShapeError if a weight does not fit the shape
  Block(Weights& weights, const ModelShape& shape, const heed::Rope& rope, Index index);

  /// \param x      [seqlen, model_dim], the newest tokens; replaced by what the block makes of them
  /// \param cache  KvCache<FullKv<>, E> if the model's attention is grouped, KvCache<LatentKv<>, E>
  ///               if it is latent; x's keys and values are appended
  template <class Cache, class Mask>
  void forward(Matrix& x, Cache& cache, const Mask& mask, const heed::AnyExecutor& executor,
               Scratch& scratch) const {
    Matrix normed = x, added(x.rows(), x.cols());
    attention_norm_.apply(Rows(normed));
    using Layer = std::conditional_t<heed::is_latent<Entry<Cache>>, Latent, Grouped>;
    std::get<Layer>(attention_)
        .forward(normed, cache, mask, Rows(added),
                 {.executor = executor, .workspace = &scratch.workspace});
    x += added;
    normed = x;
    mlp_norm_.apply(Rows(normed));
    mlp_.forward(normed, added, executor, scratch);
    x += added;
  }

 private:
  using Grouped = heed::GroupedQueryAttention<float>;
  using Latent = heed::MultiHeadLatentAttention<float>;
  template <class Cache>
  using Entry = std::remove_cvref_t<decltype(std::declval<Cache&>().entry())>;

  heed::RmsNorm<float> attention_norm_, mlp_norm_;
  std::variant<Grouped, Latent> attention_;
  Mlp mlp_;
};

/// A network and its weights. It never changes, so that many contexts may share it.
class Model {
 public:
  /// \throws FormatError if the file is no model of a known architecture, or lacks a weight;
  /// heed::ShapeError if a weight is of another shape
  explicit Model(const std::filesystem::path& path, WeightsKept kept = WeightsKept::as_stored);

  const GgufFile& file() const noexcept { return file_; }
  const ModelShape& shape() const noexcept { return shape_; }
  const std::vector<Block>& blocks() const noexcept { return blocks_; }

  /// The first block's input, [tokens, model_dim]. \throws FormatError for a token that is none.
  Matrix embed(std::span<const Token> tokens) const;
  /// \param x       [rows, model_dim], the last block's output
  /// \param logits  [rows, vocabulary_size], overwritten
  void predict(ConstRows x, Rows logits, const heed::AnyExecutor& executor) const;

 private:
  GgufFile file_;
  ModelShape shape_;
  Weights weights_;
  std::vector<Block> blocks_;
  heed::RmsNorm<float> final_norm_;
  heed::Linear<float> head_;
};

}  // namespace smollm2
