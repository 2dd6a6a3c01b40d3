// expect: heed: the cache's elements must be one of those in heed/base/element.hpp: float,
#include "heed/cache/kv_cache.hpp"

heed::KvCache<heed::FullKv<1, 4>, int> cache{8};
