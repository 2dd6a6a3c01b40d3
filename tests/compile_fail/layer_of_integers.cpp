// expect: heed: layers compute in float or double.
#include "heed/layers/grouped_query_attention.hpp"

void use(heed::GroupedQueryAttention<int>& layer) { (void)layer.shape(); }
