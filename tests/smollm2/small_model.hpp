// SPDX-License-Identifier: MIT
/// \file
/// A random model of a few thousand weights, as a file, and what it computes in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <random>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "gguf_writer.hpp"
#include "model.hpp"

namespace smollm2::test {

using MatrixD = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// A path for a file, which goes when this goes.
class TemporaryFile {
 public:
  TemporaryFile()
      : path_(std::filesystem::temp_directory_path() /
              ("heed_smollm2_" + std::to_string(std::random_device{}()) + ".gguf")) {}
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() { std::filesystem::remove(path_); }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

/// Sizes that differ where they may.
struct SmallShape {
  static constexpr std::uint32_t num_layers = 2, model_dim = 96, hidden_dim = 128, num_heads = 4,
                                 num_kv_heads = 2, head_dim = 16, vocabulary = 40,
                                 context_length = 256;
  static constexpr float theta = 100;  // so that turns matter within few tokens
};

inline std::vector<std::byte> random_rows(TensorType type, Index rows, Index cols, double size,
                                          std::mt19937& engine) {
  std::normal_distribution<float> normal(0, static_cast<float>(size));
  std::vector<float> row(static_cast<std::size_t>(cols));
  std::vector<std::byte> data(static_cast<std::size_t>(rows * row_bytes(type, cols)));
  for (Index r = 0; r < rows; ++r) {
    for (float& value : row) value = normal(engine);
    narrow_row(type, row, data.data() + r * row_bytes(type, cols));
  }
  return data;
}

/// Metadata and tensors of the small model.
/// \param type  of the matrices; norms are F32
inline GgufWriter small_model(TensorType type = TensorType::f32) {
  using S = SmallShape;
  GgufWriter writer;
  writer.add("general.architecture", std::string("llama"));
  writer.add("llama.block_count", S::num_layers);
  writer.add("llama.embedding_length", S::model_dim);
  writer.add("llama.feed_forward_length", S::hidden_dim);
  writer.add("llama.context_length", S::context_length);
  writer.add("llama.attention.head_count", S::num_heads);
  writer.add("llama.attention.head_count_kv", S::num_kv_heads);
  writer.add("llama.attention.key_length", S::head_dim);
  writer.add("llama.attention.value_length", S::head_dim);
  writer.add("llama.rope.dimension_count", S::head_dim);
  writer.add("llama.rope.freq_base", S::theta);
  writer.add("llama.attention.layer_norm_rms_epsilon", 1e-5F);
  std::mt19937 engine(1);
  const auto matrix = [&](const std::string& name, Index rows, Index cols) {
    writer.add_tensor(name + ".weight", type, rows, cols,
                      random_rows(type, rows, cols, 1 / std::sqrt(double(cols)), engine));
  };
  const auto norm = [&](const std::string& name) {
    writer.add_tensor(name + ".weight", TensorType::f32, 1, S::model_dim,
                      random_rows(TensorType::f32, 1, S::model_dim, 1, engine));
  };
  writer.add_tensor("token_embd.weight", type, S::vocabulary, S::model_dim,
                    random_rows(type, S::vocabulary, S::model_dim, 1, engine));
  for (std::uint32_t layer = 0; layer < S::num_layers; ++layer) {
    const std::string block = "blk." + std::to_string(layer) + ".";
    norm(block + "attn_norm");
    matrix(block + "attn_q", S::num_heads * S::head_dim, S::model_dim);
    matrix(block + "attn_k", S::num_kv_heads * S::head_dim, S::model_dim);
    matrix(block + "attn_v", S::num_kv_heads * S::head_dim, S::model_dim);
    matrix(block + "attn_output", S::model_dim, S::num_heads * S::head_dim);
    norm(block + "ffn_norm");
    matrix(block + "ffn_gate", S::hidden_dim, S::model_dim);
    matrix(block + "ffn_up", S::hidden_dim, S::model_dim);
    matrix(block + "ffn_down", S::model_dim, S::hidden_dim);
  }
  norm("output_norm");
  return writer;
}

/// The model's logits, [tokens, vocabulary], by the formulas of the Llama paper, arXiv:2302.13971.
/// \param num_kv_heads  as many as the file's keys and values have
inline MatrixD exact_logits(const GgufFile& file, std::span<const Token> tokens,
                            Index num_kv_heads = SmallShape::num_kv_heads) {
  using S = SmallShape;
  constexpr Index d = S::head_dim;
  const auto weight = [&](const std::string& name) -> MatrixD {
    const StoredMatrix& tensor = file.tensor(name + ".weight");
    const std::vector<float> floats = widen(tensor);
    return Eigen::Map<const Matrix>(floats.data(), tensor.rows, tensor.cols).cast<double>();
  };
  const auto normed = [&](const MatrixD& x, const std::string& name) -> MatrixD {
    MatrixD y = x;
    for (Index r = 0; r < y.rows(); ++r)
      y.row(r) = (x.row(r) / std::sqrt(x.row(r).squaredNorm() / double(x.cols()) + 1e-5F))
                     .cwiseProduct(weight(name).row(0));
    return y;
  };
  const auto turned = [&](MatrixD x) {
    for (Index position = 0; position < x.rows(); ++position)
      for (Index c = 0; c < x.cols(); c += 2) {
        const double angle = double(position) * std::pow(double{S::theta}, -double(c % d) / d);
        const double a = x(position, c), b = x(position, c + 1);
        x(position, c) = a * std::cos(angle) - b * std::sin(angle);
        x(position, c + 1) = a * std::sin(angle) + b * std::cos(angle);
      }
    return x;
  };
  MatrixD x(std::ssize(tokens), Index{S::model_dim});
  for (Index r = 0; r < x.rows(); ++r)
    x.row(r) = weight("token_embd").row(tokens[static_cast<std::size_t>(r)]);
  for (std::uint32_t layer = 0; layer < S::num_layers; ++layer) {
    const std::string block = "blk." + std::to_string(layer) + ".";
    const MatrixD input = normed(x, block + "attn_norm");
    const MatrixD query = turned(input * weight(block + "attn_q").transpose());
    const MatrixD key = turned(input * weight(block + "attn_k").transpose());
    const MatrixD value = input * weight(block + "attn_v").transpose();
    MatrixD heads = MatrixD::Zero(x.rows(), query.cols());
    for (Index head = 0; head < S::num_heads; ++head) {
      const Index kv_head = head / (S::num_heads / num_kv_heads);
      for (Index r = 0; r < x.rows(); ++r) {
        Eigen::VectorXd probs = key.block(0, kv_head * d, r + 1, d) *
                                query.row(r).segment(head * d, d).transpose() / std::sqrt(d);
        probs = (probs.array() - probs.maxCoeff()).exp();
        heads.row(r).segment(head * d, d) =
            probs.transpose() / probs.sum() * value.block(0, kv_head * d, r + 1, d);
      }
    }
    x += heads * weight(block + "attn_output").transpose();
    const MatrixD second = normed(x, block + "ffn_norm");
    MatrixD gate = second * weight(block + "ffn_gate").transpose();
    gate = gate.array() / (1 + (-gate.array()).exp()) *
           (second * weight(block + "ffn_up").transpose()).array();
    x += gate * weight(block + "ffn_down").transpose();
  }
  return normed(x, "output_norm") * weight("token_embd").transpose();
}

/// Some tokens of the small vocabulary.
inline std::vector<Token> some_tokens(std::size_t count) {
  std::vector<Token> tokens(count);
  for (std::size_t i = 0; i < count; ++i)
    tokens[i] = static_cast<Token>(i * 17 % SmallShape::vocabulary);
  return tokens;
}

/// The largest difference between the last token's logits and those expected; NaN if one is.
inline double distance(std::span<const float> logits, const Eigen::VectorXd& expected) {
  const Eigen::Map<const Eigen::VectorXf> found(logits.data(), std::ssize(logits));
  return (found.cast<double>() - expected).cwiseAbs().maxCoeff<Eigen::PropagateNaN>();
}

}  // namespace smollm2::test
