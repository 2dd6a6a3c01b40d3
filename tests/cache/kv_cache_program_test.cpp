// SPDX-License-Identifier: MIT
/// \file
/// Caches of any sizes give back what they were given, and several of them follow a model through a
/// random program.

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "heed/cache/kv_cache.hpp"
#include "support/cached_tokens.hpp"  // FullTokens, LatentTokens

namespace heed {
namespace {

using test::Heads;
using test::normal_heads;
using test::Random;
using test::view;

/// Rows side by side as a projection writes them: [tokens, num_heads * dim], and a gap behind each.
template <class T>
class ProjectedRows {
 public:
  ProjectedRows(Index tokens, Index num_heads, Index dim, Random& random)
      : num_heads_(num_heads), width_(num_heads * dim),
        rows_(normal_heads<T>(1, tokens, width_ + 3, random)) {}

  /// The tokens begin .. begin + count, [num_heads, count, dim].
  HeadsView<const T> heads(Index begin, Index count) const {
    return split_heads(view(rows_).head(0).middle_rows(begin, count).middle_cols(0, width_),
                       num_heads_);
  }
  void expect_read(Index head, const Heads<T>& found) const {
    const RowsView<const T> given = heads(0, found.rows).head(head);
    for (Index row = 0; row < found.rows; ++row)
      EXPECT_TRUE(std::equal(given.row(row), given.row(row) + given.cols,
                             &found.data[0] + row * found.cols))
          << "head " << head << ", token " << row;
  }

