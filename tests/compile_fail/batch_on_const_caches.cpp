// expect: heed: forward appends to the cache, so it must not be const.
#include <array>

#include "heed/cache/kv_cache.hpp"
#include "heed/layers/grouped_query_attention.hpp"

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Cache = const heed::KvCache<heed::FullKv<>>;

void use(const heed::GroupedQueryAttention<float>& layer, const Matrix& x, Matrix& out,
         Cache& cache) {
  const std::array sequences{heed::BatchSequence<Cache, heed::CausalMask>{1, &cache}};
  layer.forward_batch(x, sequences, out);
}
