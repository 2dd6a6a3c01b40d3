// expect: heed: a latent is key and value at once, so its scales are per token: store it as int8,
#include "heed/cache/kv_cache.hpp"

heed::KvCache<heed::LatentKv<8, 4>, heed::PerChannel<heed::int8>> cache{8};
