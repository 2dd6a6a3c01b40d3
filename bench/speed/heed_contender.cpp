// SPDX-License-Identifier: MIT
#include <cmath>

#include "heed/attention/attend.hpp"
#include "heed/cache/kv_cache.hpp"
#include "speed/contender.hpp"
#include "speed/figures.hpp"
#include "speed/threads.hpp"

namespace heed::bench {
namespace {

template <class Element>
auto filled(const SpeedCase& c, const Inputs& inputs, const SequenceRows& s, FullKv<> shape) {
  KvCache<FullKv<>, Element> cache(s.seqlen_kv, shape);
  cache.append(split_heads(inputs.key.middleRows(s.kv_begin, s.seqlen_kv), c.num_kv_heads),
               split_heads(inputs.value.middleRows(s.kv_begin, s.seqlen_kv), c.num_kv_heads));
  return cache;
}
template <class Element>
auto filled(const SpeedCase&, const Inputs& inputs, const SequenceRows& s, LatentKv<> shape) {
  KvCache<LatentKv<>, Element> cache(s.seqlen_kv, shape);
  const auto rows = inputs.key.middleRows(s.kv_begin, s.seqlen_kv);
  cache.append(rows.leftCols(shape.latent_dim), rows.rightCols(shape.rope_dim));
  return cache;
}

template <class Cache, class Mask>
class Heed final : public Contender {
 public:
  template <class Shape>
  Heed(const SpeedCase& c, const Inputs& inputs, Shape shape, Index num_threads)
      : case_(c), inputs_(inputs), executor_(make_executor(num_threads)),
        out_(c.rows_q(), c.num_heads * c.head_dim_v) {
    caches_.reserve(c.sequences.size());
    for (const SequenceRows& s : c.sequences) {
      caches_.push_back(filled<typename Cache::Element>(c, inputs, s, shape));
      sequences_.push_back(
          {split_heads(inputs_.query.middleRows(s.q_begin, s.seqlen_q), c.num_heads),
           &caches_.back(), Mask{},
           split_heads(out_.middleRows(s.q_begin, s.seqlen_q), c.num_heads)});
    }
  }

  void run() override {
    const double scale = 1 / std::sqrt(static_cast<double>(case_.head_dim));
    const AttendOptions<float> options{.executor = executor_, .workspace = &workspace_};
    if (sequences_.size() == 1)
      attend(sequences_[0].query, caches_[0], Mask{}, scale, sequences_[0].out, options);
    else
      attend_batch(std::span<const Sequence>(sequences_), scale, options);
  }
  Matrix out() const override { return out_; }

 private:
  using Sequence = AttendSequence<float, Cache, Mask>;

  SpeedCase case_;
  const Inputs& inputs_;
  AnyExecutor executor_;
  std::vector<Cache> caches_;
  std::vector<Sequence> sequences_;
  Workspace workspace_;
  Matrix out_;
};

template <class Cache, class Shape>
std::unique_ptr<Contender> make_masked(const SpeedCase& c, const Inputs& inputs, Shape shape,
                                       Index num_threads) {
  if constexpr (std::is_same_v<typename Cache::Element, float>)
    if (c.visible == Visible::full)
      return std::make_unique<Heed<Cache, NoMask>>(c, inputs, shape, num_threads);
  return std::make_unique<Heed<Cache, CausalMask>>(c, inputs, shape, num_threads);
}

template <class Element>
std::unique_ptr<Contender> make(const SpeedCase& c, const Inputs& inputs, Index num_threads) {
  if (c.kv == Kv::latent) {
    const LatentKv<> shape{.latent_dim = c.head_dim_v, .rope_dim = c.head_dim - c.head_dim_v};
    return make_masked<KvCache<LatentKv<>, Element>>(c, inputs, shape, num_threads);
  }
  const FullKv<> shape{
      .num_kv_heads = c.num_kv_heads, .head_dim = c.head_dim, .head_dim_v = c.head_dim_v};
  return make_masked<KvCache<FullKv<>, Element>>(c, inputs, shape, num_threads);
}

/// Narrow elements are for reading less: decode, and one prefill to see that it loses nothing.
bool reads_much(const SpeedCase& c, Index) {
  return c.visible == Visible::causal &&
         (c.rows_q() == std::ssize(c.sequences) || c.name == "prefill/gqa/2048");
}

/// \param step  relative rounding of an element. Results are sums of many, rounded independently,
///              and stay within 16 of it; the check allows 160 epsilon.
template <class Element>
ContenderKind narrow_kind(const char* name, double step) {
  return {name, reads_much, make<Element>, {.bytes = sizeof(Element), .epsilon = step / 10}};
}

}  // namespace

std::vector<ContenderKind> heed_kinds() {
  return {{heed_name, [](const SpeedCase&, Index) { return true; }, make<float>},
          narrow_kind<f16>("heed-f16", 1.0 / (1 << 11)),
          narrow_kind<bf16>("heed-bf16", 1.0 / (1 << 8)),
          narrow_kind<int8>("heed-int8", 1.0 / 254)};
}

}  // namespace heed::bench
