// expect: heed: a source's dropped must be `KeyRange dropped() const noexcept`.
#include "heed/attention/attend.hpp"
#include "heed/cache/kv_cache.hpp"

/// A cache of which some keys are not to be seen.
struct Half : heed::KvCache<heed::FullKv<1, 8>> {
  using KvCache::KvCache;
  heed::KeyRange dropped() const { return {0, seqlen() / 2}; }
};
void call(heed::RowsView<float> rows, const Half& cache) {
  heed::attend(rows, cache, heed::CausalMask{}, 1.0, rows);
}
