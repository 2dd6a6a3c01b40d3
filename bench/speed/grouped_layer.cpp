// SPDX-License-Identifier: MIT
#include "heed/cache/kv_cache.hpp"
#include "heed/layers/grouped_query_attention.hpp"
#include "shared/executor.hpp"
#include "speed/layer_case.hpp"
#include "speed/layer_reference.hpp"

namespace heed::bench {
namespace {

constexpr GroupedShape shape{
    .model_dim = 4096, .num_heads = 32, .num_kv_heads = 8, .head_dim = 128};
constexpr Index query_width = shape.num_heads * shape.head_dim;
constexpr Index kv_width = shape.num_kv_heads * shape.head_dim;
constexpr double theta = 500'000;
constexpr RopePairing pairing = RopePairing::half_split;

template <class W>
class Llama final : public LayerCase {
 public:
  Llama(const PassSize& size, Index num_threads)
      : size_(size), executor_(make_executor(num_threads)),
        layer_(
            GroupedWeights<float>{{query_weight_}, {key_weight_}, {value_weight_}, {out_weight_}},
            rope_),
        cache_(size.seqlen_kv()), x_(random_matrix(size.seqlen_q, shape.model_dim, 5)),
        cached_key_(random_matrix(size.cached, kv_width, 6)),
        cached_value_(random_matrix(size.cached, kv_width, 7)),
        query_(random_matrix(size.seqlen_q, query_width, 8)),
        key_(random_matrix(size.seqlen_q, kv_width, 9)), value_(size.seqlen_q, kv_width),
        heads_(random_matrix(size.seqlen_q, query_width, 10)),
        out_(size.seqlen_q, shape.model_dim) {
    cache_.append(split_heads(cached_key_, shape.num_kv_heads),
                  split_heads(cached_value_, shape.num_kv_heads));
  }

  void forward() override {
    cache_.truncate(size_.cached);
    layer_.forward(x_, cache_, CausalMask{}, out_, {.executor = executor_});
  }
  void project() override {
    Linear<float>{query_weight_}.apply(x_, query_, executor_);
    Linear<float>{key_weight_}.apply(x_, key_, executor_);
    Linear<float>{value_weight_}.apply(x_, value_, executor_);
    Linear<float>{out_weight_}.apply(heads_, out_, executor_);
  }
  void rotate() override {
    rope_.rotate(split_heads(query_, shape.num_heads), size_.cached);
    rope_.rotate(split_heads(key_, shape.num_kv_heads), size_.cached);
  }
  void attend() override {
    heed::attend(split_heads(query_, shape.num_heads), cache_, CausalMask{}, layer_.softmax_scale(),
                 split_heads(heads_, shape.num_heads),
                 {.executor = executor_, .workspace = &workspace_});
  }
  double largest_error() const override {
    DoubleMatrix key(size_.seqlen_kv(), kv_width), value(size_.seqlen_kv(), kv_width);
    key << cached_key_.cast<double>(), project_exactly(x_, key_weight_);
    value << cached_value_.cast<double>(), project_exactly(x_, value_weight_);
    constexpr Index d = shape.head_dim;
    for (Index token = size_.cached; token < size_.seqlen_kv(); ++token)
      for (Index head = 0; head < shape.num_kv_heads; ++head)
        rotate_exactly(key, token, head * d, d, theta, pairing, token);
    return largest_row_error(out_, [&](Index row) -> DoubleMatrix {
      const Index position = size_.cached + row;
      DoubleMatrix query = project_exactly(x_.middleRows(row, 1), query_weight_);
      DoubleMatrix heads(1, query_width);
      for (Index head = 0; head < shape.num_heads; ++head) {
        rotate_exactly(query, 0, head * d, d, theta, pairing, position);
        const Index kv_head = head / (shape.num_heads / shape.num_kv_heads);
        heads.middleCols(head * d, d) = attend_exactly(
            query.middleCols(head * d, d), key.block(0, kv_head * d, position + 1, d),
            value.block(0, kv_head * d, position + 1, d), layer_.softmax_scale());
      }
      return heads * out_weight_.template cast<double>().transpose();
    });
  }

 private:
  PassSize size_;
  AnyExecutor executor_;
  const MatrixOf<W> query_weight_ = random_weight(query_width, shape.model_dim, 1).cast<W>();
  const MatrixOf<W> key_weight_ = random_weight(kv_width, shape.model_dim, 2).cast<W>();
  const MatrixOf<W> value_weight_ = random_weight(kv_width, shape.model_dim, 3).cast<W>();
  const MatrixOf<W> out_weight_ = random_weight(shape.model_dim, query_width, 4).cast<W>();
  const Rope rope_ =
      Rope{{.rope_dim = shape.head_dim, .theta = theta, .pairing = pairing}}.tabulate(
          size_.seqlen_kv());
  GroupedQueryAttention<float, shape> layer_;
  KvCache<FullKv<shape.num_kv_heads, shape.head_dim>> cache_;
  Workspace workspace_;
  Matrix x_, cached_key_, cached_value_;
  Matrix query_, key_, value_, heads_, out_;  // of the parts and of forward
};

}  // namespace

template <class W>
std::unique_ptr<LayerCase> make_llama_3_8b(const PassSize& size, Index num_threads) {
  return std::make_unique<Llama<W>>(size, num_threads);
}
template std::unique_ptr<LayerCase> make_llama_3_8b<float>(const PassSize&, Index);
template std::unique_ptr<LayerCase> make_llama_3_8b<bf16>(const PassSize&, Index);

}  // namespace heed::bench
