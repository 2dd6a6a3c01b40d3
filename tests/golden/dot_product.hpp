// SPDX-License-Identifier: MIT
/// \file
/// Golden cases of attention itself: query, key and value are given.
#pragma once

#include <algorithm>
#include <type_traits>
#include <utility>
#include <vector>

#include "golden/case.hpp"            // Case
#include "golden/comparison.hpp"      // Report
#include "golden/gradients.hpp"       // RecordedGradients, attend_both_ways
#include "golden/policies.hpp"        // CasePolicies
#include "golden/recorded_out.hpp"    // RecordedOut
#include "golden/sequences.hpp"       // HeadSequences, token_by_token
#include "heed/attention/attend.hpp"  // attend
#include "heed/cache/kv_cache.hpp"    // KvCache
#include "reference/attention.hpp"    // reference::attention

namespace heed::golden {

template <class T>
struct DotProductInputs {
  HeadSequences<T> query, key, value;
  std::vector<T> sinks;  // [num_heads], or none

  explicit DotProductInputs(const Case& c)
      : query(c, "q", c.num_heads, c.seqlen_q, c.head_dim),
        key(c, "k", c.num_kv_heads, c.seqlen_kv, c.head_dim),
        value(c, "v", c.num_kv_heads, c.seqlen_kv, c.head_dim_v) {
    if (c.has("w.sinks")) sinks = c.values<T>("w.sinks", {c.num_heads});
  }
};

/// Holds the gradients of query, key and value against those that the file has.
template <class T>
void compare_gradients(const Case& c, const CasePolicies& policies,
                       const DotProductInputs<T>& inputs, Report& report) {
  require_no_sinks(c);
  const HeadSequences<T> r(c, "r", c.num_heads, c.seqlen_q, c.head_dim_v);  // d loss / d out
  HeadSequences<T> out(c.batch, c.num_heads, c.seqlen_q, c.head_dim_v);
  HeadSequences<T> query(c.batch, c.num_heads, c.seqlen_q, c.head_dim);
  HeadSequences<T> key(c.batch, c.num_kv_heads, c.seqlen_kv, c.head_dim);
  HeadSequences<T> value(c.batch, c.num_kv_heads, c.seqlen_kv, c.head_dim_v);
  for (Index s = 0; s < c.batch; ++s)
    attend_both_ways<T>(policies, s, inputs.query[s], inputs.key[s], inputs.value[s], r[s], out[s],
                        {query[s], key[s], value[s]});
  const RecordedGradients recorded(c, test::attention_stages, report);
  recorded.compare("grad_q", query.data(), {c.batch, c.num_heads, c.seqlen_q, c.head_dim});
  recorded.compare("grad_k", key.data(), {c.batch, c.num_kv_heads, c.seqlen_kv, c.head_dim});
  recorded.compare("grad_v", value.data(), {c.batch, c.num_kv_heads, c.seqlen_kv, c.head_dim_v});
}

/// One case in the compute type T: by plain matrices, through a cache, and token by token.
template <class T>
class DotProduct {
 public:
  DotProduct(const Case& golden, Report& report)
      : case_(golden), policies_(golden, report), inputs_(golden), report_(report) {
    golden.metadata.choice<bool>("rope_layout", {{"none", true}});
  }

  void run() {
    const Case& c = case_;
    const std::vector<double> exact = naive();
    const RecordedOut recorded(c, policies_.mask(),
                               {c.batch, c.num_heads, c.seqlen_q, c.head_dim_v}, exact);
    const auto compare = [&](const char* what, const std::vector<T>& out) {
      recorded.compare(report_, what, out, test::attention_stages);
    };
    if constexpr (std::is_same_v<T, double>) compare("out, naive", exact);
    compare("out", uncached());
    const auto full = [&] { return make_cache(); };
    compare("out, cached", cached({c.seqlen_q}, full));
    if (c.seqlen_q <= c.seqlen_kv && policies_.mask().is_causal())
      compare("out, by token", cached(token_by_token(c), full));
    if (is_latent())
      compare("out, latents cached", cached({c.seqlen_q}, [&] { return make_latent_cache(); }));
    if (c.has("grad_q") || c.has("grad_k") || c.has("grad_v"))
      compare_gradients(c, policies_, inputs_, report_);
  }

