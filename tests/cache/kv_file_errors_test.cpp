// SPDX-License-Identifier: MIT
/// \file
/// What is not as it was saved is refused, by name, and the cache is as before: files that are cut
/// off, altered or of another cache, and streams that fail.

#include <algorithm>
#include <fstream>
#include <ostream>
#include <sstream>
#include <streambuf>
#include <string>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "heed/cache/kv_file.hpp"
#include "support/cache_file.hpp"     // saved, load_from, with_replaced
#include "support/cached_tokens.hpp"  // LatentTokens

namespace heed {
namespace {

using test::load_from;
using test::Random;
using test::saved;
using test::with_replaced;

using Tokens = test::LatentTokens<int8>;
using Cache = Tokens::Cache;

class KvFileErrors : public testing::Test {
 protected:
  KvFileErrors() {
    tokens_.append(cache_, 50, 65);
    tokens_.append(saved_cache_, 0, 100);
    sliding_.append(long_, 0, 60), sliding_.append(long_, 60, 200);
    file_ = saved(saved_cache_), before_ = saved(cache_), sliding_file_ = saved(long_);
  }

  /// Fails unless `act` throws an Error of these words and leaves the cache as it was.
  template <class Error = FileError, class Act>
  void expect_error(const std::string& words, const Act& act) {
    EXPECT_THAT(act, testing::ThrowsMessage<Error>(words));
    EXPECT_TRUE(saved(cache_) == before_);
  }
  template <class Error = FileError>
  void expect_refused(const std::string& file, const std::string& words) {
    expect_error<Error>("heed::load: " + words, [&] { load_from(file, cache_); });
  }
  void expect_refused(const std::string& file) { expect_refused_by(cache_, before_, file); }
  /// Fails unless loading throws anything of ours and leaves the cache as it was.
  template <class AnyCache>
  static void expect_refused_by(AnyCache& cache, const std::string& before,
                                const std::string& file) {
    const auto refused = [&] {
      try {
        load_from(file, cache);
        return false;
      } catch (const FileError&) {
        return true;
      } catch (const CapacityError&) {  // a digit more
        return true;
      }
    };
    EXPECT_TRUE(refused());
    EXPECT_TRUE(saved(cache) == before);
  }

