// expect: heed: keys that have scales per channel must be transposed.
#include "heed/attention/attend.hpp"
#include "heed/cache/kv_cache.hpp"

struct Latents : heed::KvCache<heed::LatentKv<8, 4>, heed::int8> {
  using KvCache::KvCache;
  static constexpr heed::KeyScales key_scales = heed::KeyScales::per_channel;
};
void call(heed::RowsView<float> rows, const Latents& cache) {
  heed::attend(rows, cache, heed::CausalMask{}, 1.0, rows);
}
