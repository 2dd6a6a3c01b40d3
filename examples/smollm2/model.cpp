// SPDX-License-Identifier: MIT
#include "model.hpp"

#include <optional>
#include <utility>

#include "format_error.hpp"

namespace smollm2 {
namespace {

/// Keys of the file's own architecture: llama.block_count and so on.
struct ModelKeys {
  const GgufFile& file;
  std::string architecture = file.text("general.architecture");

  std::string key(const char* name) const { return architecture + "." + name; }
  Index count(const char* name) const {
    const std::int64_t value = file.integer(key(name));
    if (value <= 0 || value > (std::int64_t{1} << 31))
      throw FormatError(key(name) + " is " + std::to_string(value));
    return value;
  }
  Index count_or(const char* name, Index otherwise) const {
    return file.has(key(name)) ? count(name) : otherwise;
  }
  double number(const char* name) const { return file.number(key(name)); }
};

/// Frequencies that are not theta's: those of a converted model are in its metadata, those of Llama
/// 3 are divided by a factor of each pair.
heed::RopeScaling scaling_of(const ModelKeys& metadata, Index rope_dim, double theta) {
  const auto refuse_unless_pairs = [&](Index found, const std::string& what) {
    if (found != rope_dim / 2)
      throw FormatError(what + " has " + std::to_string(found) + " numbers, expected one of each " +
                        "pair of columns: " + std::to_string(rope_dim / 2));
  };
  const std::string frequencies = metadata.key("rope.frequencies");
  if (metadata.file.has(frequencies)) {
    const std::vector<double> values = metadata.file.numbers(frequencies);
    refuse_unless_pairs(std::ssize(values), frequencies);
    return heed::RopeFrequencies{values};
  }
  if (const StoredMatrix* factors = metadata.file.find_tensor("rope_freqs.weight")) {
    const std::vector<float> divisors = widen(*factors);
    refuse_unless_pairs(std::ssize(divisors), "rope_freqs.weight");
    heed::RopeFrequencies scaled = heed::base_frequencies(rope_dim, theta);
    for (std::size_t pair = 0; pair < divisors.size(); ++pair)
      scaled.inverse_frequency[pair] /= divisors[pair];
    return scaled;
  }
  const std::string type = metadata.key("rope.scaling.type");
  if (!metadata.file.has(type) || metadata.file.text(type) == "none") return heed::UnscaledRope{};
  if (metadata.file.text(type) == "linear")
    return heed::LinearScaling{metadata.number("rope.scaling.factor")};
  throw FormatError(type + " is '" + metadata.file.text(type) + "', expected none or linear");
}

using AttentionShape = std::variant<heed::GroupedShape, heed::LatentShape>;

AttentionShape attention_of(const ModelKeys& metadata, Index model_dim) {
  const Index num_heads = metadata.count("attention.head_count");
  if (metadata.architecture == "llama") {
    const Index head_dim = metadata.count_or("attention.key_length", model_dim / num_heads);
    return heed::GroupedShape{
        .model_dim = model_dim,
        .num_heads = num_heads,
        .num_kv_heads = metadata.count_or("attention.head_count_kv", num_heads),
        .head_dim = head_dim,
        .head_dim_v = metadata.count_or("attention.value_length", head_dim)};
  }
  const Index rope_dim = metadata.count("rope.dimension_count");
  return heed::LatentShape{.model_dim = model_dim,
                           .num_heads = num_heads,
                           .latent_dim = metadata.count("attention.kv_lora_rank"),
                           .rope_dim = rope_dim,
                           .nope_dim = metadata.count("attention.key_length") - rope_dim,
                           .head_dim_v = metadata.count("attention.value_length")};
}

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

ModelShape shape_of(const GgufFile& file) {
  const ModelKeys metadata{file};
  if (metadata.architecture != "llama" && metadata.architecture != "llama-latent")
    throw FormatError("general.architecture is '" + metadata.architecture +
                      "', expected llama (or llama-latent, as convert writes it)");
  const Index model_dim = metadata.count("embedding_length");
  const AttentionShape attention = attention_of(metadata, model_dim);
  const auto* grouped = std::get_if<heed::GroupedShape>(&attention);
  const Index head_dim =
      grouped != nullptr ? grouped->head_dim : metadata.count("attention.key_length");
  // A latent model's queries may be wider than those it was converted from.
  const std::string scale = metadata.key("attention.scale");
  const Index rope_dim = metadata.count_or("rope.dimension_count", head_dim);
  const std::string theta = metadata.key("rope.freq_base");
  ModelShape shape{
      .num_layers = metadata.count("block_count"),
      .model_dim = model_dim,
      .hidden_dim = metadata.count("feed_forward_length"),
      .vocabulary_size = file.tensor("token_embd.weight").rows,
      .context_length = metadata.count("context_length"),
      .attention = attention,
      // GGUF's llama files have the columns of queries and keys in this order.
      .rope = {.rope_dim = rope_dim,
               .theta = file.find_number(theta).value_or(10'000),
               .pairing = heed::RopePairing::interleaved},
      .softmax_scale = file.find_number(scale).value_or(heed::default_softmax_scale(head_dim)),
      .rms_epsilon = static_cast<float>(metadata.number("attention.layer_norm_rms_epsilon"))};
  shape.rope.scaling = scaling_of(metadata, rope_dim, shape.rope.theta);
  return shape;
}

std::span<const float> Weights::floats(const StoredMatrix& tensor) {
  return floats_.emplace_back(widen(tensor));
}

heed::Linear<float> Weights::linear(const std::string& name) {
  if (kept_ == WeightsKept::as_float) return matrix(name);
  heed::Linear<float> linear;
  linear.projection = &projections_.emplace_back(file_.tensor(name + ".weight"));
  if (const StoredMatrix* bias = file_.find_tensor(name + ".bias")) linear.bias = floats(*bias);
  return linear;
}

heed::Linear<float> Weights::matrix(const std::string& name) {
  const StoredMatrix& tensor = file_.tensor(name + ".weight");
  heed::Linear<float> linear{{floats(tensor).data(), tensor.rows, tensor.cols}};
  if (const StoredMatrix* bias = file_.find_tensor(name + ".bias")) linear.bias = floats(*bias);
  return linear;
}

heed::RmsNorm<float> Weights::norm(const std::string& name, const ModelShape& shape) {
  const heed::RmsNorm<float> norm{.weight = floats(file_.tensor(name + ".weight")),
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
  const heed::Rope rope = heed::Rope(shape_.rope).tabulate(shape_.context_length);
  blocks_.reserve(static_cast<std::size_t>(shape_.num_layers));
  for (Index index = 0; index < shape_.num_layers; ++index)
    blocks_.emplace_back(weights_, shape_, rope, index);
  final_norm_ = weights_.norm("output_norm", shape_);
  const char* const head = file_.find_tensor("output.weight") != nullptr ? "output" : "token_embd";
  head_ = weights_.linear(head);
  head_.check("Model", head, shape_.vocabulary_size, shape_.model_dim);
  if (const Index cols = file_.tensor("token_embd.weight").cols; cols != shape_.model_dim)
    throw FormatError("token_embd.weight has " + std::to_string(cols) +
                      " columns, expected model_dim, " + std::to_string(shape_.model_dim));
}

Matrix Model::embed(std::span<const Token> tokens) const {
  const StoredMatrix& table = file_.tensor("token_embd.weight");
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
