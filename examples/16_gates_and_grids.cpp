// SPDX-License-Identifier: MIT
// Attention with parts that no layer has: LayerNorm of query and key heads, a gate on what the
// heads give, and positions on two axes.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>
#include <string_view>
#include <vector>

#include "inputs.hpp"

namespace {

constexpr heed::Index model_dim = 48, num_heads = 4, num_kv_heads = 2, head_dim = 16;
constexpr heed::GroupedShape shape{.model_dim = model_dim,
                                   .num_heads = num_heads,
                                   .num_kv_heads = num_kv_heads,
                                   .head_dim = head_dim};
using Attention = heed::GroupedQueryAttention<float, shape>;

/// A projection to heads, each of which then goes through LayerNorm (Cohere, StableLM, Persimmon).
class NormedProjection final : public heed::Projection<float> {
 public:
  explicit NormedProjection(const Matrix& weight) : linear_{weight} {}

  heed::Index in() const noexcept override { return linear_.in(); }
  heed::Index out() const noexcept override { return linear_.out(); }
  void apply(heed::RowsView<const float> x, heed::RowsView<float> y,
             const heed::AnyExecutor& executor) const override {
    linear_.apply(x, y, executor);
    for (heed::Index row = 0; row < y.rows; ++row)
      for (heed::Index column = 0; column < y.cols; column += head_dim) {
        Eigen::Map<Eigen::Array<float, head_dim, 1>> head(y.row(row) + column);
        head -= head.mean();
        head /= std::sqrt(head.square().mean() + 1e-5F);
      }
  }

 private:
  heed::Linear<float> linear_;
};

/// x W^T
Matrix projected(const Matrix& x, const Matrix& weight) { return x * weight.transpose(); }
Matrix sigmoid(const Matrix& x) { return (1 + (-x.array()).exp()).inverse(); }

/// Where the patches of an image stand, row by row from its top left on. RoPE turns the first half
/// of the pairs by a patch's row, the second by its column.
class GridPositions {
 public:
  GridPositions(heed::Index height, heed::Index width, heed::Index top, heed::Index left) {
    for (heed::Index i = 0; i < height * width; ++i) {
      rows_.push_back(top + i / width);
      columns_.push_back(left + i % width);
    }
  }
  void check(std::string_view where, heed::Index rows) const {
    heed::RowPositions{.each = rows_}.check(where, rows);
  }
  void rotate(const std::optional<heed::Rope>&, heed::HeadsView<float> heads) const {
    by_row_.rotate(heads, rows_);
    by_column_.rotate(heads, columns_);
  }

 private:
  /// A pair whose frequency is 0 does not turn.
  static heed::Rope rope(heed::Index first_pair) {
    heed::RopeFrequencies turning{std::vector<double>(head_dim / 2, 0.0)};
    const auto base = heed::base_frequencies(head_dim / 2, 10'000);
    std::copy(base.inverse_frequency.begin(), base.inverse_frequency.end(),
              turning.inverse_frequency.begin() + first_pair);
    return heed::Rope{{.rope_dim = head_dim, .scaling = turning}};
  }

  heed::Rope by_row_ = rope(0), by_column_ = rope(head_dim / 4);
  std::vector<heed::Index> rows_, columns_;
};

}  // namespace

int main() {
  const Matrix query = weight_matrix(num_heads * head_dim, model_dim, 1);
  const Matrix key = weight_matrix(num_kv_heads * head_dim, model_dim, 2);
  const Matrix value = weight_matrix(num_kv_heads * head_dim, model_dim, 3);
  const Matrix gate = weight_matrix(num_heads * head_dim, model_dim, 4);
  const Matrix output = weight_matrix(model_dim, num_heads * head_dim, 5);
  const Matrix x = normal_matrix(12, model_dim, 6);

  // The layer ends with its heads, which a gate multiplies before they are projected.
  const NormedProjection normed_query{query}, normed_key{key};
  const heed::Identity<float> as_they_are{num_heads * head_dim};
  const Attention attention{{.query = {.projection = &normed_query},
                             .key = {.projection = &normed_key},
                             .value = {value},
                             .out = {.projection = &as_they_are}},
                            heed::Rope{{.rope_dim = head_dim}}};
  const auto gated = [&](const Matrix& tokens, auto& cache) {
    Matrix heads(tokens.rows(), num_heads * head_dim);
    attention.forward(tokens, cache, heed::CausalMask{}, heads);
    return projected(heads.cwiseProduct(sigmoid(projected(tokens, gate))), output);
  };
  heed::KvCache<heed::FullKv<num_kv_heads, head_dim>> cache{64}, other{64};
  const Matrix at_once = gated(x, cache);
  Matrix in_steps(12, model_dim);
  in_steps.topRows(9) = gated(x.topRows(9), other);
  for (heed::Index token = 9; token < 12; ++token) in_steps.row(token) = gated(x.row(token), other);
  std::printf("gated, token by token as at once: %s\n",
              yes_or_no(distance(in_steps, at_once) < 1e-5F));

  // A layer's projections with positions of one's own; what follows is `attend`.
  const heed::GroupedProjections<float> projections{
      shape, {{query}, {key}, {value}, {output}}, std::nullopt};
  const auto encoded = [&](const GridPositions& positions) {
    Matrix q(12, projections.query_width()), k(12, projections.key_width()),
        v(12, projections.value_width()), heads(12, projections.heads_width());
    projections.project_query(x, q, positions);
    projections.project_key_value(x, x, k, v, positions);
    heed::attend(heed::split_heads(q, num_heads), heed::split_heads(k, num_kv_heads),
                 heed::split_heads(v, num_kv_heads), heed::NoMask{}, projections.softmax_scale(),
                 heed::split_heads(heads, num_heads));
    return projected(heads, output);
  };
  const Matrix image = encoded({3, 4, 0, 0});
  std::printf("3 x 4 patches, moved 5 down and 7 to the right: the same: %s\n",
              yes_or_no(distance(encoded({3, 4, 5, 7}), image) < 1e-5F));
  std::printf("as 4 x 3 patches: the same: %s\n",
              yes_or_no(distance(encoded({4, 3, 0, 0}), image) < 1e-5F));
}
