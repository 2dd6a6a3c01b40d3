// SPDX-License-Identifier: MIT
#include <cmath>
#include <utility>

#include "heed/attention/attend.hpp"
#include "heed/cache/kv_cache.hpp"
#include "heed/instances/extern_narrow.hpp"
#include "shared/executor.hpp"
#include "shared/read_keys.hpp"
#include "speed/contender.hpp"
#include "speed/figures.hpp"

namespace heed::bench {
namespace {

template <class Element>
auto filled(const SpeedCase& c, const Inputs& inputs, const SequenceRows& s, FullKv<> entry) {
  KvCache<FullKv<>, Element> cache(s.seqlen_kv, entry);
  cache.append(split_heads(inputs.key.middleRows(s.kv_begin, s.seqlen_kv), c.num_kv_heads),
               split_heads(inputs.value.middleRows(s.kv_begin, s.seqlen_kv), c.num_kv_heads));
  return cache;
}
template <class Element>
auto filled(const SpeedCase&, const Inputs& inputs, const SequenceRows& s, LatentKv<> entry) {
  KvCache<LatentKv<>, Element> cache(s.seqlen_kv, entry);
  const auto rows = inputs.key.middleRows(s.kv_begin, s.seqlen_kv);
  cache.append(rows.leftCols(entry.latent_dim), rows.rightCols(entry.rope_dim));
  return cache;
}

/// In place of a cache's entry: no cache, the matrices as they are.
struct InMatrices {};
template <class>
auto filled(const SpeedCase& c, const Inputs& inputs, const SequenceRows& s, InMatrices) {
  return MatrixSource<float>(
      split_heads(inputs.key.middleRows(s.kv_begin, s.seqlen_kv), c.num_kv_heads),
      split_heads(inputs.value.middleRows(s.kv_begin, s.seqlen_kv), c.num_kv_heads));
}

template <class Entry, class Element, class Mask>
class Heed final : public AttendContender {
  using Source = decltype(filled<Element>(std::declval<SpeedCase>(), std::declval<Inputs>(),
                                          SequenceRows(), Entry()));

 public:
  Heed(const SpeedCase& c, const Inputs& inputs, const Entry& entry, Index num_threads)
      : case_(c), inputs_(inputs), executor_(make_executor(num_threads)),
        out_(c.rows_q(), c.num_heads * c.head_dim_v) {
    sources_.reserve(c.sequences.size());
    for (const SequenceRows& s : c.sequences) {
      sources_.push_back(filled<Element>(c, inputs, s, entry));
      sequences_.push_back(
          {split_heads(inputs_.query.middleRows(s.q_begin, s.seqlen_q), c.num_heads),
           &sources_.back(), Mask{},
           split_heads(out_.middleRows(s.q_begin, s.seqlen_q), c.num_heads)});
    }
  }

  void run() override {
    const double scale = default_softmax_scale(case_.head_dim);
    const AttendOptions<float> options{.executor = executor_, .workspace = &workspace_};
    if (sequences_.size() == 1)
      attend(sequences_[0].query, sources_[0], Mask{}, scale, sequences_[0].out, options);
    else
      attend_batch(std::span<const Sequence>(sequences_), scale, options);
  }
  Matrix out() const override { return out_; }

  std::unique_ptr<Inputs> held() const override {
    if constexpr (std::is_same_v<Element, float>)
      return nullptr;
    else
      return std::make_unique<Inputs>(read_back());
  }

 private:
  /// The inputs with keys and values as the caches hold them.
  Inputs read_back() const {
    Inputs held = inputs_;
    for (std::size_t i = 0; i < sources_.size(); ++i) {
      const SequenceRows& s = case_.sequences[i];
      const auto rows = [&](Matrix& of, Index head, Index width) {
        return RowsView<float>(of.block(s.kv_begin, head * width, s.seqlen_kv, width));
      };
      for (Index head = 0; head < case_.num_kv_heads; ++head) {
        read_keys(sources_[i], head, rows(held.key, head, case_.head_dim));
        if constexpr (Source::key_layout == KeyLayout::transposed)
          sources_[i].read_value(head, rows(held.value, head, case_.head_dim_v));
      }
    }
    if (case_.kv == Kv::latent) held.value = held.key.leftCols(case_.head_dim_v);
    return held;
  }