 private:
  using Scores = CaseScore::Policies<T>;

  std::vector<double> naive() const {
    const DotProductInputs<double> inputs(case_);
    std::vector<double> out;
    for (Index s = 0; s < case_.batch; ++s) {
      const auto result = reference::attention<double>(
          inputs.query.naive(s), inputs.key.naive(s), inputs.value.naive(s),
          policies_.score().naive<double>(s), policies_.naive_mask(s), inputs.sinks);
      out.insert(out.end(), result.out.data.begin(), result.out.data.end());
    }
    return out;
  }

  AttendOptions<T> options() const { return {.sinks = inputs_.sinks}; }

  HeadSequences<T> make_out() const {
    return {case_.batch, case_.num_heads, case_.seqlen_q, case_.head_dim_v};
  }

  std::vector<T> uncached() const {
    HeadSequences<T> out = make_out();
    for (Index s = 0; s < case_.batch; ++s) {
      const Scores scores(policies_.score(), s);
      policies_.with<T>(scores, s, policies_.whole(), [&](const auto& mask, const auto& score) {
        attend(inputs_.query[s], inputs_.key[s], inputs_.value[s], mask, score, out[s], options());
      });
    }
    return out.data();
  }

  KvCache<FullKv<>, T> make_cache() const {
    return KvCache<FullKv<>, T>(case_.seqlen_kv, {.num_kv_heads = case_.num_kv_heads,
                                                  .head_dim = case_.head_dim,
                                                  .head_dim_v = case_.head_dim_v});
  }
  KvCache<LatentKv<>, T> make_latent_cache() const {
    return KvCache<LatentKv<>, T>(case_.seqlen_kv, {.latent_dim = case_.head_dim_v,
                                                    .rope_dim = case_.head_dim - case_.head_dim_v});
  }
  void append(KvCache<FullKv<>, T>& cache, HeadsView<const T> key, HeadsView<const T> value) const {
    cache.append(key, value);
  }
  void append(KvCache<LatentKv<>, T>& cache, HeadsView<const T> key, HeadsView<const T>) const {
    const RowsView<const T> rows = key.head(0);
    cache.append(rows.middle_cols(0, case_.head_dim_v),
                 rows.middle_cols(case_.head_dim_v, case_.head_dim - case_.head_dim_v));
  }

  /// The values are the first columns of the keys of the only head, as in a cache of latents.
  bool is_latent() const {
    if (case_.num_kv_heads != 1 || case_.head_dim_v > case_.head_dim) return false;
    for (Index s = 0; s < case_.batch; ++s)
      for (Index k = 0; k < case_.seqlen_kv; ++k)
        if (!std::equal(inputs_.value[s].row(0, k), inputs_.value[s].row(0, k) + case_.head_dim_v,
                        inputs_.key[s].row(0, k)))
          return false;
    return true;
  }

  /// The queries in chunks, each with the keys up to its last query's own in the cache.
  template <class MakeCache>
  std::vector<T> cached(const std::vector<Index>& chunks, const MakeCache& make) const {
    HeadSequences<T> out = make_out();
    for (Index s = 0; s < case_.batch; ++s) {
      const Scores scores(policies_.score(), s);
      auto cache = make();
      Index begin = 0;
      for (const Index count : chunks) {
        const Index kv_end = case_.seqlen_kv - case_.seqlen_q + begin + count;
        const Index kv_begin = cache.seqlen();
        append(cache, inputs_.key[s].middle_rows(kv_begin, kv_end - kv_begin),
               inputs_.value[s].middle_rows(kv_begin, kv_end - kv_begin));
        policies_.with<T>(scores, s, {begin, count, kv_end},
                          [&](const auto& mask, const auto& score) {
                            attend(inputs_.query[s].middle_rows(begin, count), std::as_const(cache),
                                   mask, score, out[s].middle_rows(begin, count), options());
                          });
        begin += count;
      }
    }
    return out.data();
  }

  const Case& case_;
  const CasePolicies policies_;
  const DotProductInputs<T> inputs_;
  Report& report_;
};

}  // namespace heed::golden
