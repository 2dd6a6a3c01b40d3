// expect: heed: a score policy takes the place of the softmax scale; name that too:
#include "heed/layers/grouped_query_attention.hpp"

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

void use(const heed::GroupedQueryAttention<float>& layer, const Matrix& x, Matrix& out) {
  layer.forward(x, heed::CausalMask{}, heed::Softcap{50}, out);
}
