// expect: heed: a source's page_address must be `const void* page_address(Index page) const
#include "heed/attention/attend.hpp"
#include "heed/cache/kv_cache.hpp"

struct Named : heed::KvCache<heed::FullKv<1, 8>> {
  using KvCache::KvCache;
  heed::Index page_address(heed::Index page) const noexcept { return page; }
};
void call(heed::RowsView<float> rows, const Named& cache) {
  heed::attend(rows, cache, heed::CausalMask{}, 1.0, rows);
}
