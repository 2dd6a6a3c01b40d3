// expect: heed: a source's dropped must be `KeyRange dropped() const noexcept`.
#include "heed/attention/attend.hpp"
#include "heed/cache/kv_cache.hpp"

struct Half : heed::KvCache<heed::FullKv<1, 8>> {
  using KvCache::KvCache;
  heed::KeyRange dropped() const { return {0, seqlen() / 2}; }
  heed::KeyRange dropped(heed::Index divisor) const { return {0, seqlen() / divisor}; }
};
void call(heed::RowsView<float> rows, const Half& cache) {
  heed::attend(rows, cache, heed::CausalMask{}, 1.0, rows);
}
