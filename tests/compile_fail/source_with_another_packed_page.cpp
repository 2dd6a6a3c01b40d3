// expect: heed: a source's packed_page must be `const Element* packed_page(Index kv_head,
#include "heed/attention/attend.hpp"
#include "heed/cache/kv_cache.hpp"

struct Packed : heed::KvCache<heed::FullKv<1, 8>> {
  using KvCache::KvCache;
  const void* packed_page(heed::Index, heed::Index page) const noexcept {
    return page_address(page);
  }
};
void call(heed::RowsView<float> rows, const Packed& cache) {
  heed::attend(rows, cache, heed::CausalMask{}, 1.0, rows);
}
