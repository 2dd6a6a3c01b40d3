// SPDX-License-Identifier: MIT
/// \file
/// Every score policy beside its formula, with random parameters.
#pragma once

#include <vector>

#include "heed/policy/score.hpp"
#include "heed/policy/score_chain.hpp"  // all score policies
#include "support/attention_case.hpp"   // AttentionShape, Exact, normal_heads

namespace heed::test {

/// A function of a score, for CustomScore and for the formula. Its slope in the score is 1/2.
struct HalvedWithStripes {
  template <class T>
  T operator()(T score, Index head, Index query_position, Index key_position) const {
    const Index stripe = (head + 3 * query_position + 1000 + 5 * key_position) % 7;
    return score / 2 + static_cast<T>(stripe) / 4;
  }
};

/// A user's own policy.
struct Negated {
  double scale;

  template <class T>
  simd::Packet<T> apply(const simd::Packet<T>& score, const ScoreSite&) const {
    return simd::mul(score, simd::broadcast(static_cast<T>(-scale)));
  }
  void check(std::string_view, Index, const MaskExtent&) const {}
};

/// Calls f(name, policy, formula) for every score policy and for chains of them.
template <class T, class F>
void for_each_score(const AttentionShape& shape, Random& random, const F& f) {
  using Formula = reference::Score<Exact<T>>;
  using E = Exact<T>;
  const double scale = shape.softmax_scale();
  const double cap = random.uniform(0.5, 30);
  const std::vector<T> slopes = random.uniforms<T>(shape.num_heads, 0, 0.5);
  const std::vector<E> exact_slopes(slopes.begin(), slopes.end());
  const auto random_bias = [&](Index num_heads) {
    return normal_heads<T>(num_heads, shape.seqlen_q, shape.seqlen_kv, random, 2);
  };
  const Heads<T> shared = random_bias(1), per_head = random_bias(shape.num_heads);
  const auto exact_scale = static_cast<E>(scale), exact_cap = static_cast<E>(cap);

  f("a number", scale, Formula{.scale = exact_scale});
  f("Scale", Scale{scale}, Formula{.scale = exact_scale});
  f("Softcap", chain(Scale{scale}, Softcap{cap}),
    Formula{.scale = exact_scale, .softcap = exact_cap});
  f("Alibi", chain(Scale{scale}, Alibi<T>{slopes}),
    Formula{.scale = exact_scale, .alibi_slopes = exact_slopes});
  f("Bias", chain(Scale{scale}, Bias<T>{view(shared)}),
    Formula{.scale = exact_scale, .bias = converted<E>(shared)});
  f("Bias per head", chain(Scale{scale}, Bias<T>{view(per_head)}),
    Formula{.scale = exact_scale, .bias = converted<E>(per_head)});
  f("CustomScore", chain(Scale{scale}, CustomScore{HalvedWithStripes{}}),
    Formula{.scale = exact_scale, .custom = HalvedWithStripes{}});
  f("a policy of a user's own", Negated{scale}, Formula{.scale = -exact_scale});
  f("all in a chain",
    chain(Scale{scale}, Softcap{cap}, Alibi<T>{slopes}, Bias<T>{view(per_head)},
          CustomScore{HalvedWithStripes{}}),
    Formula{.scale = exact_scale,
            .softcap = exact_cap,
            .alibi_slopes = exact_slopes,
            .bias = converted<E>(per_head),
            .custom = HalvedWithStripes{}});
}

}  // namespace heed::test
