// SPDX-License-Identifier: MIT
/// \file
/// The mask and score policies of a golden case, as a pass takes them.
#pragma once

#include <cmath>

#include "golden/case.hpp"        // Case
#include "golden/comparison.hpp"  // Report
#include "golden/mask.hpp"        // CaseMask
#include "golden/score.hpp"       // CaseScore
#include "support/tolerance.hpp"  // unit_roundoff

namespace heed::golden {

/// Rows begin .. begin + count of the queries of a sequence, over its first kv_end keys.
struct Chunk {
  Index begin;
  Index count;
  Index kv_end;
};

class CasePolicies {
 public:
  CasePolicies(const Case& golden, Report& report)
      : case_(golden), mask_(golden), score_(golden, mask_, report) {}

  const CaseMask& mask() const { return mask_; }
  const CaseScore& score() const { return score_; }

  /// The whole of a sequence.
  Chunk whole() const { return {0, case_.seqlen_q, case_.seqlen_kv}; }

  /// Calls f(mask, score) with the policies of a chunk: heed's own types where these say all.
  template <class T, class F>
  void with(const CaseScore::Policies<T>& scores, Index sequence, const Chunk& chunk,
            const F& f) const {
    const AnyMask mask = mask_.policy(sequence, chunk.begin, chunk.count, chunk.kv_end);
    const double standard = 1 / std::sqrt(static_cast<double>(case_.head_dim));
    const bool is_standard =
        std::abs(case_.softmax_scale / standard - 1) < 4 * test::unit_roundoff<double>;
    if (mask.is_just_causal() && score_.is_just_scale() && is_standard)
      f(CausalMask{}, standard);
    else
      f(mask, scores.policy(chunk.begin, chunk.count, chunk.kv_end));
  }

  /// The naive layers' mask.
  reference::Visible naive_mask(Index sequence) const {
    return [this, sequence](Index head, Index q, Index k) {
      return mask_.visible(sequence, head, q, k);
    };
  }

 private:
  const Case& case_;
  const CaseMask mask_;
  const CaseScore score_;
};

}  // namespace heed::golden
