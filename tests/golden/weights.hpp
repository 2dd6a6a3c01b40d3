// SPDX-License-Identifier: MIT
/// \file
/// The weights of a golden layer, found under the names of their sources.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "golden/case.hpp"         // Case
#include "heed/layers/linear.hpp"  // Linear
#include "reference/layers.hpp"    // reference::Linear, reference::Matrix

namespace heed::golden {

/// Reads weights by name, with their shapes checked.
class WeightReader {
 public:
  explicit WeightReader(const Case& golden) : case_(golden) {}

  bool has(const std::string& name) const { return case_.has("w." + name); }

  /// The one of several names that the file uses.
  std::string first_of(std::initializer_list<const char*> names) const {
    for (const char* name : names)
      if (has(std::string(name) + ".weight")) return name;
    throw NotUnderstood(std::string("no weight w.") + *names.begin() +
                        ".weight, by any known name");
  }

  template <class T>
  std::vector<T> vector(const std::string& name, Index size) const {
    return case_.values<T>("w." + name, {size});
  }
  template <class T>
  reference::Matrix<T> matrix(const std::string& name, Index rows, Index cols) const {
    return {rows, cols, case_.values<T>("w." + name, {rows, cols})};
  }

  /// NAME.weight and, if it is there, NAME.bias.
  template <class T>
  reference::Linear<T> linear(const std::string& name, Index out, Index in) const {
    reference::Linear<T> linear{matrix<T>(name + ".weight", out, in)};
    if (has(name + ".bias")) linear.bias = vector<T>(name + ".bias", out);
    return linear;
  }

