// SPDX-License-Identifier: MIT
/// \file
/// What was saved is there again after it was loaded, bit for bit: of every element and entry, in
/// memory of its own and in a pool's, whole or with a window.

#include "heed/cache/kv_file.hpp"

#include <algorithm>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "heed/attention/attend.hpp"
#include "support/cache_file.hpp"     // saved, load_from, crc64
#include "support/cached_tokens.hpp"  // FullTokens, LatentTokens

namespace heed {
namespace {

using test::load_from;
using test::Random;
using test::saved;

constexpr CacheWindow window{.num_sink_tokens = 5, .window_left = 20};

template <class Tokens>
class SavedCache : public testing::Test {
 protected:
  using Pool =
      PagePool<std::remove_cvref_t<decltype(std::declval<typename Tokens::Cache>().entry())>,
               typename Tokens::Element>;

  /// Loads what `cache` saves into `other`, and takes both further: they stay alike.
  void expect_same_again(typename Tokens::Cache& cache, typename Tokens::Cache& other) {
    const std::string file = saved(cache);
    load_from(file, other);
    EXPECT_EQ(other.seqlen(), cache.seqlen());
    EXPECT_EQ(other.dropped().end - other.dropped().begin,
              cache.dropped().end - cache.dropped().begin);
    EXPECT_TRUE(saved(other) == file);
    for (auto* const each : {&cache, &other}) tokens_.append(*each, cache.capacity() - 71, 70);
    EXPECT_TRUE(saved(other) == saved(cache));
    for (auto* const each : {&cache, &other}) each->truncate(each->seqlen() - 31);
    EXPECT_TRUE(saved(other) == saved(cache));
  }

