// SPDX-License-Identifier: MIT
/// \file
/// Cross-attention: queries from one input, keys and values from another, or from its cache.

#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "heed/cache/kv_cache.hpp"
#include "heed/layers/grouped_query_attention.hpp"
#include "support/grouped_case.hpp"  // GroupedCase, random_features

namespace heed {
namespace {

using test::GroupedCase;
using test::GroupedFeatures;
using test::Matrix;
using test::positions_from;
using test::Random;
using test::view;

template <class T>
class CrossAttention : public testing::Test {
 protected:
  /// Calls f(layer case, x, memory) on random layers; the memory has another width and length than
  /// x.
  template <class F>
  static void for_each_layer(int count, const F& f) {
    Random random(1);
    for (int i = 0; i < count; ++i) {
      GroupedFeatures features = test::random_features(random);
      features.memory_dim = random.integer(3, 40);
      SCOPED_TRACE(features.text() + ", memory_dim " + std::to_string(*features.memory_dim));
      const GroupedCase<T> layer_case(features, random);
      f(layer_case, test::normal_matrix<T>(random.integer(1, 40), features.shape.model_dim, random),
        test::normal_matrix<T>(random.integer(1, 90), *features.memory_dim, random));
    }
  }
};
using Elements = testing::Types<float, double>;
TYPED_TEST_SUITE(CrossAttention, Elements);

TYPED_TEST(CrossAttention, ReadsTheSecondInput) {
  this->for_each_layer(25, [](const GroupedCase<TypeParam>& layer_case, const Matrix<TypeParam>& x,
                              const Matrix<TypeParam>& memory) {
    Matrix<TypeParam> out(x.rows, x.cols);
    layer_case.layer().forward_cross(view(x), view(memory), view(memory), NoMask{}, view(out));
    layer_case.expect(out, x, memory, positions_from(0, x.rows + memory.rows), {});
  });
}

TYPED_TEST(CrossAttention, KeysAndValuesMayComeFromDifferentInputs) {
  this->for_each_layer(5, [](const GroupedCase<TypeParam>& layer_case, const Matrix<TypeParam>& x,
                             const Matrix<TypeParam>& memory) {
    using E = test::Exact<TypeParam>;
    Random random(2);
    const auto values = test::normal_matrix<TypeParam>(memory.rows, memory.cols, random);
    const auto positions = positions_from(0, x.rows + memory.rows);
    Matrix<TypeParam> out(x.rows, x.cols);
    layer_case.layer().forward_cross(view(x), view(memory), view(values), NoMask{}, view(out));
    const auto exact = layer_case.template formula<E>()(
        test::converted<E>(x), test::converted<E>(memory), test::converted<E>(values), positions);
    const auto plain = layer_case.template formula<TypeParam>()(x, memory, values, positions);
    test::expect_as_exact(out.data, plain.out.data, exact.out.data, test::grouped_stages);
  });
}

// The decoder's steps read what append_memory cached once, and leave it as it is.
TYPED_TEST(CrossAttention, ReadsACachedMemory) {
  this->for_each_layer(15, [&](const GroupedCase<TypeParam>& layer_case, const Matrix<TypeParam>& x,
                               const Matrix<TypeParam>& memory) {
    const auto layer = layer_case.layer();
    auto cache = layer_case.cache(memory.rows);
    layer.append_memory(view(memory), view(memory), cache);
    EXPECT_EQ(cache.seqlen(), memory.rows);
    const auto positions = positions_from(0, x.rows + memory.rows);
    Matrix<TypeParam> out(x.rows, x.cols);
    layer.forward_cross(view(x), std::as_const(cache), NoMask{}, view(out));
    layer_case.expect(out, x, memory, positions, {});
    for (Index row = 0; row < x.rows; ++row) {
      const std::vector<Index> own = {row};
      layer.forward_cross(view(x).middle_rows(row, 1), std::as_const(cache), NoMask{},
                          layer.softmax_scale(), view(out).middle_rows(row, 1), {.positions = own});
    }
    layer_case.expect(out, x, memory, positions, {});
    EXPECT_EQ(cache.seqlen(), memory.rows);
  });
}

// A memory that arrives in parts stands where it would have stood at once.
TYPED_TEST(CrossAttention, CachesAMemoryInParts) {
  this->for_each_layer(10, [&](const GroupedCase<TypeParam>& layer_case, const Matrix<TypeParam>& x,
                               const Matrix<TypeParam>& memory) {
    const auto layer = layer_case.layer();
    auto cache = layer_case.cache(memory.rows);
    const Index cut = memory.rows / 2;
    for (const auto& part :
         {view(memory).middle_rows(0, cut), view(memory).middle_rows(cut, memory.rows - cut)})
      layer.append_memory(part, part, cache);
    Matrix<TypeParam> out(x.rows, x.cols);
    layer.forward_cross(view(x), std::as_const(cache), NoMask{}, view(out));
    layer_case.expect(out, x, memory, positions_from(0, x.rows + memory.rows), {});
  });
}

// Positions of either input are their own: the pass is its projections, attend, and the output
// projection.
TYPED_TEST(CrossAttention, IsItsProjectionsAndAttend) {
  this->for_each_layer(10, [&](const GroupedCase<TypeParam>& layer_case, const Matrix<TypeParam>& x,
                               const Matrix<TypeParam>& memory) {
    Random random(3);
    std::vector<Index> of_x, of_memory;
    for (Index i = 0; i < x.rows; ++i) of_x.push_back(random.integer(0, 100));
    for (Index i = 0; i < memory.rows; ++i) of_memory.push_back(random.integer(0, 100));
    const auto layer = layer_case.layer();
    const auto& shape = layer_case.shape();
    Matrix<TypeParam> query(x.rows, layer.query_width()), key(memory.rows, layer.key_width()),
        value(memory.rows, layer.value_width());
    layer.project_query(view(x), view(query), RowPositions{.each = of_x});
    layer.project_key_value(view(memory), view(memory), view(key), view(value),
                            RowPositions{.each = of_memory});
    Matrix<TypeParam> heads(x.rows, layer.heads_width()), expected(x.rows, x.cols),
        out(x.rows, x.cols);
    const auto weights = layer_case.weights();
    attend(split_heads(view(query), shape.num_heads), split_heads(view(key), shape.num_kv_heads),
           split_heads(view(value), shape.num_kv_heads), PaddingMask{0, memory.rows - 1}, 0.5,
           split_heads(view(heads), shape.num_heads), {.sinks = weights.sinks});
    weights.out.apply(view(std::as_const(heads)), view(expected));
    const ForwardOptions options{.positions = of_x, .memory_positions = of_memory};
    layer.forward_cross(view(x), view(memory), view(memory), PaddingMask{0, memory.rows - 1}, 0.5,
                        view(out), options);
    EXPECT_EQ(out.data, expected.data);

    auto cache = layer_case.cache(memory.rows);
    layer.append_memory(view(memory), view(memory), cache, options);
    layer.forward_cross(view(x), std::as_const(cache), PaddingMask{0, memory.rows - 1}, 0.5,
                        view(out), options);
    EXPECT_EQ(out.data, expected.data);
  });
}

}  // namespace
}  // namespace heed
