// SPDX-License-Identifier: MIT
#include "model.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "format_error.hpp"

namespace smollm2 {
namespace {

/// The products of a block's attention, under the names that GGUF gives them.
template <class Layer, class Shape>
Layer make_attention(Weights& weights, const Shape& shape, double softmax_scale,
                     const heed::Rope& rope, const std::string& block) {
  if constexpr (std::same_as<Shape, heed::GroupedShape>)
    return Layer(shape,
                 {.query = weights.linear(block + "attn_q"),
                  .key = weights.linear(block + "attn_k"),
                  .value = weights.linear(block + "attn_v"),
                  .out = weights.linear(block + "attn_output"),
                  .softmax_scale = softmax_scale},
                 rope);
  else
    return Layer(shape,
                 {.query = weights.linear(block + "attn_q"),
                  .kv_down = weights.linear(block + "attn_kv_a_mqa"),
                  .kv_up = weights.matrix(block + "attn_kv_b"),
                  .out = weights.linear(block + "attn_output"),
                  .softmax_scale = softmax_scale},
                 rope);
}

std::string block_name(Index index) { return "blk." + std::to_string(index) + "."; }

}  // namespace

const StoredMatrix& Weights::taken(const std::string& name) {
  const StoredMatrix& tensor = file_.tensor(name);
  taken_.insert(name);
  return tensor;
}

void Weights::require_all_taken() const {
  for (const auto& [name, tensor] : file_.tensors())
    if (!taken_.contains(name) && name != embedding && name != rope_factors)
      throw FormatError("the tensor " + name + " is of a network that this program does not know");
}

std::span<const float> Weights::floats(const StoredMatrix& tensor) {
  return floats_.emplace_back(widen(tensor));
}

void Weights::add_bias(const std::string& name, heed::Linear<float>& linear) {
  if (file_.find_tensor(name + ".bias") != nullptr) linear.bias = floats(taken(name + ".bias"));
}

heed::Linear<float> Weights::linear(const std::string& name) {
  if (kept_ == WeightsKept::as_float) return matrix(name);
  heed::Linear<float> linear;
  linear.projection = &projections_.emplace_back(taken(name + ".weight"));
  add_bias(name, linear);
  return linear;
}

heed::Linear<float> Weights::matrix(const std::string& name) {
  const StoredMatrix& tensor = taken(name + ".weight");
  heed::Linear<float> linear{{floats(tensor).data(), tensor.rows, tensor.cols}};
  add_bias(name, linear);
  return linear;
}

heed::RmsNorm<float> Weights::norm(const std::string& name, const ModelShape& shape) {
  const heed::RmsNorm<float> norm{.weight = floats(taken(name + ".weight")),
                                  .epsilon = shape.rms_epsilon};
  norm.check("Model", name + ".weight [model_dim]", shape.model_dim);
  return norm;
}

Mlp::Mlp(Weights& weights, const ModelShape& shape, const std::string& block)
    : gate_(weights.linear(block + "ffn_gate")), up_(weights.linear(block + "ffn_up")),
      down_(weights.linear(block + "ffn_down")) {
  gate_.check("Model", block + "ffn_gate", shape.hidden_dim, shape.model_dim);
  up_.check("Model", block + "ffn_up", shape.hidden_dim, shape.model_dim);
  down_.check("Model", block + "ffn_down", shape.model_dim, shape.hidden_dim);
}

void Mlp::forward(ConstRows x, Rows out, const heed::AnyExecutor& executor,
                  Scratch& scratch) const {
  Matrix &gated = scratch.gated, &upper = scratch.upper;
  gated.resize(x.rows, gate_.out());
  upper.resize(x.rows, up_.out());
  gate_.apply(x, Rows(gated), executor);
  up_.apply(x, Rows(upper), executor);
  gated.array() *= upper.array() / (1 + (-gated.array()).exp());
  down_.apply(gated, out, executor);
}

Block::Block(Weights& weights, const ModelShape& shape, const heed::Rope& rope, Index index)
    : attention_norm_(weights.norm(block_name(index) + "attn_norm", shape)),
      mlp_norm_(weights.norm(block_name(index) + "ffn_norm", shape)),
      attention_(std::visit(
          [&](const auto& attention) -> std::variant<Grouped, Latent> {
            using Shape = std::remove_cvref_t<decltype(attention)>;
            using Layer =
                std::conditional_t<std::same_as<Shape, heed::GroupedShape>, Grouped, Latent>;
            return make_attention<Layer>(weights, attention, shape.softmax_scale, rope,
                                         block_name(index));
          },
          shape.attention)),
      mlp_(weights, shape, block_name(index)) {}

Model::Model(const std::filesystem::path& path, WeightsKept kept)
    : file_(path.string()), shape_(shape_of(file_)), weights_(file_, kept) {
  // Beyond the table, which a long context would make large, angles are computed as they come.
  constexpr Index most_tabulated = 32768;
  const heed::Rope rope =
      heed::Rope(shape_.rope).tabulate(std::min(shape_.context_length, most_tabulated));
  blocks_.reserve(static_cast<std::size_t>(shape_.num_layers));
  for (Index index = 0; index < shape_.num_layers; ++index)
    blocks_.emplace_back(weights_, shape_, rope, index);
  final_norm_ = weights_.norm("output_norm", shape_);
  const char* const head = file_.find_tensor("output.weight") != nullptr ? "output" : "token_embd";
  head_ = weights_.linear(head);
  head_.check("Model", head, shape_.vocabulary_size, shape_.model_dim);
  if (const Index cols = file_.tensor(embedding).cols; cols != shape_.model_dim)
    throw FormatError("token_embd.weight has " + std::to_string(cols) +
                      " columns, expected model_dim, " + std::to_string(shape_.model_dim));
  weights_.require_all_taken();
}

Matrix Model::embed(std::span<const Token> tokens) const {
  const StoredMatrix& table = file_.tensor(embedding);
  Matrix x(std::ssize(tokens), shape_.model_dim);
  for (Index row = 0; row < x.rows(); ++row) {
    const Token token = tokens[static_cast<std::size_t>(row)];
    if (token < 0 || token >= table.rows)
      throw FormatError("token " + std::to_string(token) + " is not in the vocabulary of " +
                        std::to_string(table.rows));
    widen_row(table.type, table.row(token),
              {x.row(row).data(), static_cast<std::size_t>(x.cols())});
  }
  return x;
}

void Model::predict(ConstRows x, Rows logits, const heed::AnyExecutor& executor) const {
  Matrix normed = Eigen::Map<const Matrix, 0, Eigen::OuterStride<>>(x.data, x.rows, x.cols,
                                                                    Eigen::OuterStride<>(x.stride));
  final_norm_.apply(Rows(normed));
  head_.apply(normed, logits, executor);
}

}  // namespace smollm2
