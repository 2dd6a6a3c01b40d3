// SPDX-License-Identifier: MIT
/// \file
/// From the metadata of a golden case to heed's Rope, and to the naive one.
#pragma once

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "golden/case.hpp"        // Case
#include "golden/comparison.hpp"  // Report
#include "heed/rope/rope.hpp"     // Rope, RopeOptions
#include "heed/rope/scaling.hpp"  // RopeScaling, frequencies
#include "reference/layers.hpp"   // reference::Rope
#include "support/tolerance.hpp"  // unit_roundoff

namespace heed::golden {

/// The fields of a `rope_scaling`, named as config files do.
class ScalingFields {
 public:
  ScalingFields(const Metadata& metadata, nlohmann::json fields)
      : metadata_(metadata), fields_(std::move(fields)) {}

  bool has(const char* name) const { return fields_.contains(name) && !fields_[name].is_null(); }
  template <class T>
  T get(const char* name) const {
    if (!has(name)) throw NotUnderstood(std::string("rope_scaling has no ") + name);
    try {
      return fields_[name].get<T>();
    } catch (const nlohmann::json::exception&) {
      throw metadata_.unknown("rope_scaling");
    }
  }
  template <class T>
  T get(const char* name, T otherwise) const {
    return has(name) ? get<T>(name) : otherwise;
  }
  /// As Python's `get(name) or otherwise`: 0 counts as absent.
  double get_or(const char* name, double otherwise) const {
    const double value = get(name, 0.0);
    return value == 0 ? otherwise : value;
  }
  template <class T>
  std::optional<T> find(const char* name) const {
    return has(name) ? std::optional(get<T>(name)) : std::nullopt;
  }

  /// `max_position_embeddings` stands beside the scaling, not in it.
  Index max_position_embeddings() const { return metadata_.integer("max_position_embeddings"); }
  const Metadata& metadata() const { return metadata_; }

 private:
  const Metadata& metadata_;
  nlohmann::json fields_;
};

inline YarnScaling yarn_scaling(const ScalingFields& fields) {
  YarnScaling yarn;
  yarn.factor = fields.get<double>("factor");
  yarn.original_max_position_embeddings =
      fields.has("original_max_position_embeddings")
          ? fields.get<Index>("original_max_position_embeddings")
          : fields.max_position_embeddings();
  yarn.beta_fast = fields.get_or("beta_fast", 32);
  yarn.beta_slow = fields.get_or("beta_slow", 1);
  yarn.range = fields.get("truncate", true) ? YarnRange::whole_pairs : YarnRange::fractional;
  yarn.attention_factor = fields.find<double>("attention_factor");
  yarn.mscale = fields.find<double>("mscale");
  yarn.mscale_all_dim = fields.find<double>("mscale_all_dim");
  return yarn;
}

/// DeepSeek's own program leaves cos and sin alone: its mscale is in the softmax scale.
inline RopeScaling deepseek_scaling(const ScalingFields& fields) {
  const auto trained = fields.get<Index>("original_seq_len");
  if (fields.get<Index>("max_seq_len") <= trained) return UnscaledRope{};
  return YarnScaling{.factor = fields.get<double>("factor"),
                     .original_max_position_embeddings = trained,
                     .beta_fast = fields.get<double>("beta_fast"),
                     .beta_slow = fields.get<double>("beta_slow"),
                     .attention_factor = 1.0};
}

inline LongRopeScaling long_rope_scaling(const ScalingFields& fields) {
  LongRopeScaling scaling;
  scaling.short_factor = fields.get<std::vector<double>>("short_factor");
  scaling.long_factor = fields.get<std::vector<double>>("long_factor");
  scaling.attention_factor = fields.find<double>("attention_factor");
  scaling.factor = fields.get("factor", 0.0);
  scaling.original_max_position_embeddings = fields.max_position_embeddings();
  std::optional<Index> trained = fields.find<Index>("original_max_position_embeddings");
  if (fields.metadata().has("original_max_position_embeddings"))
    trained = fields.metadata().integer("original_max_position_embeddings");
  if (trained) {
    scaling.original_max_position_embeddings = *trained;
    scaling.factor =
        static_cast<double>(fields.max_position_embeddings()) / static_cast<double>(*trained);
  }
  return scaling;
}

inline RopeScaling rope_scaling(const Metadata& metadata) {
  if (!metadata.has("rope_scaling") || metadata.text("rope_scaling") == "none")
    return UnscaledRope{};
  auto json = nlohmann::json::parse(metadata.text("rope_scaling"), nullptr, false);
  if (!json.is_object()) throw metadata.unknown("rope_scaling");
  const ScalingFields fields(metadata, std::move(json));
  const auto type = fields.has("rope_type") ? fields.get<std::string>("rope_type")
                                            : fields.get<std::string>("type");
  if (type == "default") return UnscaledRope{};
  if (type == "linear") return LinearScaling{.factor = fields.get<double>("factor")};
  if (type == "dynamic")
    return DynamicNtkScaling{.factor = fields.get<double>("factor"),
                             .max_position_embeddings = fields.max_position_embeddings()};
  if (type == "yarn") return yarn_scaling(fields);
  if (type == "yarn (DeepSeek)") return deepseek_scaling(fields);
  if (type == "llama3")
    return Llama3Scaling{
        .factor = fields.get<double>("factor"),
        .low_freq_factor = fields.get<double>("low_freq_factor"),
        .high_freq_factor = fields.get<double>("high_freq_factor"),
        .original_max_position_embeddings = fields.get<Index>("original_max_position_embeddings")};
  if (type == "longrope" || type == "su") return long_rope_scaling(fields);
  throw metadata.unknown("rope_scaling");
}

/// The Rope that the metadata describe, or none.
inline std::optional<RopeOptions> rope_options(const Metadata& metadata) {
  if (!metadata.has("rope_layout")) return std::nullopt;
  using Pairing = std::optional<RopePairing>;
  const auto pairing =
      metadata.choice<Pairing>("rope_layout", {{"none", std::nullopt},
                                               {"half_split", RopePairing::half_split},
                                               {"interleaved", RopePairing::interleaved}});
  if (!pairing) return std::nullopt;
  return RopeOptions{.rope_dim = metadata.integer("rope_dim"),
                     .theta = metadata.real("rope_theta"),
                     .pairing = *pairing,
                     .scaling = rope_scaling(metadata)};
}

/// RoPE of one golden case, or none.
struct CaseRope {
  std::optional<reference::Rope> recorded = {};  ///< naive, with the frequencies of the file
  std::optional<Rope> whole = {};                ///< heed's for a pass over the whole sequence
  /// heed's for parts of a sequence. Scalings that go by the length are held at that of the whole,
  /// as in the recorded run, whatever has been fed so far.
  std::optional<Rope> chunk = {};
  /// How far heed's angles may lie from the recorded run's: the frequencies' difference times the
  /// position, and the rounding of the product of the two in either run and of the recorded
  /// frequency.
  double angle_error = 0;

