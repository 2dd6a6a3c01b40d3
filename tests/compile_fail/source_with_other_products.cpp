// expect: heed: a source's products must be a `static constexpr Products`.
#include "heed/attention/attend.hpp"
#include "heed/cache/kv_cache.hpp"

struct Rounded : heed::KvCache<heed::FullKv<1, 8>> {
  using KvCache::KvCache;
  static constexpr bool products = true;
};
void call(heed::RowsView<float> rows, const Rounded& cache) {
  heed::attend(rows, cache, heed::CausalMask{}, 1.0, rows);
}
