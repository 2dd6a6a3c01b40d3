#include <heed/heed.hpp>

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Rows attend_in_other_unit(const Rows& query, const Rows& key, const Rows& value) {
  Rows out(query.rows(), value.cols());
  heed::attend(query, key, value, heed::CausalMask{}, 0.5F, out);
  return out;
}
