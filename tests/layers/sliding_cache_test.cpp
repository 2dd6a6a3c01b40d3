// SPDX-License-Identifier: MIT
/// \file
/// Layers over caches that slide, in a pool or alone, compute what a window's mask over all tokens
/// gives, and a pass that throws leaves them as they were.

#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "heed/heed.hpp"
#include "support/grouped_case.hpp"  // GroupedCase
#include "support/latent_case.hpp"   // LatentCase

namespace heed {
namespace {

using test::Matrix;
using test::Random;
using test::view;

constexpr Index seqlen = 400;
constexpr CacheWindow window{.num_sink_tokens = 2, .window_left = 50};
constexpr SinkWindowMask mask{.num_sink_tokens = 2, .window_left = 50};
constexpr LatentShape latent_shape{.model_dim = 24,
                                   .num_heads = 3,
                                   .latent_dim = 20,
                                   .rope_dim = 6,
                                   .nope_dim = 10,
                                   .head_dim_v = 8};

/// What `mask` shows, in its definition's words.
bool in_window(Index, Index q_row, Index k) {
  return k <= q_row && (k < mask.num_sink_tokens || k >= q_row - mask.window_left);
}

TEST(SlidingCache, OfKeysAndValues) {
  constexpr GroupedShape shape{
      .model_dim = 24, .num_heads = 6, .num_kv_heads = 2, .head_dim = 16, .head_dim_v = 9};
  Random random(1);
  const test::GroupedCase<double> layer_case({.shape = shape, .rope = RopeOptions{.rope_dim = 16}},
                                             random);
  const auto layer = layer_case.layer();
  const auto x = test::normal_matrix<double>(seqlen, shape.model_dim, random);
  using Entry = FullKv<2, 16, 9>;
  const auto run = [&](auto cache, Index chunk) {
    return test::in_chunks(x, chunk, [&](RowsView<const double> rows, RowsView<double> out) {
      layer.forward(rows, cache, mask, out);
    });
  };
  const auto expect_window = [&](const Matrix<double>& out) {
    layer_case.expect(out, x, x, test::positions_from(0, seqlen), in_window);
  };
  expect_window(run(KvCache<Entry, double>(seqlen), seqlen));
  const PagePool<Entry, double> pool(8);
  for (const Index chunk : {1, 30, 64}) {
    expect_window(run(KvCache<Entry, double>(window.capacity(chunk), {}, window), chunk));
    expect_window(run(KvCache<Entry, double>(pool, window.capacity(chunk), window), chunk));
  }
}

TEST(SlidingCache, OfLatentsOnEitherPath) {
  Random random(2);
  const test::LatentCase<double> layer_case({.shape = latent_shape}, random);
  const auto layer = layer_case.layer();
  const auto x = test::normal_matrix<double>(seqlen, latent_shape.model_dim, random);
  using Cache = KvCache<LatentKv<20, 6>, double>;
  for (const MlaPath path : {MlaPath::absorbed, MlaPath::expanded}) {
    const auto run = [&](Cache cache, Index chunk, const auto& seen) {
      return test::in_chunks(x, chunk, [&](RowsView<const double> rows, RowsView<double> out) {
        layer.forward(rows, cache, seen, out, {.path = path});
      });
    };
    const auto expect_window = [&](const Matrix<double>& out) {
      layer_case.expect(out, x, test::positions_from(0, seqlen), in_window);
    };
    expect_window(run(Cache(seqlen), seqlen, mask));
    for (const Index chunk : {1, 30})
      expect_window(run(Cache(window.capacity(chunk), {}, window), chunk, mask));
    // What was dropped is hidden from a mask that would show it, also where it reads as zeros.
    expect_window(run(Cache(window.capacity(1), {}, window), 1, CausalMask{}));
  }
}

// Expanding would take scratch for all tokens there have been.
TEST(SlidingCache, OfLatentsTakesNoMoreScratchForALongerText) {
  constexpr Index chunk = 64;
  Random random(4);
  const test::LatentCase<float> layer_case({.shape = latent_shape}, random);
  const auto layer = layer_case.layer();
  KvCache<LatentKv<20, 6>> cache(window.capacity(chunk), {}, window);
  Workspace workspace;
  const auto x = test::normal_matrix<float>(chunk, latent_shape.model_dim, random);
  Matrix<float> out(chunk, latent_shape.model_dim);
  const auto bytes_after = [&](Index chunks) {
    for (Index i = 0; i < chunks; ++i)
      layer.forward(view(x), cache, mask, view(out), {.workspace = &workspace});
    return workspace.bytes();
  };
  const std::size_t few = bytes_after(40);  // some parts of 1024 keys, of which most were let go
  EXPECT_EQ(bytes_after(60), few);
}

TEST(SlidingCache, IsAsItWasAfterAPassThatThrows) {
  constexpr GroupedShape shape{.model_dim = 24, .num_heads = 6, .num_kv_heads = 2, .head_dim = 16};
  Random random(3);
  const test::GroupedCase<float> layer_case({.shape = shape}, random);
  const auto layer = layer_case.layer();
  auto x = test::normal_matrix<float>(seqlen, shape.model_dim, random);
  Matrix<float> out(seqlen, shape.model_dim), again(1, shape.model_dim);
  using Cache = KvCache<FullKv<2, 16>, int8>;
  const PagePool<FullKv<2, 16>, int8> pool(9);
  Cache cache(pool, 1000, window), other(pool, 1000);
  layer.forward(view(x).middle_rows(0, 250), cache, mask, view(out).middle_rows(0, 250));
  const std::vector<BatchSequence<Cache, SinkWindowMask>> sequences{{1, &cache, mask},
                                                                    {300, &other, mask}};
  const auto expect_kept = [&]<class Error>(std::type_identity<Error>, const char* words) {
    EXPECT_THAT(
        [&] {
          layer.forward_batch(view(x).middle_rows(0, 301), std::span(sequences),
                              layer.softmax_scale(), view(out).middle_rows(0, 301));
        },
        testing::ThrowsMessage<Error>(testing::HasSubstr(words)));
    EXPECT_EQ(cache.seqlen(), 250);
    EXPECT_EQ(other.seqlen(), 0);
  };
  // In both cases the first sequence, whose window lets pages go, has its token when the second
  // fails.
  const float number = std::exchange(x(300, 0), std::numeric_limits<float>::quiet_NaN());
  expect_kept(std::type_identity<ElementError>{},
              "forward_batch: sequence 1: KvCache::append: key");
  x(300, 0) = number;
  Cache others(pool, 1000);
  const Index taken = (pool.free_pages() - 3) * page_size;
  layer.forward(view(x).middle_rows(0, taken), others, mask, view(out).middle_rows(0, taken));
  expect_kept(std::type_identity<PoolExhaustedError>{},
              "forward_batch: sequence 1: PagePool: 5 more");
  layer.forward(view(x).middle_rows(249, 1), cache, mask, view(again));
  EXPECT_EQ(cache.seqlen(), 251);
}

/// Fails unless a mask and a score that do not fit are refused before the window moves on: no token
/// is hidden by them.
template <class LayerCase, class Cache>
void expect_refused_before_the_window_moves(const LayerCase& layer_case, Cache cache) {
  Random random(4);
  const auto layer = layer_case.layer();
  const auto x = test::normal_matrix<float>(201, layer_case.shape().model_dim, random);
  Matrix<float> written(201, x.cols);
  layer.forward(view(x).middle_rows(0, 200), cache, mask, view(written).middle_rows(0, 200));
  const KeyRange dropped = cache.dropped();
  const auto token = view(x).middle_rows(200, 1);
  const auto out = view(written).middle_rows(200, 1);
  const std::vector<int> ids(1);
  const DocumentMask wrong{ids, ids};
  const auto wrong_score = chain(Scale{layer.softmax_scale()}, Softcap{-1});
  EXPECT_THROW(layer.forward(token, cache, wrong, out), ShapeError);
  EXPECT_THROW(layer.forward(token, cache, mask, wrong_score, out), ShapeError);
  const std::vector<BatchSequence<Cache, DocumentMask>> batch{{1, &cache, wrong}};
  EXPECT_THROW(layer.forward_batch(token, batch, out), ShapeError);
  const std::vector<BatchSequence<Cache, SinkWindowMask>> scored{{1, &cache, mask}};
  EXPECT_THROW(layer.forward_batch(token, scored, wrong_score, out), ShapeError);
  EXPECT_EQ(cache.seqlen(), 200);
  EXPECT_EQ(cache.dropped().begin, dropped.begin);
  EXPECT_EQ(cache.dropped().end, dropped.end);
}

TEST(SlidingCache, SeesAllThatItSawAfterARefusedMaskOrScore) {
  Random random(4);
  expect_refused_before_the_window_moves(
      test::GroupedCase<float>(
          {.shape = {.model_dim = 24, .num_heads = 6, .num_kv_heads = 2, .head_dim = 16}}, random),
      KvCache<FullKv<2, 16>>(window.capacity(200), {}, window));
  expect_refused_before_the_window_moves(
      test::LatentCase<float>({.shape = latent_shape}, random),
      KvCache<LatentKv<20, 6>>(window.capacity(200), {}, window));
}

}  // namespace
}  // namespace heed
