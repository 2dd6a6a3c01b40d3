// expect: heed: a source of Products::native needs codes, or bf16 that is not rotated.
#include "heed/attention/attend.hpp"
#include "heed/cache/kv_cache.hpp"

struct Native : heed::KvCache<heed::FullKv<1, 4>> {
  using KvCache::KvCache;
  static constexpr heed::Products products = heed::Products::native;
};

void f(heed::HeadsView<const float> query, const Native& source, heed::HeadsView<float> out) {
  heed::attend(query, source, heed::CausalMask{}, 0.5, out);
}
