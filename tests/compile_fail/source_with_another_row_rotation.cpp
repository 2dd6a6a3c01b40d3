// expect: heed: a source's row_rotation must be a `static constexpr RowRotation`.
#include "heed/attention/attend.hpp"
#include "heed/cache/kv_cache.hpp"

struct Rotated : heed::KvCache<heed::FullKv<1, 8>> {
  using KvCache::KvCache;
  static constexpr bool row_rotation = true;
};
void call(heed::RowsView<float> rows, const Rotated& cache) {
  heed::attend(rows, cache, heed::CausalMask{}, 1.0, rows);
}
