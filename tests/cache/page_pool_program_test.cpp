// SPDX-License-Identifier: MIT
/// \file
/// Random programs of append, truncate, fork, assign_prefix, clear and drop on several sequences,
/// of one pool or with memory of their own, follow a model of plain vectors, in what each holds and
/// in how many of the pool's pages are taken.

#include <algorithm>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "heed/cache/kv_cache.hpp"
#include "support/cached_tokens.hpp"  // FullTokens, LatentTokens

namespace heed {
namespace {

using test::Random;

constexpr Index num_source_tokens = 400;

Index pages_of(Index tokens) { return (tokens + page_size - 1) / page_size; }

/// What a sequence should hold. Pages are values of their own, so that sharing is counted by who
/// points to one.
struct Model {
  enum class Memory { pool, own };
  Memory memory;
  Index capacity;
  std::optional<CacheWindow> window;
  std::vector<Index> tokens;                // of the source
  std::vector<std::shared_ptr<int>> pages;  // of the sequence; null if let go
  Index visible_from = 0;                   // of a window: what the oldest query may see

  Index seqlen() const { return std::ssize(tokens); }
  Index sink_pages() const { return window ? pages_of(window->num_sink_tokens) : 0; }
  Index held() const {
    return std::count_if(pages.begin(), pages.end(),
                         [](const auto& page) { return page != nullptr; });
  }
  /// The page that the next append lets go everything before, sinks aside.
  Index first_kept() const {
    if (!window || seqlen() < window->window_left) return 0;
    return (seqlen() - window->window_left) / page_size - 1;
  }
  bool passed(Index page) const {
    return page >= sink_pages() && page < first_kept() && pages[static_cast<std::size_t>(page)];
  }
  std::vector<Index> expected() const {
    std::vector<Index> found = tokens;
    if (window)
      for (Index i = window->num_sink_tokens; i < std::min(visible_from, seqlen()); ++i)
        found[static_cast<std::size_t>(i)] = test::dropped_token;
    return found;
  }

  enum class Outcome { done, over_capacity, exhausted };
  Outcome append(Index begin, Index count, Index free_pages) {
    if (count == 0) return Outcome::done;
    const bool copies = seqlen() % page_size != 0 && pages.back().use_count() > 1;
    const Index added = pages_of(seqlen() + count) - std::ssize(pages);
    Index passed_pages = 0, freed = 0;
    for (Index page = 0; page < std::ssize(pages); ++page)
      if (passed(page)) {
        ++passed_pages;
        freed += pages[static_cast<std::size_t>(page)].use_count() == 1;
      }
    if (window ? held() - passed_pages + added > pages_of(capacity) : seqlen() + count > capacity)
      return Outcome::over_capacity;
    if (memory == Memory::pool && added + copies > free_pages + freed) return Outcome::exhausted;
    for (Index page = 0; page < std::ssize(pages); ++page)
      if (passed(page)) pages[static_cast<std::size_t>(page)].reset();
    if (copies) pages.back() = std::make_shared<int>();
    for (Index i = 0; i < added; ++i) pages.push_back(std::make_shared<int>());
    if (window) visible_from = seqlen() - window->window_left;
    for (Index i = 0; i < count; ++i) tokens.push_back(begin + i);
    return Outcome::done;
  }
  /// \returns whether it is possible: all that the last kept token sees must still be there, as
  /// sinks always are.
  bool truncate(Index count) {
    if (count == seqlen()) return true;
    if (count == 0) {
      tokens.clear(), pages.clear(), visible_from = 0;
      return true;
    }
    const bool all_sinks = window && count <= window->num_sink_tokens;
    if (window && !all_sinks && held() < std::ssize(pages)) {
      Index first_held = sink_pages();
      while (!pages[static_cast<std::size_t>(first_held)]) ++first_held;
      if (count - 1 - window->window_left < first_held * page_size) return false;
    }
    tokens.resize(static_cast<std::size_t>(count));
    pages.resize(static_cast<std::size_t>(pages_of(count)));
    if (window) visible_from = count - 1 - window->window_left;
    return true;
  }
};

template <class Tokens>
struct Followed {
  typename Tokens::Cache cache;
  Model model;
};

template <class Tokens>
class PoolProgram : public testing::Test {
 protected:
  using Cache = typename Tokens::Cache;
  using Pool = PagePool<std::remove_cvref_t<decltype(std::declval<Cache>().entry())>,
                        typename Tokens::Element>;
  using All = std::vector<Followed<Tokens>>;
  using Memory = Model::Memory;

  static Index used_pages(const All& all) {
    std::set<int*> pages;
    for (const auto& one : all)
      for (const auto& page : one.model.pages)
        if (page && one.model.memory == Memory::pool) pages.insert(page.get());
    return std::ssize(pages);
  }
  Followed<Tokens> empty(Random& random) {
    const Index capacity = random.integer(0, 350);
    std::optional<CacheWindow> window;
    if (random.integer(0, 1) == 0)
      window = CacheWindow{.num_sink_tokens = random.integer(0, 2) * random.integer(0, 70),
                           .window_left = random.integer(0, 100)};
    else if (random.integer(0, 1) == 0)
      window = CacheWindow{.num_sink_tokens = 3, .window_left = 20};  // as another cache's
    if (random.integer(0, 3) == 0)
      return {Cache(capacity, pool_.entry(), window), {Memory::own, capacity, window, {}, {}}};
    return {Cache(pool_, capacity, window), {Memory::pool, capacity, window, {}, {}}};
  }
  static Followed<Tokens> fork(const Followed<Tokens>& of) {
    Followed<Tokens> copy{of.cache.fork(), of.model};
    if (of.model.memory == Memory::own)
      for (auto& page : copy.model.pages)
        if (page) page = std::make_shared<int>();
    return copy;
  }