 private:
  Index num_heads_, width_;
  Heads<T> rows_;
};

constexpr Index num_tokens = 150;

/// Calls append(begin, count) until all tokens are there.
template <class Append>
void append_in_chunks(const Append& append, Random& random) {
  for (Index begin = 0; begin < num_tokens;) {
    const Index count = std::min(num_tokens - begin, random.integer(0, 70));
    append(begin, count);
    begin += count;
  }
}

template <class T, class Entry>
void expect_full_kv_read_back(const Entry& entry) {
  SCOPED_TRACE("num_kv_heads " + std::to_string(entry.num_kv_heads) + ", head_dim " +
               std::to_string(entry.head_dim) + ", head_dim_v " + std::to_string(entry.head_dim_v));
  Random random(1);
  const ProjectedRows<T> key(num_tokens, entry.num_kv_heads, entry.head_dim, random),
      value(num_tokens, entry.num_kv_heads, entry.head_dim_v, random);
  KvCache<Entry, T> cache(num_tokens, entry);
  append_in_chunks(
      [&](Index begin, Index count) {
        cache.append(key.heads(begin, count), value.heads(begin, count));
      },
      random);
  ASSERT_EQ(cache.seqlen(), num_tokens);
  Heads<T> read_key(1, num_tokens, entry.head_dim), read_value(1, num_tokens, entry.head_dim_v);
  for (Index head = 0; head < entry.num_kv_heads; ++head) {
    cache.read_key(head, view(read_key).head(0));
    cache.read_value(head, view(read_value).head(0));
    key.expect_read(head, read_key);
    value.expect_read(head, read_value);
  }
}

template <class T, class Entry>
void expect_latent_kv_read_back(const Entry& entry) {
  SCOPED_TRACE("latent_dim " + std::to_string(entry.latent_dim) + ", rope_dim " +
               std::to_string(entry.rope_dim));
  Random random(2);
  const ProjectedRows<T> c_kv(num_tokens, 1, entry.latent_dim, random),
      k_rope(num_tokens, 1, std::max<Index>(entry.rope_dim, 1), random);
  KvCache<Entry, T> cache(num_tokens, entry);
  append_in_chunks(
      [&](Index begin, Index count) {
        cache.append(c_kv.heads(begin, count).head(0),
                     k_rope.heads(begin, count).head(0).middle_cols(0, entry.rope_dim));
      },
      random);
  ASSERT_EQ(cache.seqlen(), num_tokens);
  Heads<T> read_c_kv(1, num_tokens, entry.latent_dim), read_k_rope(1, num_tokens, entry.rope_dim);
  cache.read_latent(view(read_c_kv).head(0), view(read_k_rope).head(0));
  c_kv.expect_read(0, read_c_kv);
  if (entry.rope_dim > 0) k_rope.expect_read(0, read_k_rope);
}

template <class T>
class CacheOfAnySizes : public testing::Test {};
using Elements = testing::Types<float, double>;
TYPED_TEST_SUITE(CacheOfAnySizes, Elements);

TYPED_TEST(CacheOfAnySizes, GivesBackKeysAndValues) {
  expect_full_kv_read_back<TypeParam>(FullKv<2, 33, 5>{});
  expect_full_kv_read_back<TypeParam>(FullKv<1, 128>{});
  expect_full_kv_read_back<TypeParam>(FullKv<3>{.head_dim = 7});
  expect_full_kv_read_back<TypeParam>(FullKv<dynamic, 16, 17>{.num_kv_heads = 5});
  for (const Index num_kv_heads : {1, 2, 5})
    for (const Index head_dim : {1, 3, 16, 33, 96})
      for (const Index head_dim_v : {1, 8, 31, 64})
        expect_full_kv_read_back<TypeParam>(
            FullKv<>{.num_kv_heads = num_kv_heads, .head_dim = head_dim, .head_dim_v = head_dim_v});
}

TYPED_TEST(CacheOfAnySizes, GivesBackLatents) {
  expect_latent_kv_read_back<TypeParam>(LatentKv<512, 64>{});
  expect_latent_kv_read_back<TypeParam>(LatentKv<7>{.rope_dim = 2});
  for (const Index latent_dim : {1, 15, 16, 17, 100})
    for (const Index rope_dim : {0, 1, 2, 16})
      expect_latent_kv_read_back<TypeParam>(
          LatentKv<>{.latent_dim = latent_dim, .rope_dim = rope_dim});
}

template <class Tokens>
class CacheProgram : public testing::Test {};
using Kinds =
    testing::Types<test::FullTokens<float>, test::FullTokens<double>, test::FullTokens<int4>,
                   test::LatentTokens<float>, test::LatentTokens<double>>;
TYPED_TEST_SUITE(CacheProgram, Kinds);

/// A cache, and which of the source's tokens it should hold.
template <class Tokens>
struct Followed {
  typename Tokens::Cache cache;
  std::vector<Index> model;
};

// Caches are filled, cut, forked and moved beside plain vectors that are treated the same. Each
// step must show in the caches it names and in no other.
TYPED_TEST(CacheProgram, OverSeveralCachesFollowsAModel) {
  constexpr std::size_t most_caches = 4;
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    Random random(seed);
    const TypeParam source(400, random);
    std::vector<Followed<TypeParam>> all;
    const auto any = [&]() -> Followed<TypeParam>& {
      return all[static_cast<std::size_t>(random.integer(0, std::ssize(all) - 1))];
    };
    all.push_back({source.empty_cache(200), {}});
    for (int step = 0; step < 80; ++step) {
      SCOPED_TRACE("seed " + std::to_string(seed) + ", step " + std::to_string(step));
      auto& [cache, model] = any();
      const Index what = random.integer(0, 11);
      if (what < 6) {
        const Index count = random.integer(0, what < 3 ? 3 : 90);
        const Index begin = random.integer(0, 400 - count);
        if (std::ssize(model) + count <= cache.capacity()) {
          source.append(cache, begin, count);
          for (Index i = 0; i < count; ++i) model.push_back(begin + i);
        } else {
          EXPECT_THROW(source.append(cache, begin, count), CapacityError);
        }
      } else if (what < 8) {
        model.resize(static_cast<std::size_t>(random.integer(0, std::ssize(model))));
        cache.truncate(std::ssize(model));
      } else if (what == 8) {
        cache.clear();
        model.clear();
      } else if (what == 9) {
        if (cache.capacity() == 0) {
          EXPECT_THROW((void)cache.fork(), StateError);
          continue;
        }
        Followed<TypeParam> fork{cache.fork(), model};
        if (all.size() < most_caches)
          all.push_back(std::move(fork));
        else
          any() = std::move(fork);
      } else if (what == 10) {
        Followed<TypeParam>& other = any();
        if (&other.cache != &cache) {
          other.cache = std::move(cache);
          other.model = std::exchange(model, {});
          EXPECT_EQ(cache.capacity(), 0);
        }
      } else {
        cache = source.empty_cache(random.integer(1, 200));
        model.clear();
      }
      for (const auto& followed : all) source.expect_held(followed.cache, followed.model);
      if (testing::Test::HasFailure()) return;  // the first step that went wrong is enough
    }
  }
}

}  // namespace
}  // namespace heed