  using Sequence = AttendSequence<float, Source, Mask>;

  SpeedCase case_;
  const Inputs& inputs_;
  AnyExecutor executor_;
  std::vector<Source> sources_;
  std::vector<Sequence> sequences_;
  Workspace workspace_;
  Matrix out_;
};

template <class Element, class Entry>
std::unique_ptr<Contender> make_masked(const SpeedCase& c, const Inputs& inputs, const Entry& entry,
                                       Index num_threads) {
  if constexpr (std::is_same_v<Element, float>)
    if (c.visible == Visible::full)
      return std::make_unique<Heed<Entry, Element, NoMask>>(c, inputs, entry, num_threads);
  return std::make_unique<Heed<Entry, Element, CausalMask>>(c, inputs, entry, num_threads);
}

template <class Element>
std::unique_ptr<Contender> make(const SpeedCase& c, const Inputs& inputs, Index num_threads) {
  if (c.kv == Kv::latent) {
    if constexpr (CanStore<LatentKv<>, Element>)
      return make_masked<Element>(
          c, inputs, LatentKv<>{.latent_dim = c.head_dim_v, .rope_dim = c.head_dim - c.head_dim_v},
          num_threads);
    return nullptr;  // not reached: can_narrow
  }
  const FullKv<> entry{
      .num_kv_heads = c.num_kv_heads, .head_dim = c.head_dim, .head_dim_v = c.head_dim_v};
  return make_masked<Element>(c, inputs, entry, num_threads);
}

bool can_read_matrices(const SpeedCase& c, Index) { return c.kv != Kv::latent; }
std::unique_ptr<Contender> make_of_matrices(const SpeedCase& c, const Inputs& inputs,
                                            Index num_threads) {
  return make_masked<float>(c, inputs, InMatrices{}, num_threads);
}

template <class Element>
bool can_narrow(const SpeedCase& c, Index) {
  return c.reads_much() && (c.kv != Kv::latent || CanStore<LatentKv<>, Element>);
}

/// What the cache holds is the reference's, so that results are as near as those of float, but for
/// what a native product rounds.
template <class Element>
ContenderKind narrow_kind(const char* name, double rounding = 0) {
  ContenderKind kind{name, can_narrow<Element>, make<Element>, {.element = kv_element<Element>}};
  kind.storage.tolerance += rounding;
  if (has_native_products<Element>)
    kind.storage.product_rate = is_native<Element> ? 2 : has_scales<Element> ? 4.0 / 3 : 1;
  return kind;
}

}  // namespace

std::vector<ContenderKind> heed_kinds() {
  // Queries and weights are rounded one by one, to 8 bits: a result, which is a sum of many, is off
  // by less than four of these roundings. For codes they are rounded to 16 bits, but for a ninth of
  // a latent's query, the part that turns: less than one such rounding.
  return {{heed_name, [](const SpeedCase&, Index) { return true; }, make<float>},
          {"heed-matrices", can_read_matrices, make_of_matrices},
          narrow_kind<f16>("heed-f16"),
          narrow_kind<bf16>("heed-bf16"),
          narrow_kind<Native<bf16>>("heed-bf16-native", 4.0 / (1 << 8)),
          narrow_kind<int8>("heed-int8"),
          narrow_kind<Native<int8>>("heed-int8-native", 1.0 / (1 << 8)),
          narrow_kind<PerChannel<int8>>("heed-int8c"),
          narrow_kind<Native<PerChannel<int8>>>("heed-int8c-native", 1.0 / (1 << 8)),
          narrow_kind<int4>("heed-int4"),
          narrow_kind<Native<int4>>("heed-int4-native", 1.0 / (1 << 8))};
}

}  // namespace heed::bench
