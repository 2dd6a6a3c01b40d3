// SPDX-License-Identifier: MIT
/// \file
/// The bits of layers: the same on any number of threads, in batches and in chunks.
/// Passes on different caches may run at the same time.

#include <algorithm>
#include <span>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "heed/cache/kv_cache.hpp"
#include "support/executors.hpp"     // executors
#include "support/grouped_case.hpp"  // GroupedCase
#include "support/latent_case.hpp"   // LatentCase

namespace heed {
namespace {

using test::Matrix;
using test::Random;
using test::view;

struct WideGrouped {
  static constexpr Index model_dim = 300;
  using Cache = KvCache<FullKv<4, 24>>;
  test::GroupedCase<float> layer_case;

  explicit WideGrouped(Random& random)
      : layer_case(
            {.shape = {.model_dim = model_dim, .num_heads = 12, .num_kv_heads = 4, .head_dim = 24},
             .rope = RopeOptions{.rope_dim = 24}},
            random) {}
  static Cache cache() { return Cache(200); }
};
struct WideLatent {
  static constexpr Index model_dim = 300;
  using Cache = KvCache<LatentKv<40, 8>>;
  test::LatentCase<float> layer_case;

  explicit WideLatent(Random& random)
      : layer_case({.shape = {.model_dim = model_dim,
                              .num_heads = 6,
                              .latent_dim = 40,
                              .rope_dim = 8,
                              .nope_dim = 24,
                              .head_dim_v = 24,
                              .query_latent_dim = 50}},
                   random) {}
  static Cache cache() { return Cache(200); }
};

template <class Kind>
class LayerThreads : public testing::Test {
 protected:
  using KindCache = typename Kind::Cache;
  Random random_{1};
  Kind kind_{random_};
  decltype(kind_.layer_case.layer()) layer_ = kind_.layer_case.layer();
};
using WideKinds = testing::Types<WideGrouped, WideLatent>;
TYPED_TEST_SUITE(LayerThreads, WideKinds);

// A long prefill, a short one and a decode step in one batch, then a decode step of each.
TYPED_TEST(LayerThreads, BatchesGiveTheSameBitsOnAnyNumber) {
  using Cache = typename TypeParam::Cache;
  using Sequence = BatchSequence<Cache, CausalMask>;
  const auto x = test::normal_matrix<float>(150, TypeParam::model_dim, this->random_);
  std::vector<float> serial;
  for (const AnyExecutor& executor : test::executors()) {
    Cache first = TypeParam::cache(), second = TypeParam::cache(), third = TypeParam::cache();
    Matrix<float> out(150, TypeParam::model_dim);
    const auto round = [&](const std::vector<Sequence>& sequences, Index begin) {
      Index count = 0;
      for (const Sequence& sequence : sequences) count += sequence.seqlen;
      this->layer_.forward_batch(view(x).middle_rows(begin, count),
                                 std::span<const Sequence>(sequences), this->layer_.softmax_scale(),
                                 view(out).middle_rows(begin, count), {.executor = executor});
      return begin + count;
    };
    Index begin = round({{30, &first}}, 0);
    begin = round({{1, &first}, {99, &second}, {17, &third}}, begin);
    begin = round({{1, &first}, {1, &second}, {1, &third}}, begin);
    EXPECT_EQ(begin, 150);
    if (serial.empty()) serial = out.data;
    EXPECT_EQ(out.data, serial);
  }
}

// A projection does not see how many rows there are, up to 64 on every target.
TYPED_TEST(LayerThreads, BatchesGiveEachSequenceTheBitsOfThatAlone) {
  using Cache = typename TypeParam::Cache;
  using Sequence = BatchSequence<Cache, CausalMask>;
  const auto prompt = test::normal_matrix<float>(70, TypeParam::model_dim, this->random_),
             x = test::normal_matrix<float>(64, TypeParam::model_dim, this->random_);
  Matrix<float> ignored(70, TypeParam::model_dim), together(64, TypeParam::model_dim),
      alone(64, TypeParam::model_dim);
  std::vector<Cache> caches;
  for (const Index seqlen : {1, 70, 33}) {
    caches.push_back(TypeParam::cache());
    this->layer_.forward(view(prompt).middle_rows(0, seqlen), caches.back(), CausalMask{},
                         view(ignored).middle_rows(0, seqlen));
  }
  std::vector<Cache> forks;
  for (Cache& cache : caches) forks.push_back(cache.fork());
  const std::vector<Sequence> sequences = {{1, &caches[0]}, {61, &caches[1]}, {2, &caches[2]}};
  this->layer_.forward_batch(view(x), std::span<const Sequence>(sequences),
                             this->layer_.softmax_scale(), view(together));
  Index row = 0;
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    const Index count = sequences[s].seqlen;
    this->layer_.forward(view(x).middle_rows(row, count), forks[s], CausalMask{},
                         view(alone).middle_rows(row, count));
    row += count;
  }
  EXPECT_EQ(together.data, alone.data);
}

/// A prompt in chunks of any size. \param options  of each pass
template <class Kind, class Layer, class Options>
void expect_same_bits_in_chunks(const Layer& layer, const Options& options) {
  constexpr Index tokens = 64;
  Random random(2);
  const auto x = test::normal_matrix<float>(tokens, Kind::model_dim, random);
  const auto in_chunks = [&](Index chunk) {
    auto cache = Kind::cache();
    Matrix<float> out(tokens, Kind::model_dim);
    for (Index begin = 0; begin < tokens; begin += chunk) {
      const Index count = std::min(chunk, tokens - begin);
      layer.forward(view(x).middle_rows(begin, count), cache, CausalMask{},
                    view(out).middle_rows(begin, count), options);
    }
    return out.data;
  };
  const auto whole = in_chunks(tokens);
  for (const Index chunk : {1, 7, 40}) EXPECT_EQ(in_chunks(chunk), whole) << chunk;
}

// So a decode step is what a prefill of all tokens gives for its row; latents on the same path.
TEST(LayerChunks, GiveTheSameBits) {
  Random random(1);
  const WideGrouped grouped(random);
  expect_same_bits_in_chunks<WideGrouped>(grouped.layer_case.layer(), ForwardOptions{});
  const WideLatent latent(random);
  for (const MlaPath path : {MlaPath::absorbed, MlaPath::expanded}) {
    LatentOptions options;
    options.path = path;
    expect_same_bits_in_chunks<WideLatent>(latent.layer_case.layer(), options);
  }
}

TYPED_TEST(LayerThreads, PassesOnDifferentCachesMayRunAtTheSameTime) {
  constexpr Index prompt = 60, seqlen = 100;
  const auto x = test::normal_matrix<float>(seqlen, TypeParam::model_dim, this->random_);
  const auto run = [&](Matrix<float>& out) {
    auto cache = TypeParam::cache();
    const auto pass = [&](Index begin, Index count) {
      this->layer_.forward(view(x).middle_rows(begin, count), cache, CausalMask{},
                           view(out).middle_rows(begin, count), {.executor = SerialExecutor{}});
    };
    pass(0, prompt);
    for (Index token = prompt; token < seqlen; ++token) pass(token, 1);
  };
  Matrix<float> alone(seqlen, TypeParam::model_dim);
  run(alone);
  std::vector<Matrix<float>> outs(4, Matrix<float>(seqlen, TypeParam::model_dim));
  std::vector<std::thread> threads;
  for (Matrix<float>& out : outs) threads.emplace_back([&run, &out] { run(out); });
  for (std::thread& thread : threads) thread.join();
  for (const Matrix<float>& out : outs) EXPECT_EQ(out.data, alone.data);
}

}  // namespace
}  // namespace heed
