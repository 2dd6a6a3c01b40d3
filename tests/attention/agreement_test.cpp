// SPDX-License-Identifier: MIT
/// \file
/// One result, asked for in several ways: MHA and MQA as GQA, matrices and caches, layouts of
/// memory.

#include <algorithm>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "heed/attention/attend.hpp"
#include "heed/cache/kv_cache.hpp"
#include "support/attention_case.hpp"    // normal_inputs, attend_matrices, attend_source
#include "support/expect_attention.hpp"  // expect_attention

namespace heed {
namespace {

using test::AttentionInputs;
using test::AttentionResult;
using test::AttentionShape;
using test::Heads;
using test::Random;
using test::view;

/// Every head `times` times, one after the other.
template <class T>
Heads<T> repeated(const Heads<T>& heads, Index times) {
  Heads<T> result(heads.heads * times, heads.rows, heads.cols);
  const Index size = heads.rows * heads.cols;
  for (Index head = 0; head < result.heads; ++head)
    std::copy_n(heads.data.begin() + head / times * size, size, result.data.begin() + head * size);
  return result;
}

template <class T>
class AttendAgreement : public testing::Test {
 protected:
  /// Calls f on random shapes with groups of several heads.
  template <class F>
  static void for_each_case(const F& f) {
    Random random(1);
    for (int i = 0; i < 12; ++i) {
      const Index num_kv_heads = random.integer(1, 4);
      const AttentionShape shape{.num_heads = num_kv_heads * random.integer(1, 5),
                                 .num_kv_heads = num_kv_heads,
                                 .seqlen_q = random.integer(1, 50),
                                 .seqlen_kv = random.integer(1, i % 3 == 0 ? 2500 : 150),
                                 .head_dim = random.integer(1, 40),
                                 .head_dim_v = random.integer(1, 40)};
      SCOPED_TRACE(shape.text());
      f(shape, test::normal_inputs<T>(shape, random));
    }
  }
};
using Elements = testing::Types<float, double>;
TYPED_TEST_SUITE(AttendAgreement, Elements);

// GQA is MHA with every key/value head written down once per head of its group; MQA is the case of
// one.
TYPED_TEST(AttendAgreement, GroupsAreRepeatedHeads) {
  this->for_each_case([](const AttentionShape& shape, const AttentionInputs<TypeParam>& inputs) {
    const Index group_size = shape.num_heads / shape.num_kv_heads;
    const AttentionInputs<TypeParam> mha{inputs.query, repeated(inputs.key, group_size),
                                         repeated(inputs.value, group_size)};
    EXPECT_EQ(test::attend_matrices(inputs, CausalMask{}, 0.5),
              test::attend_matrices(mha, CausalMask{}, 0.5));
  });
}

TYPED_TEST(AttendAgreement, HeadsAreIndependent) {
  this->for_each_case([](const AttentionShape& shape, const AttentionInputs<TypeParam>& inputs) {
    const auto all = test::attend_matrices(inputs, CausalMask{}, 0.5);
    const Index group_size = shape.num_heads / shape.num_kv_heads;
    for (Index head = 0; head < shape.num_heads; ++head) {
      std::vector<TypeParam> out(static_cast<std::size_t>(shape.seqlen_q * shape.head_dim_v));
      attend(view(inputs.query).head(head), view(inputs.key).head(head / group_size),
             view(inputs.value).head(head / group_size), CausalMask{}, 0.5,
             RowsView<TypeParam>(out.data(), shape.seqlen_q, shape.head_dim_v));
      EXPECT_TRUE(
          std::equal(out.begin(), out.end(), all.out.data.begin() + head * std::ssize(out)));
    }
  });
}

TYPED_TEST(AttendAgreement, CachesAreMatrices) {
  this->for_each_case([](const AttentionShape& shape, const AttentionInputs<TypeParam>& inputs) {
    KvCache<FullKv<>, TypeParam> cache(shape.seqlen_kv + 100, {.num_kv_heads = shape.num_kv_heads,
                                                               .head_dim = shape.head_dim,
                                                               .head_dim_v = shape.head_dim_v});
    cache.append(view(inputs.key), view(inputs.value));
    EXPECT_EQ(test::attend_source(view(inputs.query), cache, CausalMask{}, 0.5),
              test::attend_matrices(inputs, CausalMask{}, 0.5));
  });
}

TYPED_TEST(AttendAgreement, MatricesMakeABatch) {
  this->for_each_case([](const AttentionShape& shape, const AttentionInputs<TypeParam>& inputs) {
    using Source = MatrixSource<TypeParam>;
    const Index shorter = (shape.seqlen_kv + 1) / 2;
    const Source whole(view(inputs.key), view(inputs.value)),
        half(view(inputs.key).middle_rows(0, shorter), view(inputs.value).middle_rows(0, shorter));
    const AttentionResult<TypeParam> empty(shape.num_heads, shape.seqlen_q, shape.head_dim_v);
    AttentionResult<TypeParam> found[] = {empty, empty};
    const AttendSequence<TypeParam, Source, CausalMask> sequences[] = {
        {view(inputs.query), &whole, {}, view(found[0].out), found[0].lse_view()},
        {view(inputs.query), &half, {}, view(found[1].out), found[1].lse_view()}};
    attend_batch(sequences, 0.5);
    EXPECT_EQ(found[0], test::attend_matrices(inputs, CausalMask{}, 0.5));
    EXPECT_EQ(found[1], test::attend_source(view(inputs.query), half, CausalMask{}, 0.5));
  });
}

// A latent cache is MQA with the key [c_kv | k_rope] and the value c_kv.
TYPED_TEST(AttendAgreement, LatentCachesAreKeysAndValuesAtOnce) {
  Random random(2);
  for (int i = 0; i < 20; ++i) {
    const bool full_size = i % 7 == 0;
    const Index latent_dim = full_size ? 512 : random.integer(1, 70);
    const Index rope_dim = full_size ? 64 : random.integer(0, 20);
    const AttentionShape shape{
        .num_heads = random.integer(1, 12),
        .seqlen_q = random.integer(1, 20),
        .seqlen_kv = random.integer(1, i % 3 == 0 && !full_size ? 1500 : 150),
        .head_dim = latent_dim + rope_dim,
        .head_dim_v = latent_dim};
    SCOPED_TRACE(shape.text());
    auto inputs = test::normal_inputs<TypeParam>(shape, random);
    for (Index k = 0; k < shape.seqlen_kv; ++k)
      for (Index c = 0; c < latent_dim; ++c) inputs.value(0, k, c) = inputs.key(0, k, c);
    KvCache<LatentKv<>, TypeParam> cache(shape.seqlen_kv,
                                         {.latent_dim = latent_dim, .rope_dim = rope_dim});
    const RowsView<const TypeParam> key = view(inputs.key).head(0);
    cache.append(key.middle_cols(0, latent_dim), key.middle_cols(latent_dim, rope_dim));
    const double scale = shape.softmax_scale();
    const auto causal = test::causal_on(shape);
    const reference::Score<test::Exact<TypeParam>> formula{
        .scale = static_cast<test::Exact<TypeParam>>(scale)};
    test::expect_attention(test::attend_source(view(inputs.query), cache, CausalMask{}, scale),
                           inputs, formula, causal);
    test::expect_attention(test::attend_matrices(inputs, CausalMask{}, scale), inputs, formula,
                           causal);
  }
}

/// Heads side by side in rows that are wider than all of them, [rows, num_heads * cols + gap], as a
/// fused projection writes them. The gap holds NaN.
template <class T>
class SideBySide {
 public:
  explicit SideBySide(const Heads<T>& heads)
      : data_(static_cast<std::size_t>(heads.rows * stride(heads) + 1),
              std::numeric_limits<T>::quiet_NaN()),
        view_(split_heads(
            RowsView<T>(data_.data() + 1, heads.rows, heads.heads * heads.cols, stride(heads)),
            heads.heads)) {
    for (Index head = 0; head < heads.heads; ++head)
      for (Index row = 0; row < heads.rows; ++row)
        std::copy_n(&heads(head, row, 0), heads.cols, view_.row(head, row));
  }
  HeadsView<T> view() const { return view_; }
  /// Elements that are not NaN.
  Index count_numbers() const {
    return std::ranges::count_if(data_, [](T x) { return !std::isnan(x); });
  }

