// expect: heed: this layer caches keys and values: give it a KvCache<FullKv<num_kv_heads
#include "heed/cache/kv_cache.hpp"
#include "heed/layers/grouped_query_attention.hpp"

void call(heed::GroupedQueryAttention<float>& layer, heed::RowsView<float> x,
          heed::KvCache<heed::LatentKv<4, 2>>& cache) {
  layer.forward(x, cache, heed::CausalMask{}, x);
}
