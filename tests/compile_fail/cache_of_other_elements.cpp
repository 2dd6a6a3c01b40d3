// expect: heed: a cache of double is attended to in double, any other in float.
#include "heed/attention/attend.hpp"
#include "heed/cache/kv_cache.hpp"

void call(heed::RowsView<float> rows, const heed::KvCache<heed::FullKv<1, 4>, double>& cache) {
  heed::attend(rows, cache, heed::NoMask{}, 1.0, rows);
}
