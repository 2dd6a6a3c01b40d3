// SPDX-License-Identifier: MIT
/// \file
/// One golden case: what its metadata says, feature by feature, each read independently of the
/// others, and its tensors with their shapes checked.
#pragma once

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "golden/metadata.hpp"     // Metadata, NotUnderstood
#include "heed/base/index.hpp"     // Index
#include "shared/safetensors.hpp"  // Safetensors, Tensor

namespace heed::golden {

using files::Safetensors;
using files::Tensor;

enum class Kind { dot_product, mha, self_attention, mla };
enum class Causal { no, yes, top_left };

struct Case {
  Safetensors file;
  Metadata metadata;
  Kind kind;
  Index batch, seqlen_q, seqlen_kv;
  Index num_heads, num_kv_heads, head_dim, head_dim_v;
  double softmax_scale;
  Causal causal;
  std::optional<Index> window_left;  ///< keys before the query's own, which `window` counts too
  std::optional<double> softcap;
  std::vector<Index> schedule;  ///< lengths of the chunks; one chunk if the file has no schedule
  bool is_scheduled;

  explicit Case(Safetensors file_)
      : file(std::move(file_)), metadata(file.metadata()),
        kind(metadata.choice<Kind>("kind", {{"dot_product", Kind::dot_product},
                                            {"mha", Kind::mha},
                                            {"self_attention", Kind::self_attention},
                                            {"mla", Kind::mla}})),
        batch(metadata.integer("batch")), seqlen_q(metadata.integer("q_len")),
        seqlen_kv(metadata.integer("kv_len")), num_heads(metadata.integer("num_heads")),
        num_kv_heads(metadata.integer("num_kv_heads")), head_dim(read_head_dim()),
        head_dim_v(metadata.has("v_head_dim") ? metadata.integer("v_head_dim") : head_dim),
        softmax_scale(metadata.real("softmax_scale")),
        causal(metadata.choice<Causal>("causal", {{"false", Causal::no},
                                                  {"true", Causal::yes},
                                                  {"bottom_right", Causal::yes},
                                                  {"top_left", Causal::top_left}})),
        window_left(read_window()), softcap(read_softcap()), schedule(read_schedule()),
        is_scheduled(metadata.has("schedule")) {
    metadata.choice<bool>("format", {{"attention-golden-1", true}});
    require_plausible_sizes();
    if (num_heads == 0 || num_kv_heads == 0 || num_heads % num_kv_heads != 0)
      throw NotUnderstood("num_kv_heads does not divide num_heads");
    if (kind == Kind::self_attention || kind == Kind::mla)
      if (seqlen_q != seqlen_kv) throw NotUnderstood("q_len differs from kv_len in self-attention");
  }

  /// The tensor, with its shape checked: `expected` has one size per axis.
  template <class T>
  std::vector<T> values(const std::string& name, const std::vector<Index>& expected) const {
    const Tensor& found = tensor(name);
    if (found.shape != expected) throw wrong_shape(found, expected);
    return found.values<T>();
  }
  /// The tensor, which counts as used from now on.
  const Tensor& tensor(const std::string& name) const {
    used_.insert(name);
    return file.tensor(name);
  }

  bool has(const std::string& name) const { return file.find(name) != nullptr; }

  /// `position_ids` of one sequence, or else its offset and counting.
  std::vector<Index> positions(Index sequence) const {
    if (has("position_ids")) {
      const auto all = values<Index>("position_ids", {batch, seqlen_q});
      const auto begin = all.begin() + sequence * seqlen_q;
      return {begin, begin + seqlen_q};
    }
    std::vector<Index> counted(static_cast<std::size_t>(seqlen_q));
    Index next = metadata.has("position_offset") ? metadata.integer("position_offset") : 0;
    for (Index& position : counted) position = next++;
    return counted;
  }

  /// Whatever the file holds must have been looked at, but for what is known not to concern a
  /// forward pass in heed's precision.
  void require_all_used() const {
    static const std::set<std::string> not_compared{"attn_weights",
                                                    "inv_freq_f32",
                                                    "inv_freq_unscaled",
                                                    "loss",
                                                    "out_eval_noweights_f32",
                                                    "position_ids",
                                                    "r"};
    for (const auto& [name, tensor] : file.tensors())
      if (!used_.contains(name) && !not_compared.contains(name) && !name.starts_with("grad"))
        throw NotUnderstood("nothing was done with the tensor " + tensor.text());
  }

  static files::SafetensorsError wrong_shape(const Tensor& tensor,
                                             const std::vector<Index>& expected) {
    Tensor named{.name = "", .type = tensor.type, .shape = expected, .data = {}};
    return files::SafetensorsError("tensor " + tensor.text() + " should be" + named.text());
  }

 private:
  /// A size that no tensor could have is not worth the wait until a shape disagrees.
  void require_plausible_sizes() const {
    Index largest = 0;
    for (const auto& [name, tensor] : file.tensors())
      for (const Index size : tensor.shape) largest = std::max(largest, size);
    for (const char* name : {"batch", "q_len", "kv_len", "num_heads", "num_kv_heads"})
      if (metadata.integer(name) > largest) throw metadata.unknown(name);
  }

  Index read_head_dim() const {
    if (kind != Kind::mla) return metadata.integer("head_dim");
    return metadata.integer("qk_nope_head_dim") + metadata.integer("qk_rope_head_dim");
  }

  std::optional<Index> read_window() const {
    const Index window = metadata.has("window") ? metadata.integer("window") : 0;
    return window > 0 ? std::optional(window - 1) : std::nullopt;
  }

  std::optional<double> read_softcap() const {
    if (!metadata.has("softcap") || metadata.text("softcap") == "none") return std::nullopt;
    return metadata.real("softcap");
  }

  std::vector<Index> read_schedule() const {
    if (!metadata.has("schedule")) return {seqlen_q};
    const auto list = nlohmann::json::parse(metadata.text("schedule"), nullptr, false);
    std::vector<Index> chunks;
    Index sum = 0;
    for (const auto& length : list) {
      if (!length.is_number_unsigned() || length.get<Index>() > seqlen_q)
        throw metadata.unknown("schedule");
      chunks.push_back(length.get<Index>());
      sum += chunks.back();
    }
    if (!list.is_array() || sum != seqlen_q) throw metadata.unknown("schedule");
    return chunks;
  }

  mutable std::set<std::string> used_;
};

}  // namespace heed::golden
