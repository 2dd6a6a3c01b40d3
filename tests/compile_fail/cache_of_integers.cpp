// expect: heed: the cache's elements must be float or double.
#include "heed/cache/kv_cache.hpp"

heed::KvCache<heed::FullKv<1, 4>, int> cache{8};
