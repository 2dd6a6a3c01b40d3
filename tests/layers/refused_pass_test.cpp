// SPDX-License-Identifier: MIT
/// \file
/// A pass that throws, wherever on its way, leaves the caches and the output as they were.

#include <algorithm>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "heed/cache/kv_cache.hpp"
#include "heed/policy/mask_element.hpp"
#include "support/grouped_case.hpp"  // GroupedCase
#include "support/latent_case.hpp"   // LatentCase
#include "support/shape_error.hpp"   // expect_shape_error

namespace heed {
namespace {

using test::expect_shape_error;
using test::Matrix;
using test::Random;
using test::view;

constexpr bool booleans[1000] = {};

/// Either layer beside a cache for it, and a view of all that the cache holds.
struct Grouped {
  using Cache = KvCache<FullKv<2, 6>>;
  static constexpr const char* name = "heed::GroupedQueryAttention::";
  test::GroupedCase<float> layer_case;

  explicit Grouped(Random& random)
      : layer_case({.shape = {.model_dim = 8, .num_heads = 4, .num_kv_heads = 2, .head_dim = 6},
                    .rope = RopeOptions{.rope_dim = 6}},
                   random) {}
  static Cache cache() { return Cache(10); }
  static std::vector<float> content(const Cache& cache) {
    std::vector<float> all(static_cast<std::size_t>(4 * cache.seqlen() * 6));
    const HeadsView<float> parts(all.data(), 4, cache.seqlen(), 6);
    for (Index head = 0; head < 2; ++head) {
      cache.read_key(head, parts.head(head));
      cache.read_value(head, parts.head(2 + head));
    }
    return all;
  }
};
struct Latent {
  using Cache = KvCache<LatentKv<5, 4>>;
  static constexpr const char* name = "heed::MultiHeadLatentAttention::";
  test::LatentCase<float> layer_case;

  explicit Latent(Random& random)
      : layer_case({.shape = {.model_dim = 8,
                              .num_heads = 4,
                              .latent_dim = 5,
                              .rope_dim = 4,
                              .nope_dim = 6,
                              .head_dim_v = 3}},
                   random) {}
  static Cache cache() { return Cache(10); }
  static std::vector<float> content(const Cache& cache) {
    std::vector<float> all(static_cast<std::size_t>(cache.seqlen() * 9));
    cache.read_latent({all.data(), cache.seqlen(), 5},
                      {all.data() + 5 * cache.seqlen(), cache.seqlen(), 4});
    return all;
  }
};

template <class Kind>
class RefusedPass : public testing::Test {
 protected:
  using KindCache = typename Kind::Cache;
  Random random_{1};
  Kind kind_{random_};
  decltype(kind_.layer_case.layer()) layer_ = kind_.layer_case.layer();
  Matrix<float> x_ = test::normal_matrix<float>(40, 8, random_);

