// SPDX-License-Identifier: MIT
/// \file
/// What a file says of its network: sizes, RoPE, and whether this program knows all of it.

#include <optional>
#include <set>
#include <string_view>
#include <variant>

#include "format_error.hpp"
#include "model.hpp"

namespace smollm2 {
namespace {

using AttentionShape = std::variant<heed::GroupedShape, heed::LatentShape>;

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

/// Throws for what this program would leave out of the network: any key of the architecture that it
/// does not know.
void refuse_unknown_keys(const ModelKeys& metadata) {
  static const std::set<std::string_view> known{"attention.head_count",
                                                "attention.head_count_kv",
                                                "attention.key_length",
                                                "attention.kv_lora_rank",
                                                "attention.layer_norm_rms_epsilon",
                                                "attention.scale",
                                                "attention.value_length",
                                                "block_count",
                                                "context_length",
                                                "embedding_length",
                                                "feed_forward_length",
                                                "rope.dimension_count",
                                                "rope.freq_base",
                                                "rope.frequencies",
                                                "rope.scale_linear",
                                                "rope.scaling.factor",
                                                "rope.scaling.finetuned",
                                                "rope.scaling.original_context_length",
                                                "rope.scaling.type",
                                                "vocab_size"};
  const std::string prefix = metadata.architecture + ".";
  for (const auto& [key, value] : metadata.file.metadata())
    if (key.starts_with(prefix) && !known.contains(std::string_view(key).substr(prefix.size())))
      throw FormatError(key + " says something of the network that this program does not know");
}

/// How much slower than theta's all pairs turn: by a scaling that the file names, or by files'
/// older way to say so.
double linear_factor(const ModelKeys& metadata) {
  const auto type_key = metadata.key("rope.scaling.type");
  const std::string* type = metadata.file.find_text(type_key);
  if (type != nullptr && *type == "none") return 1;
  if (type != nullptr && *type != "linear")
    throw FormatError(type_key + " is '" + *type + "', expected none or linear");
  for (const char* name : {"rope.scaling.factor", "rope.scale_linear"})
    if (const auto factor = metadata.file.find_number(metadata.key(name))) return *factor;
  if (type != nullptr) throw FormatError(type_key + " is linear, but there is no factor");
  return 1;
}

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
  const double factor = linear_factor(metadata);
  if (const StoredMatrix* factors = metadata.file.find_tensor(rope_factors)) {
    const std::vector<float> divisors = widen(*factors);
    refuse_unless_pairs(std::ssize(divisors), rope_factors);
    heed::RopeFrequencies scaled = heed::base_frequencies(rope_dim, theta);
    for (std::size_t pair = 0; pair < divisors.size(); ++pair) {
      if (!(divisors[pair] > 0))
        throw FormatError(std::string(rope_factors) + " has " + std::to_string(divisors[pair]) +
                          ", expected positive numbers");
      scaled.inverse_frequency[pair] /= factor * divisors[pair];
    }
    return scaled;
  }
  if (factor == 1) return heed::UnscaledRope{};
  return heed::LinearScaling{factor};
}

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

}  // namespace

ModelShape shape_of(const GgufFile& file) {
  if (const std::int64_t parts = file.find_integer("split.count").value_or(1); parts > 1)
    throw FormatError("split.count is " + std::to_string(parts) +
                      ": this is a part of a model, whose parts must be put together first");
  const ModelKeys metadata{file};
  if (metadata.architecture != "llama" && metadata.architecture != "llama-latent")
    throw FormatError("general.architecture is '" + metadata.architecture +
                      "', expected llama (or llama-latent, as convert writes it)");
  refuse_unknown_keys(metadata);
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
      .vocabulary_size = file.tensor(embedding).rows,
      .context_length = metadata.count("context_length"),
      .attention = attention,
      // GGUF's llama files have the columns of queries and keys in this order.
      .rope = {.rope_dim = rope_dim,
               .theta = file.find_number(theta).value_or(10'000),
               .pairing = heed::RopePairing::interleaved},
      .softmax_scale = file.find_number(scale).value_or(heed::default_softmax_scale(head_dim)),
      .rms_epsilon = static_cast<float>(metadata.number("attention.layer_norm_rms_epsilon"))};
  shape.rope.scaling = scaling_of(metadata, rope_dim, shape.rope.theta);
  if (!(shape.softmax_scale > 0))
    throw FormatError(scale + " is " + std::to_string(shape.softmax_scale));
  if (!(shape.rms_epsilon >= 0))
    throw FormatError(metadata.key("attention.layer_norm_rms_epsilon") + " is " +
                      std::to_string(shape.rms_epsilon));
  if (const auto tokens = file.find_integer(metadata.key("vocab_size"));
      tokens && *tokens != shape.vocabulary_size)
    throw FormatError(metadata.key("vocab_size") + " is " + std::to_string(*tokens) +
                      ", but the embedding has " + std::to_string(shape.vocabulary_size) + " rows");
  return shape;
}

}  // namespace smollm2