  /// Holds heed's frequencies against the recorded ones on the way.
  CaseRope(const Case& golden, Report& report) {
    auto options = rope_options(golden.metadata);
    if (!options) return;
    // The scalings go by the longest sequence of the batch.
    Index seqlen = 0;
    bool is_common = true;
    for (Index sequence = 0; sequence < golden.batch; ++sequence) {
      const std::vector<Index> positions = golden.positions(sequence);
      const Index own = positions.empty() ? 0 : std::ranges::max(positions) + 1;
      is_common = is_common && (sequence == 0 || own == seqlen);
      seqlen = std::max(seqlen, own);
    }
    recorded = read(golden, *options);  // which checks the size
    RopeOptions held = *options;
    held.scaling = frequencies(options->rope_dim, options->theta, options->scaling, seqlen);
    const RopeFrequencies& ours = std::get<RopeFrequencies>(held.scaling);
    compare(*options, ours, report);
    for (std::size_t pair = 0; pair < ours.inverse_frequency.size(); ++pair) {
      const double theirs = recorded->frequencies[pair];
      const double error = std::abs(ours.inverse_frequency[pair] - theirs) +
                           3 * test::unit_roundoff<double> * theirs;
      angle_error = std::max(angle_error, static_cast<double>(seqlen) * error);
    }
    chunk = Rope(held);
    whole = is_common ? Rope(std::move(*options)) : chunk;
  }

 private:
  static reference::Rope read(const Case& golden, const RopeOptions& options) {
    using Pairing = reference::Rope::Pairing;
    const bool is_interleaved = options.pairing == RopePairing::interleaved;
    reference::Rope rope{.frequencies = golden.values<double>("inv_freq", {options.rope_dim / 2}),
                         .pairing = is_interleaved ? Pairing::interleaved : Pairing::half_split};
    if (golden.metadata.has("attention_scaling"))
      rope.attention_scaling = golden.metadata.real("attention_scaling");
    return rope;
  }

  /// A frequency is theta^-x, so that rounding x becomes a relative error of x ln(theta) u; the
  /// power itself and the scalings round some ten times more. Scalings slow it down by a factor
  /// that is rounded in units of 1, so the error is relative to the frequency before.
  void compare(const RopeOptions& options, const RopeFrequencies& ours, Report& report) const {
    const double bound = (std::log(options.theta) + 12) * test::unit_roundoff<double>;
    report.add_relative("inv_freq", ours.inverse_frequency, recorded->frequencies,
                        base_frequencies(options.rope_dim, options.theta).inverse_frequency, bound);
    report.add_relative("attention_scaling", {ours.attention_scaling},
                        {recorded->attention_scaling}, {1}, bound);
  }
};

}  // namespace heed::golden