  RowsView<const float> x(Index rows) const { return view(x_).middle_rows(0, rows); }
  KindCache filled(Index seqlen) {
    KindCache cache = Kind::cache();
    Matrix<float> out(seqlen, 8);
    layer_.forward(x(seqlen), cache, CausalMask{}, view(out));
    return cache;
  }
  /// Calls pass(cache, out) on a cache of 7 tokens; neither may have changed after it threw.
  template <class Pass>
  void expect_kept(Index rows, const Pass& pass) {
    KindCache cache = filled(7);
    const auto before = Kind::content(cache);
    std::vector<float> written(static_cast<std::size_t>(rows * 8 + 8), 5.0F);
    pass(cache, RowsView<float>(written.data(), rows, 8));
    EXPECT_EQ(cache.seqlen(), 7);
    EXPECT_EQ(Kind::content(cache), before);
    EXPECT_TRUE(std::ranges::all_of(written, [](float w) { return w == 5; }));
  }
};
using Kinds = testing::Types<Grouped, Latent>;
TYPED_TEST_SUITE(RefusedPass, Kinds);

TYPED_TEST(RefusedPass, ForLackOfRoom) {
  this->expect_kept(4, [&](auto& cache, RowsView<float> out) {
    EXPECT_THROW(this->layer_.forward(this->x(4), cache, CausalMask{}, out), CapacityError);
  });
  auto cache = this->filled(7);
  Matrix<float> out(3, 8);
  this->layer_.forward(this->x(3), cache, CausalMask{}, view(out));  // what fits, fits
  EXPECT_EQ(cache.seqlen(), 10);
}

// The mask is looked at before the tokens are in the cache, for the length that it then has.
TYPED_TEST(RefusedPass, ForAMaskOfAnotherShape) {
  this->expect_kept(2, [&](auto& cache, RowsView<float> out) {
    const DenseMask mask{{booleans, 1, 2, 7}};  // without the two that are appended
    expect_shape_error(
        {"DenseMask::allowed [1 or num_heads, seqlen_q, seqlen_kv] has shape [1, 2, 7], "
         "expected [1, 2, 9]"},
        [&] { this->layer_.forward(this->x(2), cache, mask, out); });
  });
}

TYPED_TEST(RefusedPass, ForAScoreThatDoesNotFit) {
  this->expect_kept(2, [&](auto& cache, RowsView<float> out) {
    const std::vector<float> slopes(3);
    expect_shape_error({"Alibi::slopes [num_heads] has shape [3], expected [4]"}, [&] {
      this->layer_.forward(this->x(2), cache, CausalMask{}, chain(Scale{1}, Alibi<float>{slopes}),
                           out);
    });
    expect_shape_error({"Softcap::cap is 0"}, [&] {
      this->layer_.forward(this->x(2), cache, CausalMask{}, chain(Scale{1}, Softcap{0}), out);
    });
  });
}

TYPED_TEST(RefusedPass, ForTooFewPositions) {
  this->expect_kept(3, [&](auto& cache, RowsView<float> out) {
    const std::vector<Index> positions = {0, 1};
    expect_shape_error(
        {TypeParam::name, "positions [rows of the input] has shape [2], expected [3]"}, [&] {
          this->layer_.forward(this->x(3), cache, CausalMask{}, out, {.positions = positions});
        });
    expect_shape_error(
        {TypeParam::name, "positions [rows of the input] has shape [2], expected [3]"},
        [&] { this->layer_.forward(this->x(3), CausalMask{}, out, {.positions = positions}); });
  });
}

TYPED_TEST(RefusedPass, ForAnOutputOfAnotherShape) {
  this->expect_kept(3, [&](auto& cache, RowsView<float> out) {
    expect_shape_error(
        {TypeParam::name, "out [seqlen_q, out of weights.out] has shape [3, 8], expected [2, 8]"},
        [&] { this->layer_.forward(this->x(2), cache, CausalMask{}, out); });
    expect_shape_error(
        {TypeParam::name, "out [seqlen_q, out of weights.out] has shape [3, 7], expected [3, 8]"},
        [&] { this->layer_.forward(this->x(3), cache, CausalMask{}, out.middle_cols(0, 7)); });
    expect_shape_error(
        {TypeParam::name, "x [seqlen_q, model_dim] has shape [3, 7], expected [3, 8]"},
        [&] { this->layer_.forward(this->x(3).middle_cols(0, 7), cache, CausalMask{}, out); });
    expect_shape_error({"x [seqlen_q, model_dim] has shape [3, 7], expected [3, 8]"}, [&] {
      this->layer_.forward(this->x(3).middle_cols(0, 7), CausalMask{}, out);
    });
    expect_shape_error({"out [seqlen_q, out of weights.out] has shape [3, 8], expected [2, 8]"},
                       [&] { this->layer_.forward(this->x(2), CausalMask{}, out); });
  });
}

struct Failure {};

/// Everything on the calling thread, but for the call after `*left` others, which fails.
struct FailingExecutor {
  Index* left;

