// SPDX-License-Identifier: MIT
#include "heed/layers/multi_head_latent_attention.hpp"
#include "shared/executor.hpp"
#include "speed/layer_case.hpp"
#include "speed/layer_reference.hpp"

namespace heed::bench {
namespace {

constexpr LatentShape shape{.model_dim = 2048,
                            .num_heads = 16,
                            .latent_dim = 512,
                            .rope_dim = 64,
                            .nope_dim = 128,
                            .head_dim_v = 128};
constexpr Index query_width = shape.num_heads * shape.head_dim();
constexpr Index heads_width = shape.num_heads * shape.head_dim_v;
constexpr Index latent_width = shape.latent_dim + shape.rope_dim;
constexpr Index up_width = shape.nope_dim + shape.head_dim_v;  ///< of a head
constexpr double theta = 10'000;
constexpr RopePairing pairing = RopePairing::interleaved;
constexpr float epsilon = 1e-6F;

template <class W>
class DeepSeek final : public LayerCase {
 public:
  DeepSeek(const PassSize& size, Index num_threads, MlaPath path)
      : size_(size), options_{.executor = make_executor(num_threads), .path = path},
        layer_(weights(), rope_), cache_(size.seqlen_kv()),
        x_(random_matrix(size.seqlen_q, shape.model_dim, 5)),
        cached_(random_matrix(size.cached, latent_width, 6)),
        query_(random_matrix(size.seqlen_q, query_width, 7)),
        latent_(random_matrix(size.seqlen_q, latent_width, 8)),
        heads_(random_matrix(size.seqlen_q, heads_width, 9)), out_(size.seqlen_q, shape.model_dim) {
    cache_.append(cached_.leftCols(shape.latent_dim), cached_.rightCols(shape.rope_dim));
  }

  void forward() override {
    cache_.truncate(size_.cached);
    layer_.forward(x_, cache_, CausalMask{}, out_, options_);
  }
  void project() override {
    Linear<float>{query_weight_}.apply(x_, query_, options_.executor);
    Linear<float>{down_weight_}.apply(x_, latent_, options_.executor);
    norm_.apply(HeadsView<float>(layer_.c_kv(RowsView<float>(latent_))));
    Linear<float>{out_weight_}.apply(heads_, out_, options_.executor);
  }
  void rotate() override {
    rope_.rotate(split_heads(query_, shape.num_heads).middle_cols(shape.nope_dim, shape.rope_dim),
                 size_.cached);
    rope_.rotate(layer_.k_rope(RowsView<float>(latent_)), size_.cached);
  }
  void attend() override {
    const double scale = layer_.softmax_scale();
    const heed::detail::LatentPass<float, double> pass{layer_, scale, options_, workspace_};
    pass.attend(split_heads(query_, shape.num_heads), std::as_const(cache_), CausalMask{},
                split_heads(heads_, shape.num_heads));
  }
  /// With W_UK in the query and W_UV in the result, whichever path the layer took: in float64 the
  /// order matters nothing, and one row takes a moment instead of seconds.
  double largest_error() const override {
    DoubleMatrix latent(size_.seqlen_kv(), latent_width);
    latent << cached_.cast<double>(), project_exactly(x_, down_weight_);
    for (Index token = size_.cached; token < size_.seqlen_kv(); ++token) {
      auto c_kv = latent.row(token).head(shape.latent_dim);
      c_kv /= std::sqrt(c_kv.squaredNorm() / shape.latent_dim + double{epsilon});
      rotate_exactly(latent, token, shape.latent_dim, shape.rope_dim, theta, pairing, token);
    }
    const DoubleMatrix up = up_weight_.template cast<double>();
    return largest_row_error(out_, [&](Index row) -> DoubleMatrix {
      const Index position = size_.cached + row;
      const auto seen = latent.topRows(position + 1);
      DoubleMatrix query = project_exactly(x_.middleRows(row, 1), query_weight_);
      DoubleMatrix heads(1, heads_width);
      for (Index head = 0; head < shape.num_heads; ++head) {
        const Index begin = head * shape.head_dim();
        rotate_exactly(query, 0, begin + shape.nope_dim, shape.rope_dim, theta, pairing, position);
        DoubleMatrix folded(1, latent_width);
        folded << query.middleCols(begin, shape.nope_dim) *
                      up.middleRows(head * up_width, shape.nope_dim),
            query.middleCols(begin + shape.nope_dim, shape.rope_dim);
        heads.middleCols(head * shape.head_dim_v, shape.head_dim_v) =
            attend_exactly(folded, seen, seen.leftCols(shape.latent_dim), layer_.softmax_scale()) *
            up.middleRows(head * up_width + shape.nope_dim, shape.head_dim_v).transpose();
      }
      return heads * out_weight_.template cast<double>().transpose();
    });
  }

 private:
  LatentWeights<float> weights() const {
    return {.query = Linear<float>{query_weight_},
            .kv_down = {down_weight_},
            .kv_norm = norm_,
            .kv_up = {up_weight_},
            .out = {out_weight_}};
  }

  PassSize size_;
  LatentOptions options_;
  const MatrixOf<W> query_weight_ = random_weight(query_width, shape.model_dim, 1).cast<W>();
  const MatrixOf<W> down_weight_ = random_weight(latent_width, shape.model_dim, 2).cast<W>();
  const MatrixOf<W> up_weight_ =
      random_weight(shape.num_heads * up_width, shape.latent_dim, 3).cast<W>();
  const MatrixOf<W> out_weight_ = random_weight(shape.model_dim, heads_width, 4).cast<W>();
  const std::vector<float> gain_ = std::vector<float>(shape.latent_dim, 1.0F);
  const RmsNorm<float> norm_{.weight = gain_, .epsilon = epsilon};
  const Rope rope_ =
      Rope{{.rope_dim = shape.rope_dim, .theta = theta, .pairing = pairing}}.tabulate(
          size_.seqlen_kv());
  MultiHeadLatentAttention<float, shape> layer_;
  KvCache<LatentKv<shape.latent_dim, shape.rope_dim>> cache_;
  Workspace workspace_;
  Matrix x_, cached_;
  Matrix query_, latent_, heads_, out_;  // of the parts and of forward
};

}  // namespace

LatentShape deepseek_v2_lite_shape() { return shape; }

template <class W>
std::unique_ptr<LayerCase> make_deepseek_v2_lite(const PassSize& size, Index num_threads,
                                                 MlaPath path) {
  return std::make_unique<DeepSeek<W>>(size, num_threads, path);
}
template std::unique_ptr<LayerCase> make_deepseek_v2_lite<float>(const PassSize&, Index, MlaPath);
template std::unique_ptr<LayerCase> make_deepseek_v2_lite<bf16>(const PassSize&, Index, MlaPath);

}  // namespace heed::bench
