// SPDX-License-Identifier: MIT
/// \file
/// From the metadata and the bias tensors of a golden case to heed's score policies.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "golden/case.hpp"          // Case
#include "golden/comparison.hpp"    // Report
#include "golden/mask.hpp"          // CaseMask, PairTable
#include "heed/policy/score.hpp"    // Scale and others
#include "reference/attention.hpp"  // reference::Score
#include "support/tolerance.hpp"    // unit_roundoff

namespace heed::golden {

/// What `chain` is at compile time, for policies that a file names at run time.
template <class T>
struct AnyScore {
  std::vector<std::variant<Scale, Softcap, Alibi<T>, Bias<T>>> parts = {};

  template <class U>
  simd::Packet<U> apply(simd::Packet<U> packet, const ScoreSite& site) const {
    for (const auto& part : parts)
      packet = std::visit([&](const auto& score) { return score.template apply<U>(packet, site); },
                          part);
    return packet;
  }
  template <class U>
  simd::Packet<U> slope(simd::Packet<U> packet, const ScoreSite& site) const {
    auto product = simd::broadcast(U{1});
    const auto pass = [&](const auto& score) {
      product = simd::mul(product, score.template slope<U>(packet, site));
      packet = score.template apply<U>(packet, site);
    };
    for (const auto& part : parts) std::visit(pass, part);
    return product;
  }
  void check(std::string_view where, Index num_heads, const MaskExtent& extent) const {
    for (const auto& part : parts)
      std::visit([&](const auto& score) { score.check(where, num_heads, extent); }, part);
  }
};

/// Where the keys of a sequence stand for ALiBi, as the source counted.
inline std::vector<Index> alibi_positions(const Case& golden, const CaseMask& mask,
                                          Index sequence) {
  enum class Count { from_first_valid_key, back_from_max_seq_len };
  const auto count = golden.metadata.sentence<Count>(
      "alibi_note",
      {{"key_position = (cumsum(padding_mask)-1)*padding_mask", Count::from_first_valid_key},
       {"slope_h*(j-(max_seq_len-1))", Count::back_from_max_seq_len}});
  std::vector<Index> positions;
  Index next =
      count == Count::from_first_valid_key
          ? 0
          : 1 - golden.seqlen_kv;  // the last kv_len entries of max_seq_len, which end at 0
  for (Index k = 0; k < golden.seqlen_kv; ++k) {
    const bool counts = count == Count::back_from_max_seq_len || mask.is_valid_key(sequence, k);
    positions.push_back(counts ? next++ : 0);
  }
  return positions;
}

/// What happens to q.k in one golden case.
class CaseScore {
 public:
  /// Holds heed's ALiBi slopes against the `alibi` tensor on the way.
  CaseScore(const Case& golden, const CaseMask& mask, Report& report) : case_(golden), mask_(mask) {
    if (!golden.metadata.has("positional")) return;
    if (!golden.metadata.choice<bool>("positional",
                                      {{"alibi", true}, {"rope", false}, {"none", false}}))
      return;
    slopes_ = alibi_slopes<double>(golden.num_heads);
    compare_slopes(report);
  }

  /// Only the softmax scale, as every layer has it.
  bool is_just_scale() const {
    return !case_.softcap && slopes_.empty() && mask_.bias() == nullptr;
  }

  /// The policies of one sequence are not those of another.
  bool varies_by_sequence() const {
    bool varies = mask_.bias() != nullptr;
    for (Index s = 0; s < case_.batch; ++s) varies = varies || !has_straight_alibi(s);
    return varies;
  }

  /// heed's policies for one sequence; views of this object's tables, which must outlive them.
  template <class T>
  class Policies {
   public:
    Policies(const CaseScore& score, Index sequence) : score_(score) {
      const Case& golden = score.case_;
      const bool is_straight = score.has_straight_alibi(sequence);
      if (is_straight) slopes_.assign(score.slopes_.begin(), score.slopes_.end());
      if (!is_straight || score.mask_.bias() != nullptr)
        bias_ = score.table<T>(sequence, !is_straight);
      bias_view_ = {bias_.data(), golden.num_heads, golden.seqlen_q, golden.seqlen_kv};
    }

    AnyScore<T> policy(Index q_begin, Index q_count, Index kv_count) const {
      AnyScore<T> score;
      score.parts.push_back(Scale{score_.case_.softmax_scale});
      if (score_.case_.softcap) score.parts.push_back(Softcap{*score_.case_.softcap});
      if (!slopes_.empty()) score.parts.push_back(Alibi<T>{slopes_});
      if (!bias_.empty())
        score.parts.push_back(
            Bias<T>{bias_view_.middle_rows(q_begin, q_count).middle_cols(0, kv_count)});
      return score;
    }

