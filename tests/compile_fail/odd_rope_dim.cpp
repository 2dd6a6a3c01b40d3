// expect: heed: rope_dim must be even: RoPE rotates pairs.
#include "heed/layers/multi_head_latent_attention.hpp"

constexpr heed::LatentShape shape{.model_dim = 8, .num_heads = 2, .latent_dim = 4, .rope_dim = 3};
void use(heed::MultiHeadLatentAttention<float, shape>& layer) { (void)layer.shape(); }
