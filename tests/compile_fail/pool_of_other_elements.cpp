// expect: heed: a KvCache<Entry, Stored> takes its pages from a PagePool<Entry, Stored>.
#include "heed/cache/kv_cache.hpp"

void use(const heed::PagePool<heed::FullKv<2, 8>>& pool) {
  const heed::KvCache<heed::FullKv<2, 8>, heed::bf16> cache(pool, 100);
}
