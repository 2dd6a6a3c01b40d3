// expect: heed: num_kv_heads must divide num_heads
#include "heed/layers/grouped_query_attention.hpp"

constexpr heed::GroupedShape shape{
    .model_dim = 12, .num_heads = 6, .num_kv_heads = 4, .head_dim = 2};
void use(heed::GroupedQueryAttention<float, shape>& layer) { (void)layer.shape(); }
