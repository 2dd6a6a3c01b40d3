// expect: heed: forward appends to the cache, so it must not be const.
#include "heed/cache/kv_cache.hpp"
#include "heed/layers/multi_head_latent_attention.hpp"

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

void use(const heed::MultiHeadLatentAttention<float>& layer, const Matrix& x, Matrix& out,
         const heed::KvCache<heed::LatentKv<>>& cache) {
  layer.forward(x, cache, heed::CausalMask{}, 0.5, out);
}