  Index concurrency() const noexcept { return 1; }
  template <class Body>
  void parallel_for(Index count, const Body& body) const {
    if ((*left)-- == 0) throw Failure{};
    for (Index task = 0; task < count; ++task) body(task);
  }
};

// What throws once the tokens are in the cache, they go again.
TYPED_TEST(RefusedPass, WhereverItsExecutorFails) {
  using Cache = typename TypeParam::Cache;
  const auto expect_kept_until_it_succeeds = [&](const auto& pass) {
    bool succeeds = false;
    Index failures = 0;
    for (; !succeeds; ++failures) {
      Cache cache = this->filled(7);
      const auto before = TypeParam::content(cache);
      Matrix<float> out(3, 8);
      Index left = failures;
      try {
        pass(cache, view(out), FailingExecutor{&left});
        succeeds = true;
      } catch (const Failure&) {
        EXPECT_EQ(cache.seqlen(), 7);
        EXPECT_EQ(TypeParam::content(cache), before) << "call " << failures;
      }
    }
    EXPECT_GT(failures, 2);
  };
  expect_kept_until_it_succeeds([&](Cache& cache, RowsView<float> out, FailingExecutor executor) {
    this->layer_.forward(this->x(3), cache, CausalMask{}, out, {.executor = executor});
  });
  expect_kept_until_it_succeeds([&](Cache& cache, RowsView<float> out, FailingExecutor executor) {
    Cache other = this->filled(4);
    const BatchSequence<Cache, CausalMask> sequences[] = {{1, &other}, {2, &cache}};
    try {
      this->layer_.forward_batch(this->x(3), sequences, out, {.executor = executor});
    } catch (const Failure&) {
      EXPECT_EQ(other.seqlen(), 4);
      throw;
    }
  });
}

TYPED_TEST(RefusedPass, ForWhatAMaskOrAScoreThrows) {
  using Cache = typename TypeParam::Cache;
  const auto expect_kept = [&](const auto& mask, const auto& score) {
    Cache cache = this->filled(7), other = this->filled(4);
    const auto before = TypeParam::content(cache);
    Matrix<float> out(3, 8);
    EXPECT_THROW(this->layer_.forward(this->x(3), cache, mask, score, view(out)), Failure);
    const BatchSequence<Cache, std::remove_cvref_t<decltype(mask)>> sequences[] = {
        {1, &other, mask}, {2, &cache, mask}};
    EXPECT_THROW(this->layer_.forward_batch(this->x(3), sequences, score, view(out)), Failure);
    EXPECT_EQ(other.seqlen(), 4);
    EXPECT_EQ(cache.seqlen(), 7);
    EXPECT_EQ(TypeParam::content(cache), before);
  };
  const auto fails_late = [](Index q_position, auto result) {
    if (q_position == 8) throw Failure{};
    return result;
  };
  const Scale scale{this->layer_.softmax_scale()};
  expect_kept(CustomMask([&](Index q, Index k) { return fails_late(q, k <= q); }), scale);
  expect_kept(CausalMask{}, chain(scale, CustomScore([&](float score, Index, Index q, Index) {
                                    return fails_late(q, score);
                                  })));
}

// One bad sequence refuses the batch; those before it keep nothing of it.
TYPED_TEST(RefusedPass, OfABatch) {
  using Cache = typename TypeParam::Cache;
  using Sequence = BatchSequence<Cache, DenseMask>;
  const DenseMask fits{{booleans, 1, 2, 9}}, misses{{booleans, 1, 1, 3}};
  const DenseMask of_one{{booleans, 1, 1, 5}}, of_two{{booleans, 1, 2, 6}},
      on_first{{booleans, 1, 1, 8}};
  const double scale = this->layer_.softmax_scale();
  Cache second = this->filled(4), full = this->filled(10);
  const auto of_second = TypeParam::content(second);
  const auto run = [&](Cache& first, Sequence other, Index rows, RowsView<float> out,
                       std::span<const Index> positions = {}) {
    const std::vector<Sequence> sequences = {{2, &first, fits}, other};
    this->layer_.forward_batch(this->x(rows), std::span<const Sequence>(sequences), scale, out,
                               {.positions = positions});
  };
  const std::vector<Index> positions(5);
  this->expect_kept(3, [&](Cache& cache, RowsView<float> out) {
    expect_shape_error({TypeParam::name,
                        "forward_batch: sequence 1: DenseMask::allowed [1 or "
                        "num_heads, seqlen_q, seqlen_kv] has shape [1, 1, 3], "
                        "expected [1, 1, 5]"},
                       [&] { run(cache, {1, &second, misses}, 3, out); });
    EXPECT_THAT(
        [&] { run(cache, {1, &full, misses}, 3, out); },
        testing::ThrowsMessage<CapacityError>(testing::AllOf(
            testing::StartsWith(TypeParam::name),
            testing::HasSubstr("forward_batch: sequence 1: KvCache: 10 tokens are cached"))));
    expect_shape_error(
        {TypeParam::name, "forward_batch: sequence 1: seqlen is -1, expected 0 or more"},
        [&] { run(cache, {-1, &second, of_one}, 3, out); });
    expect_shape_error({"sequence 1: there is no cache"},
                       [&] { run(cache, {1, nullptr, misses}, 3, out); });
    expect_shape_error({TypeParam::name, "forward_batch: sequences 0 and 1 share a cache"},
                       [&] { run(cache, {1, &cache, on_first}, 3, out); });
    expect_shape_error(
        {TypeParam::name,
         "x [sum of the sequences' seqlen, model_dim] has shape [3, 8], expected [4, 8]"},
        [&] { run(cache, {2, &second, of_two}, 3, out); });
    expect_shape_error(
        {TypeParam::name, "positions [rows of the input] has shape [5], expected [3]"},
        [&] { run(cache, {1, &second, of_one}, 3, out, positions); });
    expect_shape_error(
        {TypeParam::name, "out [seqlen_q, out of weights.out] has shape [3, 8], expected [2, 8]"},
        [&] { run(cache, {1, &second, misses}, 2, out); });
  });
  EXPECT_EQ(TypeParam::content(second), of_second);
}

}  // namespace
}  // namespace heed