 private:
  const Case& case_;
};

/// heed's view of a linear map.
template <class T>
Linear<T> linear_view(const reference::Linear<T>& stored) {
  return {{stored.weight.data.data(), stored.weight.rows, stored.weight.cols}, stored.bias};
}

/// Some rows of a linear map: those that make one of several outputs computed together.
template <class T>
reference::Linear<T> rows_of(const reference::Linear<T>& fused, const std::vector<Index>& rows) {
  const Index cols = fused.weight.cols;
  reference::Linear<T> part{reference::Matrix<T>(static_cast<Index>(rows.size()), cols)};
  for (Index row = 0; row < part.weight.rows; ++row) {
    const Index from = rows[static_cast<std::size_t>(row)];
    for (Index col = 0; col < cols; ++col) part.weight(row, col) = fused.weight(from, col);
    if (!fused.bias.empty()) part.bias.push_back(fused.bias[static_cast<std::size_t>(from)]);
  }
  return part;
}

inline std::vector<Index> counting(Index begin, Index count) {
  std::vector<Index> rows;
  for (Index i = 0; i < count; ++i) rows.push_back(begin + i);
  return rows;
}

/// The weights of a grouped layer, as stored.
template <class T>
struct GroupedParameters {
  reference::Linear<T> query, key, value, out;
  std::vector<T> query_gain, key_gain;  // [head_dim]; empty: no norm
  std::vector<T> sinks;                 // [num_heads]; empty: none
};

/// Query, key and value from one matrix; `qkv_layout` says how its rows are ordered.
template <class T>
void read_fused(const Case& golden, const WeightReader& reader, Index model_dim,
                GroupedParameters<T>& into) {
  enum class Layout { per_head, stacked };
  const auto layout = golden.metadata.sentence<Layout>(
      "qkv_layout",
      {{"output index = head*(3*head_dim) + {0:q,1:k,2:v}*head_dim + d", Layout::per_head},
       {"rows [q | k | v], each head-major", Layout::stacked}});
  const Index dim = golden.head_dim, kv_rows = golden.num_kv_heads * dim;
  const Index query_rows = golden.num_heads * dim;
  const std::string name = reader.first_of({"query_key_value", "Wqkv", "qkv_proj"});
  const auto fused = reader.linear<T>(name, query_rows + 2 * kv_rows, model_dim);
  if (layout == Layout::stacked) {
    into.query = rows_of(fused, counting(0, query_rows));
    into.key = rows_of(fused, counting(query_rows, kv_rows));
    into.value = rows_of(fused, counting(query_rows + kv_rows, kv_rows));
    return;
  }
  if (golden.num_heads != golden.num_kv_heads) throw golden.metadata.unknown("qkv_layout");
  std::vector<Index> rows[3];
  for (Index head = 0; head < golden.num_heads; ++head)
    for (Index part = 0; part < 3; ++part)
      for (const Index row : counting((3 * head + part) * dim, dim)) rows[part].push_back(row);
  into.query = rows_of(fused, rows[0]);
  into.key = rows_of(fused, rows[1]);
  into.value = rows_of(fused, rows[2]);
}

/// Llama and its relatives: names of transformers.
template <class T>
GroupedParameters<T> read_self_attention(const Case& golden, const WeightReader& reader) {
  const Index model_dim = golden.metadata.integer("hidden_size"), dim = golden.head_dim;
  GroupedParameters<T> read;
  if (golden.metadata.has("qkv_layout")) {
    read_fused(golden, reader, model_dim, read);
  } else {
    read.query = reader.linear<T>("q_proj", golden.num_heads * dim, model_dim);
    read.key = reader.linear<T>("k_proj", golden.num_kv_heads * dim, model_dim);
    read.value = reader.linear<T>("v_proj", golden.num_kv_heads * golden.head_dim_v, model_dim);
  }
  const std::string out = reader.first_of({"o_proj", "dense", "out_proj"});
  read.out = reader.linear<T>(out, model_dim, golden.num_heads * golden.head_dim_v);
  if (golden.metadata.has("qk_norm")) {
    read.query_gain = reader.vector<T>("q_norm.weight", dim);
    read.key_gain = reader.vector<T>("k_norm.weight", dim);
  }
  if (golden.metadata.has("sinks")) read.sinks = reader.vector<T>("sinks", golden.num_heads);
  return read;
}

/// torch's nn.MultiheadAttention, packed or with inputs of different widths.
template <class T>
GroupedParameters<T> read_mha(const Case& golden, const WeightReader& reader) {
  const Index model_dim = golden.metadata.integer("hidden_size");
  GroupedParameters<T> read;
  std::vector<T> bias;
  if (reader.has("in_proj_bias")) bias = reader.vector<T>("in_proj_bias", 3 * model_dim);
  if (reader.has("in_proj_weight")) {
    const reference::Linear<T> fused{reader.matrix<T>("in_proj_weight", 3 * model_dim, model_dim),
                                     bias};
    read.query = rows_of(fused, counting(0, model_dim));
    read.key = rows_of(fused, counting(model_dim, model_dim));
    read.value = rows_of(fused, counting(2 * model_dim, model_dim));
  } else {
    const auto bias_part = [&](Index part) {
      const auto begin = bias.begin() + (bias.empty() ? 0 : part * model_dim);
      return std::vector<T>(begin, bias.empty() ? bias.end() : begin + model_dim);
    };
    const Index kdim = golden.metadata.integer("kdim"), vdim = golden.metadata.integer("vdim");
    read.query = {reader.matrix<T>("q_proj_weight", model_dim, model_dim), bias_part(0)};
    read.key = {reader.matrix<T>("k_proj_weight", model_dim, kdim), bias_part(1)};
    read.value = {reader.matrix<T>("v_proj_weight", model_dim, vdim), bias_part(2)};
  }
  read.out = reader.linear<T>("out_proj", model_dim, model_dim);
  return read;
}

/// The weights of a latent layer, as stored.
template <class T>
struct LatentParameters {
  std::optional<reference::Linear<T>> query_down;  // absent: query_up takes the input itself
  std::vector<T> query_gain;                       // [query_latent], with query_down
  reference::Linear<T> query_up, kv_down, kv_up, out;
  std::vector<T> kv_gain;  // [latent]
};

/// Names of transformers, or of DeepSeek's own program.
template <class T>
LatentParameters<T> read_mla(const Case& golden, const WeightReader& reader) {
  const auto size = [&](const char* name) { return golden.metadata.integer(name); };
  const Index model_dim = size("hidden_size"), query_latent = size("q_lora_rank");
  const Index latent = size("kv_lora_rank"), rope = size("qk_rope_head_dim");
  const Index query_rows = golden.num_heads * golden.head_dim;
  LatentParameters<T> read;
  if (query_latent > 0) {
    read.query_down =
        reader.linear<T>(reader.first_of({"q_a_proj", "wq_a"}), query_latent, model_dim);
    const std::string norm = reader.first_of({"q_a_layernorm", "q_norm"});
    read.query_gain = reader.vector<T>(norm + ".weight", query_latent);
    read.query_up =
        reader.linear<T>(reader.first_of({"q_b_proj", "wq_b"}), query_rows, query_latent);
  } else {
    read.query_up = reader.linear<T>(reader.first_of({"q_proj", "wq"}), query_rows, model_dim);
  }
  read.kv_down =
      reader.linear<T>(reader.first_of({"kv_a_proj_with_mqa", "wkv_a"}), latent + rope, model_dim);
  read.kv_gain =
      reader.vector<T>(reader.first_of({"kv_a_layernorm", "kv_norm"}) + ".weight", latent);
  const Index up_rows = golden.num_heads * (size("qk_nope_head_dim") + golden.head_dim_v);
  read.kv_up = reader.linear<T>(reader.first_of({"kv_b_proj", "wkv_b"}), up_rows, latent);
  read.out = reader.linear<T>(reader.first_of({"o_proj", "wo"}), model_dim,
                              golden.num_heads * golden.head_dim_v);
  return read;
}

}  // namespace heed::golden