 private:
  static constexpr Index gap = 3;
  static Index stride(const Heads<T>& heads) { return heads.heads * heads.cols + gap; }

  std::vector<T> data_;
  HeadsView<T> view_;
};

TYPED_TEST(AttendAgreement, AnyLayoutOfMemory) {
  this->for_each_case([](const AttentionShape& shape, const AttentionInputs<TypeParam>& inputs) {
    const auto expected = test::attend_matrices(inputs, CausalMask{}, 0.5);
    const SideBySide<TypeParam> query(inputs.query), key(inputs.key), value(inputs.value);
    const Heads<TypeParam> blank =
        AttentionResult<TypeParam>(shape.num_heads, shape.seqlen_q, shape.head_dim_v).out;
    const SideBySide<TypeParam> out(blank);
    attend(query.view(), key.view(), value.view(), CausalMask{}, 0.5, out.view());
    for (Index head = 0; head < shape.num_heads; ++head)
      for (Index q_row = 0; q_row < shape.seqlen_q; ++q_row)
        for (Index c = 0; c < shape.head_dim_v; ++c)
          EXPECT_EQ(out.view()(head, q_row, c), expected.out(head, q_row, c));
    EXPECT_EQ(out.count_numbers(), std::ssize(expected.out.data));
  });
}

TYPED_TEST(AttendAgreement, EigenMatricesAndBlocks) {
  using Matrix = Eigen::Matrix<TypeParam, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Matrix query = Matrix::Random(9, 12), key = Matrix::Random(70, 12),
               value = Matrix::Random(70, 20);
  Matrix out(9, 20), lse(1, 9), wide = Matrix::Constant(11, 30, 7);
  attend(query, key, value, CausalMask{}, 0.5, out, lse);
  KvCache<FullKv<1, 12, 20>, TypeParam> cache(70);
  cache.append(HeadsView<const TypeParam>(key), HeadsView<const TypeParam>(value));
  Matrix of_cache(9, 20), lse_of_cache(1, 9);
  attend(query, cache, CausalMask{}, 0.5, of_cache, lse_of_cache);
  EXPECT_EQ(of_cache, out);
  EXPECT_EQ(lse_of_cache, lse);
  auto block = wide.block(1, 4, 9, 20);
  attend(query, key, value, CausalMask{}, 0.5, block);
  EXPECT_EQ(Matrix(block), out);
  block.setConstant(7);
  EXPECT_EQ(wide, Matrix::Constant(11, 30, 7));  // and nothing around it

  const AttentionInputs<TypeParam> inputs{{1, 9, 12, {query.data(), query.data() + query.size()}},
                                          {1, 70, 12, {key.data(), key.data() + key.size()}},
                                          {1, 70, 20, {value.data(), value.data() + value.size()}}};
  const auto expected = test::attend_matrices(inputs, CausalMask{}, 0.5);
  EXPECT_EQ(std::vector(out.data(), out.data() + out.size()), expected.out.data);
  EXPECT_EQ(std::vector(lse.data(), lse.data() + lse.size()), expected.lse.data);
}

TYPED_TEST(AttendAgreement, WithAndWithoutLseAndWorkspace) {
  Workspace workspace;
  this->for_each_case([&](const AttentionShape& shape, const AttentionInputs<TypeParam>& inputs) {
    const auto expected = test::attend_matrices(inputs, CausalMask{}, 0.5);
    EXPECT_EQ(test::attend_matrices(inputs, CausalMask{}, 0.5, {.workspace = &workspace}),
              expected);
    AttentionResult<TypeParam> result(shape.num_heads, shape.seqlen_q, shape.head_dim_v);
    attend(view(inputs.query), view(inputs.key), view(inputs.value), CausalMask{}, 0.5,
           view(result.out));
    EXPECT_EQ(result.out.data, expected.out.data);
  });
}

}  // namespace
}  // namespace heed
