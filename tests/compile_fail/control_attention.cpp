// compiles: what the cases on attend, caches and layers do wrong, done right
#include "heed/heed.hpp"

struct FirstKey {
  heed::KeyRange visible(heed::Index, const heed::MaskExtent&) const noexcept { return {0, 1}; }
};
struct Halved {
  template <class T>
  heed::simd::Packet<T> apply(const heed::simd::Packet<T>& score, const heed::ScoreSite&) const {
    return heed::simd::mul(score, heed::simd::broadcast(T{0.5}));
  }
  void check(std::string_view, heed::Index, const heed::MaskExtent&) const {}
};

constexpr heed::GroupedShape grouped{
    .model_dim = 12, .num_heads = 6, .num_kv_heads = 3, .head_dim = 2};
constexpr heed::LatentShape latent{.model_dim = 12,
                                   .num_heads = 2,
                                   .latent_dim = 4,
                                   .rope_dim = 2,
                                   .nope_dim = 2,
                                   .head_dim_v = 2};

void call(heed::RowsView<float> rows, std::span<const float> slopes) {
  heed::attend(rows, rows, rows, FirstKey{}, Halved{}, rows);
  heed::attend(rows, rows, rows, heed::NoMask{}, heed::Alibi<float>{slopes}, rows);
  heed::attend(rows, rows, rows, heed::NoMask{}, heed::Bias<float>{rows}, rows);
  heed::Rope{{.rope_dim = 2}}.rotate(rows, 0);
}
void pass(heed::GroupedQueryAttention<float, grouped>& layer, heed::RowsView<float> rows) {
  heed::KvCache<heed::FullKv<3, 2>> cache{8};
  layer.forward(rows, cache, heed::CausalMask{}, rows);
}
void pass(heed::MultiHeadLatentAttention<double, latent>& layer, heed::RowsView<double> rows) {
  heed::KvCache<heed::LatentKv<4, 2>, double> cache{8};
  layer.forward(rows, cache, heed::CausalMask{}, rows);
}