  Random random_{1};
  Tokens tokens_{300, random_};
  test::LatentTokens<float> sliding_{300, random_};
  Cache cache_{150}, saved_cache_{100};
  static constexpr CacheWindow window{.num_sink_tokens = 5, .window_left = 20};
  test::LatentTokens<float>::Cache long_{window.capacity(200), {}, window};
  std::string file_, before_, sliding_file_;
};

TEST_F(KvFileErrors, EveryAlteredByteIsFound) {
  for (std::size_t at = 0; at < file_.size(); ++at)
    for (const int bits : {1 << (at % 8), 0xff}) {
      SCOPED_TRACE(at);
      std::string altered = file_;
      altered[at] = static_cast<char>(altered[at] ^ bits);
      expect_refused(altered);
    }
}

TEST_F(KvFileErrors, EveryCutIsFound) {
  for (std::size_t size = 0; size < file_.size(); ++size) expect_refused(file_.substr(0, size));
  for (std::size_t at = 0; at < file_.size(); at += 13)
    expect_refused(std::string(file_).erase(at, 1));
  EXPECT_NO_THROW(load_from(file_, cache_));
}

// Keys with scales per channel have a page in float that is being filled, which is saved as well.
TEST_F(KvFileErrors, EveryAlteredByteAndCutOfAnOpenPageIsFound) {
  const test::FullTokens<PerChannel<int8>> tokens(100, random_);
  test::FullTokens<PerChannel<int8>>::Cache cache(100), saved_cache(100);
  tokens.append(cache, 20, 70);
  tokens.append(saved_cache, 0, 66);
  const std::string before = saved(cache), file = saved(saved_cache);
  for (std::size_t at = 0; at < file.size(); at += at < 1000 ? 1 : 7) {
    SCOPED_TRACE(at);
    std::string altered = file;
    altered[at] = static_cast<char>(altered[at] ^ 1 << (at % 8));
    expect_refused_by(cache, before, altered);
    expect_refused_by(cache, before, file.substr(0, at));
  }
  load_from(file, cache);
  EXPECT_TRUE(saved(cache) == file);
}

TEST_F(KvFileErrors, SaysThatAStreamIsNone) {
  std::ifstream from("no/such/file");
  EXPECT_THAT([&] { load(from, cache_); },
              testing::ThrowsMessage<FileError>(
                  "heed::load: the stream was not opened, or has failed before"));
  expect_refused(std::string(8, '\0'),
                 "the header has nothing where {\"__metadata__\":{ is expected");
}

TEST_F(KvFileErrors, SaysWhatIsMissing) {
  expect_refused("", "the file ends after 0 of the 8 bytes of its header's length");
  expect_refused(file_.substr(0, 100), "the file ends after 92 of the 344 bytes of its header");
  expect_refused(file_.substr(0, 1000), "the file ends after 648 of the 8704 bytes of its pages");
  expect_refused("{\"a\": 1}",
                 "the file's header is said to have 9021026962656797307 bytes, "
                 "which no header of heed::save has");
  expect_refused(std::string("\x10\0\0\0\0\0\0\0{\"weight\":{\"dty", 24),
                 "the header has {\"weight\":{\"dty? where {\"__metadata__\":{ is expected");
  expect_refused(with_replaced(file_, "\"shape\":[2,", "\"shape\":[3,"),
                 "the header's end is not that of \"pages\", U8 [2, 4352]");
  expect_refused(with_replaced(file_, "\"seqlen\"", "\"sqelen\""),
                 "the header has \"sqelen\":\" where \"seqlen\":\" is expected");
}

TEST_F(KvFileErrors, NamesAChecksumThatIsWrong) {
  const auto digits = file_.find("checksum\":\"") + 11;
  const std::string checksum = file_.substr(digits, 16);
  expect_refused(std::string(file_).replace(digits, 16, "0123456789abcdef"),
                 "the checksum is 0123456789abcdef in the file, " + checksum +
                     " of its content: it was altered");
  expect_refused(std::string(file_).replace(digits, 16, "0123456789ABCDEF"),
                 "checksum is 0123456789ABCDEF in the file, expected 16 hexadecimal digits");
}

TEST_F(KvFileErrors, NamesTheFieldThatDiffers) {
  const auto differs = [&](std::string_view from, std::string_view to, const std::string& words) {
    expect_refused(with_replaced(file_, from, to), words);
  };
  differs("heed.kv_cache", "heed.weights",
          "format is heed.weights in the file, heed.kv_cache expected");
  differs("\"version\":\"3\"", "\"version\":\"2\"",
          "version is 2 in the file, 3 is what this heed reads");
  differs("\"latent\"", "\"full\"", "entry is full in the file, latent in the cache");
  differs("\"21\"", "\"12\"", "latent_dim is 12 in the file, 21 in the cache");
  differs("\"6\"", "\"8\"", "rope_dim is 8 in the file, 6 in the cache");
  differs("\"int8\"", "\"float16\"", "element is float16 in the file, int8 in the cache");
  differs("\"page_size\":\"64\"", "\"page_size\":\"32\"",
          "page_size is 32 in the file, 64 in the cache");
  differs("\"none\"", "\"5\"", "num_sink_tokens is 5 in the file, none in the cache");
  differs("\"window_left\":\"none\"", "\"window_left\":\"20\"",
          "window_left is 20 in the file, none in the cache");
  differs("\"100\"", "\"1e2\"", "seqlen is 1e2 in the file, expected a count");
  differs("\"100\"", "\"0100\"", "seqlen is 0100 in the file, expected a count");
  differs("\"100\"", "\"-100\"", "seqlen is -100 in the file, expected a count");
  differs("\"100\"", "\"1000000000000000\"",
          "seqlen is 1000000000000000 in the file, expected a count");
  differs("\"int8\"", "\"" + std::string(50, '\n') + "\"",
          "element is " + std::string(40, '?') + "... in the file, int8 in the cache");

  KvCache<FullKv<2, 8, 5>, bf16> full(10);
  const auto full_differs = [](const auto& saved_cache, auto&& loaded, const std::string& words) {
    EXPECT_THAT([&] { load_from(saved(saved_cache), loaded); },
                testing::ThrowsMessage<FileError>("heed::load: " + words));
  };
  full_differs(full, KvCache<FullKv<3, 8, 5>, bf16>(10),
               "num_kv_heads is 2 in the file, 3 in the cache");
  full_differs(full, KvCache<FullKv<2, 9, 5>, bf16>(10),
               "head_dim is 8 in the file, 9 in the cache");
  full_differs(full, KvCache<FullKv<2, 8, 8>, bf16>(10),
               "head_dim_v is 5 in the file, 8 in the cache");
  full_differs(full, KvCache<FullKv<2, 8, 5>, f16>(10),
               "element is bfloat16 in the file, float16 in the cache");
  full_differs(full, KvCache<FullKv<2, 8, 5>, double>(10),
               "element is bfloat16 in the file, float64 in the cache");
  full_differs(full, cache_, "entry is full in the file, latent in the cache");
  full_differs(full, KvCache<FullKv<2, 8, 5>, bf16>(10, {}, CacheWindow{.window_left = 9}),
               "num_sink_tokens is none in the file, 0 in the cache");
}

TEST_F(KvFileErrors, StatesThatCannotBeAreRefused) {
  const auto refused = [&](std::string_view from, std::string_view to, const std::string& words) {
    const std::string before = saved(long_);
    expect_error("heed::load: seqlen, dropped_tokens and released_pages are " + words +
                     " in the file, which cannot be with the cache's window",
                 [&] { load_from(with_replaced(sliding_file_, from, to), long_); });
    EXPECT_TRUE(saved(long_) == before);
  };
  // 260 tokens, of which the first of the last append saw 5 sinks and those from 40 on.
  refused("\"dropped_tokens\":\"35\"", "\"dropped_tokens\":\"235\"", "260, 235 and 0");
  refused("\"seqlen\":\"260\"", "\"seqlen\":\"60\"", "60, 35 and 0");
  refused("\"released_pages\":\"0\"", "\"released_pages\":\"1\"", "260, 35 and 1");
  refused("\"released_pages\":\"0\"", "\"released_pages\":\"999999999999999\"",
          "260, 35 and 999999999999999");
  // Nor can a cache without a window have let anything go.
  expect_refused(with_replaced(file_, "\"dropped_tokens\":\"0\"", "\"dropped_tokens\":\"1\""),
                 "seqlen, dropped_tokens and released_pages are 100, 1 and 0 in the file, which "
                 "cannot be with the cache's window");
  expect_refused(with_replaced(file_, "\"released_pages\":\"0\"", "\"released_pages\":\"1\""),
                 "seqlen, dropped_tokens and released_pages are 100, 0 and 1 in the file, which "
                 "cannot be with the cache's window");
}

TEST_F(KvFileErrors, TheCacheIsTooSmall) {
  Cache large(300), empty(0);
  tokens_.append(large, 0, 151);
  expect_refused<CapacityError>(saved(large), "151 tokens are to be held, but the capacity is 150");
  expect_refused<CapacityError>(with_replaced(file_, "\"100\"", "\"999999999999999\""),
                                "999999999999999 tokens are to be held, but the capacity is 150");
  test::LatentTokens<float>::Cache narrow(window.capacity(0), {}, window);
  expect_error<CapacityError>(
      "heed::load: 320 tokens are to be held in whole pages, but the capacity is 256",
      [&] { load_from(sliding_file_, narrow); });
  load_from(saved(empty), cache_);
  EXPECT_EQ(cache_.seqlen(), 0);
  load_from(saved(cache_), empty);
}

TEST_F(KvFileErrors, ThePoolIsTooSmall) {
  PagePool<LatentKv<21, 6>, int8> pool(3);
  Cache pooled(pool, 1000), other(pool, 1000), large(300);
  tokens_.append(pooled, 0, 60);
  tokens_.append(other, 0, 100);
  tokens_.append(large, 0, 200);
  const std::string before = saved(pooled);
  expect_error<PoolExhaustedError>("heed::load: 4 pages are needed, but the pool has 3",
                                   [&] { load_from(saved(large), pooled); });
  expect_error<PoolExhaustedError>(
      "heed::PagePool: 2 more pages are needed, but of 3 only 1 are free",
      [&] { load_from(file_, pooled); });
  EXPECT_TRUE(saved(pooled) == before);
  EXPECT_EQ(pool.free_pages(), 0);
  other.truncate(64);
  load_from(file_, pooled);
  EXPECT_TRUE(saved(pooled) == file_);
  tokens_.expect_held(other, 64);
}

TEST_F(KvFileErrors, MovedFromCachesAreRefused) {
  Cache moved(10);
  const Cache there = std::move(moved);
  expect_error<StateError>("heed::save: the cache was moved from", [&] { saved(moved); });
  expect_error<StateError>("heed::load: the cache was moved from",
                           [&] { load_from(file_, moved); });
}

/// Takes or gives so many bytes, and then fails: at more of them, and at the end of writing.
class FailingBuffer : public std::streambuf {
 public:
  FailingBuffer(std::string content, std::size_t left) : content_(std::move(content)), left_(left) {
    setg(content_.data(), content_.data(), content_.data() + left);
  }

