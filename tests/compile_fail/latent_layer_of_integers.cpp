// expect: heed: layers compute in float or double.
#include "heed/layers/multi_head_latent_attention.hpp"

void use(heed::MultiHeadLatentAttention<int>& layer) { (void)layer.shape(); }
