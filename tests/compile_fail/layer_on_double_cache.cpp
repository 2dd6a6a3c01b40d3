// expect: heed: a layer in double needs a cache of double, one in float any other.
#include "heed/cache/kv_cache.hpp"
#include "heed/layers/grouped_query_attention.hpp"

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

void use(const heed::GroupedQueryAttention<float>& layer, const Matrix& x, Matrix& out,
         heed::KvCache<heed::FullKv<>, double>& cache) {
  layer.forward(x, cache, heed::CausalMask{}, out);
}