  Random random_{1};
  Tokens tokens_{400, random_};
};
using AllTokens =
    testing::Types<test::FullTokens<float>, test::FullTokens<double>, test::FullTokens<f16>,
                   test::FullTokens<bf16>, test::FullTokens<int8>, test::LatentTokens<float>,
                   test::LatentTokens<double>, test::LatentTokens<f16>, test::LatentTokens<bf16>,
                   test::LatentTokens<int8>, test::FullTokens<int4>,
                   test::FullTokens<Rotated<PerChannel<int8>>>, test::LatentTokens<Rotated<int4>>>;
TYPED_TEST_SUITE(SavedCache, AllTokens);

TYPED_TEST(SavedCache, IsThereAgain) {
  using Cache = typename TypeParam::Cache;
  for (const Index count : {0, 1, 63, 64, 65, 150}) {
    SCOPED_TRACE(count);
    typename TestFixture::Pool pool(12);
    Cache own(300), pooled(pool, 300), own_again(250), pooled_again(pool, 400);
    for (Cache* const cache : {&own, &pooled}) this->tokens_.append(*cache, 0, count);
    for (Cache* const cache : {&own_again, &pooled_again}) this->tokens_.append(*cache, 200, 100);
    EXPECT_TRUE(saved(own) == saved(pooled));
    load_from(saved(own), pooled_again);
    this->tokens_.expect_held(pooled_again, count);
    // Back into a page of which it has kept one of its own in float.
    pooled_again.truncate(std::min<Index>(count, 30));
    this->tokens_.expect_held(pooled_again, std::min<Index>(count, 30));
    this->expect_same_again(own, pooled_again);
    this->expect_same_again(pooled, own_again);
  }
}

TYPED_TEST(SavedCache, HoldsNothingThatWasTruncatedOrIsAnothers) {
  using Cache = typename TypeParam::Cache;
  typename TestFixture::Pool pool(12);
  Cache five(300), longer(pool, 300), with_open_page(pool, 300), without(pool, 300),
      prefix(pool, 300);
  this->tokens_.append(five, 0, 5);
  for (const Index count : {50, 70}) {  // with a whole page too
    Cache truncated(300);
    this->tokens_.append(truncated, 0, count);
    truncated.truncate(5);
    EXPECT_TRUE(saved(truncated) == saved(five));
  }
  this->tokens_.append(longer, 0, 50);
  prefix.assign_prefix(longer, 5);
  EXPECT_TRUE(saved(prefix) == saved(five));
  this->tokens_.append(prefix, 5, 1);  // which copies the page that was shared
  this->tokens_.append(five, 5, 1);
  EXPECT_TRUE(saved(prefix) == saved(five));
  // A page that was stored goes on where another one was being filled.
  this->tokens_.append(with_open_page, 0, 140);
  this->tokens_.append(without, 0, 128);
  prefix.assign_prefix(with_open_page, 5);
  const std::string file = saved(prefix);
  prefix.assign_prefix(without, 5);
  EXPECT_TRUE(saved(prefix) == file);
  // With a window, back into a page that was stored: what followed leaves no trace.
  const Index capacity = window.capacity(70);
  Cache further(capacity, {}, window), less(capacity, {}, window);
  for (Cache* const cache : {&further, &less})
    for (Index begin = 0; begin < 210; begin += 70) this->tokens_.append(*cache, begin, 70);
  this->tokens_.append(further, 210, 11);
  this->tokens_.append(less, 290, 11);
  for (Cache* const cache : {&further, &less}) cache->truncate(200);
  EXPECT_TRUE(saved(further) == saved(less));
}

TYPED_TEST(SavedCache, IsThereAgainWithAWindow) {
  using Cache = typename TypeParam::Cache;
  typename TestFixture::Pool pool(20);
  const Index capacity = window.capacity(70);
  Cache own(capacity, {}, window), pooled(pool, capacity, window), again(capacity, {}, window),
      pooled_again(pool, capacity, window);
  for (Index begin = 0; begin < 390; begin += 30) {
    SCOPED_TRACE(begin);
    for (Cache* const cache : {&own, &pooled}) this->tokens_.append(*cache, begin, 30);
    Cache forks[] = {own.fork(), pooled.fork()};
    this->expect_same_again(forks[0], again);
    this->expect_same_again(forks[1], pooled_again);
  }
  EXPECT_LT(saved(own).size(), own.bytes());  // no page that was let go
}

// The queries that come after see the same.
TEST(KvFile, KeepsTheBitsOfAttention) {
  Random random(2);
  const test::FullTokens<bf16> tokens(200, random);
  test::FullTokens<bf16>::Cache cache(200), again(200);
  tokens.append(cache, 0, 150);
  load_from(saved(cache), again);
  const test::Heads<float> query = test::normal_heads<float>(6, 4, 20, random);
  test::Heads<float> out(6, 4, 9), out_again(6, 4, 9);
  for (const Index begin : {150, 170}) {
    tokens.append(cache, begin, 10);
    tokens.append(again, begin, 10);
    attend(test::view(query), cache, CausalMask{}, 0.2, test::view(out));
    attend(test::view(query), again, CausalMask{}, 0.2, test::view(out_again));
    EXPECT_EQ(out.data, out_again.data);
  }
}

// How elements are multiplied is not the file's business.
TEST(KvFile, OfPlainElementsServesNativeOnesAndBack) {
  Random random(3);
  const auto exchange = [&]<class E>(E) {
    const test::FullTokens<E> tokens(100, random);
    typename test::FullTokens<E>::Cache plain(100), again(100);
    tokens.append(plain, 0, 100);
    KvCache<FullKv<3, 20, 9>, Native<E>> native(100);
    load_from(saved(plain), native);
    EXPECT_EQ(saved(native), saved(plain));
    load_from(saved(native), again);
    tokens.expect_held(again, 100);
  };
  exchange(bf16());
  exchange(int8());
  exchange(Rotated<int8>());
  exchange(PerChannel<int8>());
  exchange(Rotated<PerChannel<int8>>());
  exchange(int4());
  exchange(Rotated<int4>());
}

TEST(KvFile, IsSafetensorsWithAHeaderOfOneText) {
  Random random(3);
  const test::FullTokens<int8> tokens(70, random);
  test::FullTokens<int8>::Cache cache(70);
  tokens.append(cache, 0, 70);
  const std::string file = saved(cache);
  const std::string_view json = std::string_view(file).substr(8, file.find("}}") + 2 - 8);
  const auto header = nlohmann::json::parse(json);
  EXPECT_EQ(header["pages"]["dtype"], "U8");
  EXPECT_EQ(header["pages"]["data_offsets"][1], 16896);
  const std::string checksum = header["__metadata__"]["checksum"];
  EXPECT_EQ(json, R"({"__metadata__":{"format":"heed.kv_cache","version":"3","entry":"full",)"
                  R"("num_kv_heads":"3","head_dim":"20","head_dim_v":"9","element":"int8",)"
                  R"("page_size":"64","num_sink_tokens":"none","window_left":"none","seqlen":"70",)"
                  R"("dropped_tokens":"0","released_pages":"0","checksum":")" +
                      checksum +
                      R"("},"pages":{"dtype":"U8","shape":[2,8448],)"
                      R"("data_offsets":[0,16896]}})");
  EXPECT_EQ(file.size(), 8 + 360 + 16896U);
  EXPECT_EQ(file.substr(0, 8), std::string("\x68\1\0\0\0\0\0\0", 8));
  EXPECT_EQ(file, test::with_its_checksum(file));
}

