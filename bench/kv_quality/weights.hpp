// SPDX-License-Identifier: MIT
/// \file
/// Keys, values and queries that the weights of a model's layer make of random hidden states.
///
/// What the weights alone show: channels that are large because of a bias or of what the norm and
/// the projection let through. What only real text shows, such as tokens that all others look at,
/// is not there.
#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>

#include "heed/policy/score.hpp"
#include "kv_quality/synthetic.hpp"
#include "shared/safetensors.hpp"

namespace heed::bench::quality {

/// Weights that cannot be read or do not fit. The message names the file and the tensor.
class WeightsError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Where the weights are, and what they do not say of themselves.
struct WeightsPlace {
  std::filesystem::path file;  ///< safetensors, tensors named as model hubs name Llama's
  Index layer = 0;
  Index num_heads = 0, num_kv_heads = 0;
};

namespace detail {

class LayerFile {
 public:
  explicit LayerFile(const WeightsPlace& place)
      : path_(place.file.string()), prefix_("model.layers." + std::to_string(place.layer) + ".") {
    try {
      file_ = files::Safetensors::read(path_, [this](const std::string& name) {
        return name.starts_with(prefix_ + "self_attn.") ||
               name == prefix_ + "input_layernorm.weight";
      });
    } catch (const files::SafetensorsError& error) {
      fail(error.what());
    }
    for (const char* norm : {"q_norm", "k_norm"})
      if (file_.find(prefix_ + "self_attn." + norm + ".weight") != nullptr)
        fail("it has " + prefix_ + "self_attn." + norm +
             ".weight; norms of query and key heads are not supported");
  }

  [[noreturn]] void fail(const std::string& sentence) const {
    throw WeightsError(path_ + ": " + sentence);
  }

  /// [out, in]
  Matrix weight(const std::string& name) const {
    const files::Tensor& tensor = required(name + ".weight");
    if (tensor.shape.size() != 2 || tensor.count() == 0)
      fail("tensor " + tensor.text() + " should be [out, in]");
    return matrix(tensor, tensor.shape[0]);
  }
  /// [1, width], or empty if there is none.
  Matrix optional_row(const std::string& name, Index width) const {
    const files::Tensor* tensor = file_.find(prefix_ + name);
    return tensor == nullptr ? Matrix() : row(*tensor, width);
  }
  Matrix row(const std::string& name, Index width) const { return row(required(name), width); }

  /// hidden W^T + b. \param num_heads  what its columns must be a multiple of
  Matrix project(const Matrix& hidden, const std::string& name, Index num_heads) const {
    const Matrix w = weight(name);
    if (w.cols() != hidden.cols() || w.rows() % num_heads != 0)
      fail("tensor " + prefix_ + name + ".weight [" + std::to_string(w.rows()) + ", " +
           std::to_string(w.cols()) + "] should be [a multiple of " + std::to_string(num_heads) +
           " heads, " + std::to_string(hidden.cols()) + "]");
    Matrix out = hidden * w.transpose();
    const Matrix bias = optional_row(name + ".bias", w.rows());
    if (bias.size() > 0) out.rowwise() += Eigen::RowVectorXf(bias.row(0));
    return out;
  }

 private:
  const files::Tensor& required(const std::string& name) const {
    if (const files::Tensor* tensor = file_.find(prefix_ + name)) return *tensor;
    fail("tensor " + prefix_ + name +
         " is missing; of a model in several files, give the one that has the layer");
  }
  Matrix row(const files::Tensor& tensor, Index width) const {
    if (tensor.shape != std::vector<Index>{width})
      fail("tensor " + tensor.text() + " should be [" + std::to_string(width) + "]");
    return matrix(tensor, 1);
  }
  Matrix matrix(const files::Tensor& tensor, Index rows) const {
    if (tensor.type == files::ElementType::i64 || tensor.type == files::ElementType::boolean)
      fail("tensor " + tensor.text() + " should be of F32, F16 or BF16");
    const auto values = tensor.values<float>();
    for (const float value : values)
      if (!std::isfinite(value)) fail("tensor " + tensor.text() + " has a NaN or inf");
    return Eigen::Map<const Matrix>(values.data(), rows, std::ssize(values) / rows);
  }

  std::string path_, prefix_;
  files::Safetensors file_;
};

}  // namespace detail

/// \throws WeightsError
inline Inputs inputs_of_weights(const WeightsPlace& place, const Sequence& sequence) {
  const detail::LayerFile file(place);
  Normal normal(sequence.seed);
  const Index model_dim = file.weight("self_attn.q_proj").cols();
  // Random-normal rows are of RMS 1 already, as if normed.
  Matrix hidden = normal.matrix(sequence.seqlen, model_dim).cast<float>();
  hidden = (hidden * file.row("input_layernorm.weight", model_dim).row(0).asDiagonal()).eval();

  Inputs inputs{.shape = {}, .query = {}, .key = {}, .value = {}, .text = {}};
  inputs.key = file.project(hidden, "self_attn.k_proj", place.num_kv_heads);
  inputs.value = file.project(hidden, "self_attn.v_proj", place.num_kv_heads);
  inputs.query =
      file.project(hidden.bottomRows(sequence.num_queries), "self_attn.q_proj", place.num_heads);
  const Index head_dim = inputs.key.cols() / place.num_kv_heads;
  if (inputs.query.cols() != place.num_heads * head_dim || head_dim % 2 != 0)
    file.fail("the key projection makes " + std::to_string(place.num_kv_heads) + " heads of " +
              std::to_string(head_dim) + " and the query projection " +
              std::to_string(place.num_heads) + " of " +
              std::to_string(inputs.query.cols() / place.num_heads) +
              "; they should be of the same even width: see --heads and --kv-heads");
  inputs.shape = GroupedShape{.model_dim = model_dim,
                              .num_heads = place.num_heads,
                              .num_kv_heads = place.num_kv_heads,
                              .head_dim = head_dim,
                              .head_dim_v = inputs.value.cols() / place.num_kv_heads};
  inputs.softmax_scale = default_softmax_scale(head_dim);
  inputs.text = place.file.filename().string() + ", layer " + std::to_string(place.layer);

  const Rope rope{{.rope_dim = head_dim, .theta = sequence.theta}};
  rope.rotate(split_heads(inputs.key, place.num_kv_heads), 0);
  rope.rotate(split_heads(inputs.query, place.num_heads), sequence.seqlen - sequence.num_queries);
  return inputs;
}

}  // namespace heed::bench::quality
