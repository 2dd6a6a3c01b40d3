// SPDX-License-Identifier: MIT
/// \file
/// Layers over caches of narrow elements: close to float in any chunks, and nothing kept of what
/// such a cache cannot store.

#include <algorithm>
#include <limits>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "heed/heed.hpp"
#include "support/grouped_case.hpp"  // GroupedCase
#include "support/latent_case.hpp"   // LatentCase, all_paths

namespace heed {
namespace {

using test::GroupedCase;
using test::LatentCase;
using test::Matrix;
using test::Random;
using test::view;

constexpr Index num_tokens = 80;
constexpr GroupedShape narrow_grouped{
    .model_dim = 24, .num_heads = 6, .num_kv_heads = 2, .head_dim = 16, .head_dim_v = 9};
constexpr LatentShape narrow_latent{.model_dim = 24,
                                    .num_heads = 3,
                                    .latent_dim = 20,
                                    .rope_dim = 6,
                                    .nope_dim = 10,
                                    .head_dim_v = 8};

template <class Element>
class NarrowCache : public testing::Test {
 protected:
  using GroupedCache = KvCache<FullKv<2, 16, 9>, Element>;
  using LatentCache = KvCache<LatentKv<20, 6>, Element>;

  /// Rounding of an element, relative to the largest of its row.
  static constexpr double step = std::is_same_v<Element, f16>            ? 1.0 / (1 << 11)
                                 : std::is_same_v<Element, Native<bf16>> ? 1.0 / (1 << 8)
                                 : element_bits<Element> == 4            ? 1.0 / 15
                                                                         : 1.0 / 254;

  /// Rounded keys move scores, and rounded values the result: both by some steps.
  static void expect_close(const Matrix<float>& found, const Matrix<float>& exact) {
    float largest = 0;
    for (const float x : exact.data) largest = std::max(largest, std::abs(x));
    double error = 0;
    for (std::size_t i = 0; i < exact.data.size(); ++i) {
      ASSERT_FALSE(std::isnan(found.data[i])) << i;
      error = std::max(error, static_cast<double>(std::abs(found.data[i] - exact.data[i])));
    }
    EXPECT_LT(error, 8 * step * static_cast<double>(largest));
    EXPECT_GT(error, 0) << "elements are rounded, else this test sees nothing";
  }
};
using NarrowCacheTypes = testing::Types<f16, Native<bf16>, int8, Rotated<int4>, Native<int4>>;
TYPED_TEST_SUITE(NarrowCache, NarrowCacheTypes);

TYPED_TEST(NarrowCache, OfKeysAndValues) {
  Random random(1);
  const GroupedCase<float> layer_case(
      {.shape = narrow_grouped, .rope = RopeOptions{.rope_dim = 16}}, random);
  const auto layer = layer_case.layer();
  const auto x = test::normal_matrix<float>(num_tokens, narrow_grouped.model_dim, random);
  const auto run = [&](auto cache, Index chunk) {
    return test::in_chunks(x, chunk, [&](RowsView<const float> rows, RowsView<float> out) {
      layer.forward(rows, cache, CausalMask{}, out);
    });
  };
  using Cache = typename TestFixture::GroupedCache;
  const Matrix<float> exact = run(KvCache<FullKv<2, 16, 9>>(num_tokens), num_tokens);
  for (const Index chunk : {1, 7, 64, 80}) this->expect_close(run(Cache(num_tokens), chunk), exact);
}

TYPED_TEST(NarrowCache, OfLatentsOnEitherPath) {
  Random random(2);
  const LatentCase<float> layer_case({.shape = narrow_latent}, random);
  const auto layer = layer_case.layer();
  const auto x = test::normal_matrix<float>(num_tokens, narrow_latent.model_dim, random);
  for (const MlaPath path : {MlaPath::absorbed, MlaPath::expanded}) {
    const auto run = [&](auto cache) {
      return test::in_chunks(x, 32, [&](RowsView<const float> rows, RowsView<float> out) {
        layer.forward(rows, cache, CausalMask{}, out, {.path = path});
      });
    };
    this->expect_close(run(typename TestFixture::LatentCache(num_tokens)),
                       run(KvCache<LatentKv<20, 6>>(num_tokens)));
  }
}

// The second sequence of a batch cannot be stored, and so nothing of the first is kept either.
TEST(Int8Layer, KeepsNothingOfABatchWithANan) {
  Random random(3);
  const GroupedCase<float> layer_case({.shape = narrow_grouped}, random);
  const auto layer = layer_case.layer();
  using Cache = KvCache<FullKv<2, 16, 9>, int8>;
  Cache first(20), second(20);
  auto x = test::normal_matrix<float>(10, narrow_grouped.model_dim, random);
  Matrix<float> out(10, narrow_grouped.model_dim);
  layer.forward(view(x), first, CausalMask{}, view(out));
  x.data.back() = std::numeric_limits<float>::quiet_NaN();
  std::fill(out.data.begin(), out.data.end(), 7.0F);
  const std::vector<BatchSequence<Cache, CausalMask>> sequences{{4, &first}, {6, &second}};
  EXPECT_THAT(
      [&] { layer.forward_batch(view(x), std::span(sequences), layer.softmax_scale(), view(out)); },
      testing::ThrowsMessage<ElementError>(
          testing::HasSubstr("forward_batch: sequence 1: KvCache::append: ")));
  EXPECT_EQ(first.seqlen(), 10);
  EXPECT_EQ(second.seqlen(), 0);
  EXPECT_EQ(std::count(out.data.begin(), out.data.end(), 7.0F), std::ssize(out.data));
}

}  // namespace
}  // namespace heed
