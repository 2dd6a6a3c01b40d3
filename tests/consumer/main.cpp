// Two translation units that use the same kernel must link, and agree.
#include <cstdio>

#include <heed/heed.hpp>

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Rows attend_in_other_unit(const Rows& query, const Rows& key, const Rows& value);

int main() {
  const Rows query = Rows::Zero(1, 4);  // every score is 0, so out is the mean of the values
  const Rows key = Rows::Random(2, 4);
  Rows value(2, 3);
  value << 1, 2, 3,  //
      3, 6, 9;
  const Rows mean = value.colwise().mean();

  Rows out(1, 3);
  heed::attend(query, key, value, heed::CausalMask{}, 0.5F, out);
  const bool right = out.isApprox(mean) && attend_in_other_unit(query, key, value) == out;
  std::puts(right ? "right" : "wrong");
  return right ? 0 : 1;
}
