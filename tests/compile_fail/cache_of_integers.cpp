// expect: heed: the cache's elements must be float, double, heed::f16, heed::bf16, heed::int8,
#include "heed/cache/kv_cache.hpp"

heed::KvCache<heed::FullKv<1, 4>, int> cache{8};