  void append(Followed<Tokens>& to, const Tokens& source, Index free_pages, Random& random) {
    const Index count = random.integer(0, random.integer(0, 1) == 0 ? 3 : 110);
    const Index begin = random.integer(0, num_source_tokens - count);
    const auto act = [&] { source.append(to.cache, begin, count); };
    switch (to.model.append(begin, count, free_pages)) {
      case Model::Outcome::done: act(); break;
      case Model::Outcome::over_capacity: EXPECT_THROW(act(), CapacityError); break;
      case Model::Outcome::exhausted: EXPECT_THROW(act(), PoolExhaustedError); break;
    }
  }
  void truncate(Followed<Tokens>& what, Random& random) {
    const Index seqlen = what.model.seqlen();
    const Index count =
        random.integer(random.integer(0, 1) * std::max<Index>(0, seqlen - 64), seqlen);
    if (what.model.truncate(count))
      what.cache.truncate(count);
    else
      EXPECT_THROW(what.cache.truncate(count), ShapeError);
  }
  void assign_prefix(Followed<Tokens>& to, const Followed<Tokens>& from, Random& random) {
    if (&to == &from) return;
    if (to.model.memory == Memory::own || from.model.memory == Memory::own) {
      EXPECT_THROW(to.cache.assign_prefix(from.cache, 0), StateError);
      return;
    }
    const Index seqlen = from.model.seqlen();
    const Index count =
        random.integer(random.integer(0, 1) * std::max<Index>(0, seqlen - 64), seqlen);
    const bool is_whole = !from.model.window ||
                          from.model.visible_from <= from.model.window->num_sink_tokens ||
                          count <= from.model.window->num_sink_tokens;
    Model prefix = from.model;
    if (is_whole) {
      prefix.tokens.resize(static_cast<std::size_t>(count));
      prefix.pages.resize(static_cast<std::size_t>(pages_of(count)));
      prefix.visible_from = 0;
    } else if (to.model.window != from.model.window || !prefix.truncate(count)) {
      EXPECT_THROW(to.cache.assign_prefix(from.cache, count), ShapeError);
      return;
    } else {
      prefix.visible_from = count - 1 - prefix.window->window_left;
    }
    prefix.window = to.model.window, prefix.capacity = to.model.capacity;
    if (prefix.window ? prefix.held() > pages_of(prefix.capacity) : count > prefix.capacity) {
      EXPECT_THROW(to.cache.assign_prefix(from.cache, count), CapacityError);
    } else {
      to.cache.assign_prefix(from.cache, count);
      to.model = std::move(prefix);
    }
  }

  Pool pool_{17};
};

using Kinds = testing::Types<test::FullTokens<float>, test::FullTokens<f16>, test::FullTokens<int8>,
                             test::FullTokens<int4>, test::FullTokens<Rotated<PerChannel<int8>>>,
                             test::LatentTokens<bf16>, test::LatentTokens<int8>,
                             test::LatentTokens<Rotated<int4>>>;
TYPED_TEST_SUITE(PoolProgram, Kinds);

TYPED_TEST(PoolProgram, FollowsAModel) {
  constexpr std::size_t most_caches = 6;
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    Random random(seed);
    const TypeParam source(num_source_tokens, random);
    typename TestFixture::All all;
    all.push_back(this->empty(random));
    for (int step = 0; step < 120; ++step) {
      SCOPED_TRACE("seed " + std::to_string(seed) + ", step " + std::to_string(step));
      const auto any = [&]() -> Followed<TypeParam>& {
        return all[static_cast<std::size_t>(random.integer(0, std::ssize(all) - 1))];
      };
      auto& one = any();
      const Index what = random.integer(0, 11);
      const Index free_pages = this->pool_.num_pages() - this->used_pages(all);
      if (what < 6) {
        this->append(one, source, free_pages, random);
      } else if (what < 8) {
        this->truncate(one, random);
      } else if (what == 8) {
        one.cache.clear();
        one.model.tokens.clear(), one.model.pages.clear(), one.model.visible_from = 0;
      } else if (what == 9) {
        Followed<TypeParam> fork = this->fork(one);
        if (all.size() < most_caches)
          all.push_back(std::move(fork));
        else
          any() = std::move(fork);
      } else if (what == 10) {
        this->assign_prefix(one, any(), random);
      } else {
        one = this->empty(random);
      }
      for (const auto& followed : all)
        source.expect_held(followed.cache, followed.model.expected());
      EXPECT_EQ(this->pool_.num_pages() - this->pool_.free_pages(), this->used_pages(all));
      if (testing::Test::HasFailure()) return;  // the first step that went wrong is enough
    }
    all.clear();
    EXPECT_EQ(this->pool_.free_pages(), this->pool_.num_pages());
  }
}

}  // namespace
}  // namespace heed
