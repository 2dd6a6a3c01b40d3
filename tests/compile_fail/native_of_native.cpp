// expect: heed: the cache's elements must be one of those in heed/base/element.hpp
#include "heed/cache/kv_cache.hpp"

heed::KvCache<heed::FullKv<1, 4>, heed::Native<heed::Native<heed::int8>>> cache{8};