   private:
    const CaseScore& score_;
    std::vector<T> slopes_, bias_;
    HeadsView<const T> bias_view_;
  };

  /// The naive score of one sequence, with the `alibi` that the file recorded.
  template <class T>
  reference::Score<T> naive(Index sequence) const {
    reference::Score<T> score{.scale = static_cast<T>(case_.softmax_scale)};
    if (case_.softcap) score.softcap = static_cast<T>(*case_.softcap);
    if (slopes_.empty() && mask_.bias() == nullptr) return score;
    score.bias.emplace(case_.num_heads, case_.seqlen_q, case_.seqlen_kv,
                       table<T>(sequence, !slopes_.empty()));
    return score;
  }

 private:
  /// The keys that count stand as far apart for ALiBi as in the sequence, so that heed's Alibi
  /// gives the same but for a constant per row, which the softmax does not see if it has no sink.
  bool has_straight_alibi(Index sequence) const {
    if (slopes_.empty()) return true;
    if (case_.has("w.sinks")) return false;
    const std::vector<Index> positions = alibi_positions(case_, mask_, sequence);
    std::optional<Index> offset;
    for (Index k = 0; k < case_.seqlen_kv; ++k) {
      if (!mask_.is_valid_key(sequence, k)) continue;
      const Index here = positions[static_cast<std::size_t>(k)] - k;
      if (offset.value_or(here) != here) return false;
      offset = here;
    }
    return true;
  }

  /// [num_heads, seqlen_q, seqlen_kv]: attn_bias, and the recorded alibi if asked for.
  template <class T>
  std::vector<T> table(Index sequence, bool with_alibi) const {
    std::vector<T> sums;
    for (Index head = 0; head < case_.num_heads; ++head)
      for (Index q = 0; q < case_.seqlen_q; ++q)
        for (Index k = 0; k < case_.seqlen_kv; ++k) {
          double sum = mask_.bias() == nullptr ? 0 : (*mask_.bias())(sequence, head, q, k);
          if (with_alibi) sum += recorded_alibi(sequence, head, k);
          sums.push_back(static_cast<T>(sum));
        }
    return sums;
  }

  /// `alibi` is [num_heads, 1, n] or [batch * num_heads, 1, n]; its last seqlen_kv columns count.
  double recorded_alibi(Index sequence, Index head, Index k) const {
    const Index row = is_per_sequence_ ? sequence * case_.num_heads + head : head;
    const Index row_end = (row + 1) * recorded_cols_;
    return recorded_[static_cast<std::size_t>(row_end - case_.seqlen_kv + k)];
  }

  void compare_slopes(Report& report) {
    const Tensor& tensor = case_.tensor("alibi");
    const std::vector<Index>& shape = tensor.shape;
    is_per_sequence_ = !shape.empty() && shape[0] == case_.batch * case_.num_heads;
    const bool fits = shape.size() == 3 && (is_per_sequence_ || shape[0] == case_.num_heads) &&
                      shape[1] == 1 && shape[2] >= case_.seqlen_kv;
    if (!fits) throw Case::wrong_shape(tensor, {case_.num_heads, 1, case_.seqlen_kv});
    recorded_ = tensor.values<double>();
    recorded_cols_ = shape[2];
    std::vector<double> ours, theirs, units;
    for (Index sequence = 0; sequence < case_.batch; ++sequence) {
      const std::vector<Index> positions = alibi_positions(case_, mask_, sequence);
      for (Index head = 0; head < case_.num_heads; ++head)
        for (Index k = 0; k < case_.seqlen_kv; ++k) {
          ours.push_back(slopes_[static_cast<std::size_t>(head)] *
                         static_cast<double>(positions[static_cast<std::size_t>(k)]));
          theirs.push_back(recorded_alibi(sequence, head, k));
          units.push_back(std::abs(theirs.back()));
        }
    }
    // Heed's slope is a power of 2 with an exponent up to 8, whose rounding counts 8 ln 2 times,
    // and is multiplied. The sources raise a base that they have rounded to powers up to the
    // largest power of 2 among the numbers of heads.
    const auto largest_power = std::bit_floor(static_cast<std::uint64_t>(case_.num_heads));
    report.add_relative("alibi", ours, theirs, units,
                        static_cast<double>(8 + largest_power) * test::unit_roundoff<double>);
  }

  const Case& case_;
  const CaseMask& mask_;
  std::vector<double> slopes_;    // heed's; empty: no ALiBi
  std::vector<double> recorded_;  // the `alibi` tensor
  Index recorded_cols_ = 0;       // n of it
  bool is_per_sequence_ = false;
};

}  // namespace heed::golden