 private:
  int_type underflow() override { throw std::runtime_error("the disk is gone"); }
  int_type overflow(int_type c) override { return left_ == 0 ? traits_type::eof() : (--left_, c); }
  int sync() override { return left_ == 0 ? -1 : 0; }

  std::string content_;
  std::size_t left_;
};

TEST_F(KvFileErrors, StreamsThatFail) {
  const std::string size = std::to_string(file_.size());
  for (const std::size_t left :
       {std::size_t{0}, std::size_t{9}, std::size_t{700}, file_.size() - 1}) {
    FailingBuffer buffer(file_, left);
    std::ostream to(&buffer);
    expect_error("heed::save: the stream did not take the file's " + size + " bytes",
                 [&] { save(saved_cache_, to); });
    std::istream from(&buffer);
    EXPECT_THROW(load(from, cache_), FileError);
  }
  FailingBuffer takes_all(file_, file_.size());  // but they get no further, as on a full disk
  std::ostream to_full(&takes_all);
  expect_error("heed::save: the stream did not take the file's " + size + " bytes",
               [&] { save(saved_cache_, to_full); });
  FailingBuffer buffer(file_, 700);
  std::istream from(&buffer);
  expect_error("heed::load: the stream failed within the 8704 bytes of its pages",
               [&] { load(from, cache_); });
  expect_error("heed::load: the stream was not opened, or has failed before",
               [&] { load(from, cache_); });
  FailingBuffer no_bytes(file_, 0);
  std::istream from_none(&no_bytes);
  expect_error("heed::load: the stream failed within the 8 bytes of its header's length",
               [&] { load(from_none, cache_); });
  std::istringstream throwing(file_.substr(0, 700));
  throwing.exceptions(std::ios::failbit);
  EXPECT_THROW(load(throwing, cache_), std::ios::failure);
  EXPECT_TRUE(saved(cache_) == before_);
}

}  // namespace
}  // namespace heed
