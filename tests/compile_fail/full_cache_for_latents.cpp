// expect: heed: this layer caches latents: give it a KvCache<LatentKv<latent_dim, rope_dim>>.
#include "heed/layers/multi_head_latent_attention.hpp"

void call(heed::MultiHeadLatentAttention<float>& layer, heed::RowsView<float> x,
          heed::KvCache<heed::FullKv<1, 4>>& cache) {
  layer.forward(x, cache, heed::CausalMask{}, x);
}
