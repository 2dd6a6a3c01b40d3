// SPDX-License-Identifier: MIT
/// \file
/// Ragged batches through GroupedQueryAttention: each sequence as if it came alone.

#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "heed/cache/kv_cache.hpp"
#include "heed/layers/grouped_query_attention.hpp"
#include "heed/policy/mask_element.hpp"
#include "support/grouped_case.hpp"  // GroupedCase, random_features

namespace heed {
namespace {

using test::GroupedCase;
using test::Matrix;
using test::Random;
using test::view;

/// Rows begin .. begin + count.
template <class T>
Matrix<T> middle_rows(const Matrix<T>& matrix, Index begin, Index count) {
  const auto from = matrix.data.begin() + begin * matrix.cols;
  return {count, matrix.cols, {from, from + count * matrix.cols}};
}

template <class T>
class GroupedBatch : public testing::Test {};
using Elements = testing::Types<float, double>;
TYPED_TEST_SUITE(GroupedBatch, Elements);

// Sequences of any lengths come in rounds of any sizes, a prefill beside decodes. What a sequence
// has got at the end is the formula's on the whole of it.
TYPED_TEST(GroupedBatch, EachSequenceAsIfAlone) {
  using Cache = KvCache<FullKv<>, TypeParam>;
  using Sequence = BatchSequence<Cache, CausalMask>;
  Random random(1);
  for (int i = 0; i < 15; ++i) {
    const auto features = test::random_features(random);
    SCOPED_TRACE(features.text());
    const GroupedCase<TypeParam> layer_case(features, random);
    const auto layer = layer_case.layer();
    const auto& [model_dim, num_heads, num_kv_heads, head_dim, head_dim_v] = features.shape;
    const Index num_sequences = random.integer(1, 5);
    std::vector<Cache> caches;
    std::vector<Matrix<TypeParam>> inputs(static_cast<std::size_t>(num_sequences)),
        outputs(inputs.size());
    for (Index s = 0; s < num_sequences; ++s)
      caches.emplace_back(
          300,
          FullKv<>{.num_kv_heads = num_kv_heads, .head_dim = head_dim, .head_dim_v = head_dim_v});
    for (int round = 0; round < 4; ++round) {
      std::vector<Sequence> sequences;
      Matrix<TypeParam> x(0, model_dim);
      for (Index s = 0; s < num_sequences; ++s) {
        const Index count = round == 0 ? random.integer(0, 70) : random.integer(0, 2);
        const auto rows = test::normal_matrix<TypeParam>(count, model_dim, random);
        x.data.insert(x.data.end(), rows.data.begin(), rows.data.end());
        x.rows += count;
        sequences.push_back({count, &caches[static_cast<std::size_t>(s)], {}});
      }
      Matrix<TypeParam> out(x.rows, model_dim);
      layer.forward_batch(view(std::as_const(x)), std::span<const Sequence>(sequences),
                          layer.softmax_scale(), view(out));
      Index begin = 0;
      for (std::size_t s = 0; s < sequences.size(); ++s) {
        const Index count = sequences[s].seqlen;
        for (const auto& [all, part] : {std::pair{&inputs[s], &x}, std::pair{&outputs[s], &out}}) {
          const auto rows = middle_rows(*part, begin, count);
          all->data.insert(all->data.end(), rows.data.begin(), rows.data.end());
          all->rows += count;
          all->cols = model_dim;
        }
        begin += count;
      }
    }
    for (std::size_t s = 0; s < inputs.size(); ++s) {
      SCOPED_TRACE("sequence " + std::to_string(s));
      EXPECT_EQ(caches[s].seqlen(), inputs[s].rows);
      layer_case.expect(outputs[s], inputs[s], inputs[s], test::positions_from(0, inputs[s].rows),
                        test::causal);
    }
  }
}

// Masks and positions are each sequence's own.
TYPED_TEST(GroupedBatch, WithMasksAndPositions) {
  using Cache = KvCache<FullKv<>, TypeParam>;
  using Sequence = BatchSequence<Cache, SlidingWindowMask>;
  Random random(2);
  const GroupedCase<TypeParam> layer_case(
      {.shape = {.model_dim = 12, .num_heads = 4, .num_kv_heads = 2, .head_dim = 8},
       .rope = RopeOptions{.rope_dim = 8}},
      random);
  const auto layer = layer_case.layer();
  const FullKv<> entry{.num_kv_heads = 2, .head_dim = 8, .head_dim_v = 8};
  Cache first(20, entry), second(20, entry);
  const auto x = test::normal_matrix<TypeParam>(17, 12, random);
  std::vector<Index> positions;
  for (Index i = 0; i < 17; ++i) positions.push_back(random.integer(0, 50));
  const std::vector<Sequence> sequences = {{10, &first, {.window_left = 2}},
                                           {7, &second, {.window_left = 4}}};
  Matrix<TypeParam> out(17, 12);
  layer.forward_batch(view(x), std::span<const Sequence>(sequences), layer.softmax_scale(),
                      view(out), {.positions = positions});
  Index begin = 0;
  for (const auto& [count, cache, mask] : sequences) {
    const auto own = middle_rows(x, begin, count);
    const Index window_left = mask.window_left;
    layer_case.expect(
        middle_rows(out, begin, count), own, own,
        {positions.begin() + begin, positions.begin() + begin + count},
        [=](Index, Index q_row, Index k) { return q_row - window_left <= k && k <= q_row; });
    begin += count;
  }
}

TYPED_TEST(GroupedBatch, OfNoSequences) {
  using Sequence = BatchSequence<KvCache<FullKv<>, TypeParam>, CausalMask>;
  Random random(3);
  const GroupedCase<TypeParam> layer_case(
      {.shape = {.model_dim = 12, .num_heads = 4, .num_kv_heads = 2, .head_dim = 8}}, random);
  Matrix<TypeParam> none(0, 12);
  layer_case.layer().forward_batch(view(std::as_const(none)), std::span<const Sequence>(), 0.5,
                                   view(none));
}

}  // namespace
}  // namespace heed