TEST(KvFile, ComesFromAStreamThatHasMore) {
  Random random(4);
  const test::FullTokens<f16> full(100, random);
  const test::LatentTokens<float> latent(100, random);
  test::FullTokens<f16>::Cache first(100), first_again(100);
  test::LatentTokens<float>::Cache second(100), second_again(100);
  full.append(first, 0, 30);
  latent.append(second, 0, 80);
  std::stringstream stream;
  stream << "model\n";
  save(first, stream);
  save(second, stream);
  stream << "end";
  std::string words[2];
  std::getline(stream, words[0]);
  load(stream, first_again);
  load(stream, second_again);
  stream >> words[1];
  EXPECT_EQ(words[1], "end");
  full.expect_held(first_again, 30);
  latent.expect_held(second_again, 80);
}

// A pool's pages are taken and given back in one step, and those that others hold stay.
TEST(KvFile, TakesPagesOfAPool) {
  Random random(5);
  const test::FullTokens<float> tokens(200, random);
  using Cache = test::FullTokens<float>::Cache;
  PagePool<FullKv<3, 20, 9>> pool(4);
  Cache cache(pool, 200), own(200), small(200);
  tokens.append(cache, 0, 150);
  tokens.append(own, 50, 150);
  tokens.append(small, 100, 20);
  load_from(saved(own), cache);  // 3 pages in place of 3 others: with 1 free
  EXPECT_EQ(pool.free_pages(), 1);
  tokens.append(cache, 0, 10);
  EXPECT_TRUE(saved(cache) != saved(own));
  cache.truncate(150);

  Cache fork = cache.fork();
  load_from(saved(small), cache);
  EXPECT_EQ(pool.free_pages(), 0);
  Cache again(200);
  load_from(saved(fork), again);
  EXPECT_EQ(again.seqlen(), 150);
  again.truncate(140), fork.truncate(140);
  EXPECT_TRUE(saved(again) == saved(fork));
}

TEST(KvFile, ChecksumIsCrc64) {
  const auto crc = [](std::string_view text, std::size_t cut) {
    detail::Crc64 checksum;
    const auto bytes = std::as_bytes(std::span(text));
    checksum.add(bytes.first(cut));
    checksum.add(bytes.subspan(cut));
    return checksum.value();
  };
  EXPECT_EQ(crc("123456789", 0), 0x995d'c9bb'df19'39fa);  // the catalogue's check value
  const std::string text = "the tables do 16 bytes at a time, and what is left one by one";
  for (std::size_t cut = 0; cut <= text.size(); ++cut) EXPECT_EQ(crc(text, cut), test::crc64(text));
}

}  // namespace
}  // namespace heed
