// SPDX-License-Identifier: MIT
/// \file
/// Loads whatever libFuzzer comes up with into caches of several kinds. A load that throws must
/// leave the cache as it was, one that succeeds must save to as many bytes and to the same ones
/// from then on, and the cache must then work as any other. Also with the checksum that the bytes
/// ask for, so that what lies behind it is reached, too.
///
///     load_fuzz --seeds=DIRECTORY    writes files to start from
///     load_fuzz DIRECTORY...         as libFuzzer's -help=1 says

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "heed/attention/attend.hpp"
#include "support/cache_file.hpp"  // saved, with_its_checksum

namespace heed {
namespace {

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "load_fuzz: %s\n", what);
  std::abort();
}

using Full = KvCache<FullKv<1, 2, 1>, int8>;
using Open = KvCache<FullKv<1, 2, 1>, int4>;  // whose files have a page in float, too
using Latent = KvCache<LatentKv<2, 1>, bf16>;

constexpr CacheWindow window{.num_sink_tokens = 3, .window_left = 10};

/// Numbers that int8 and bf16 hold.
std::vector<float> numbers(Index count) {
  std::vector<float> made;
  for (Index i = 0; i < count; ++i) made.push_back(static_cast<float>(i % 7 - 3));
  return made;
}
template <class Element>
void append(KvCache<FullKv<1, 2, 1>, Element>& cache, Index count) {
  const std::vector<float> rows = numbers(2 * count);
  cache.append(RowsView<const float>{rows.data(), count, 2, 2},
               RowsView<const float>{rows.data(), count, 1, 2});
}
void append(Latent& cache, Index count) {
  const std::vector<float> rows = numbers(3 * count);
  cache.append(RowsView<const float>{rows.data(), count, 2, 3},
               RowsView<const float>{rows.data(), count, 1, 3});
}

template <class Cache>
void append_if_room(Cache& cache, Index count) {
  try {
    append(cache, count);
  } catch (const CapacityError&) {
  } catch (const PoolExhaustedError&) {
  }
}

/// All that reads or moves pages. Sanitizers watch.
template <class Cache>
void use(Cache& cache) {
  const std::vector<float> query(static_cast<std::size_t>(cache.head_dim()), 1);
  std::vector<float> out(static_cast<std::size_t>(cache.head_dim_v()));
  const auto row = [](auto& of) {
    return RowsView<std::remove_reference_t<decltype(of[0])>>{of.data(), 1, std::ssize(of),
                                                              std::ssize(of)};
  };
  attend(row(query), cache, CausalMask{}, 1.0, row(out), {.executor = SerialExecutor{}});
  for (int step = 0; step < 3; ++step) {
    append_if_room(cache, 40);
    try {
      cache.truncate(cache.seqlen() - 10);
    } catch (const ShapeError&) {
    }
  }
  Cache fork = cache.fork();
  cache.clear();
}

template <class Cache>
void check_load(const std::string& file, Cache cache) {
  append(cache, 5);
  const std::string before = test::saved(cache);
  std::istringstream stream(file);
  try {
    load(stream, cache);
  } catch (const FileError&) {
    return require(test::saved(cache) == before, "a load that threw changed the cache");
  } catch (const CapacityError&) {
    return require(test::saved(cache) == before, "a load that threw changed the cache");
  } catch (const PoolExhaustedError&) {
    return require(test::saved(cache) == before, "a load that threw changed the cache");
  }
  // The same but for what lay behind the tokens, of which a file may have anything.
  const auto size = static_cast<std::size_t>(stream.tellg());
  const std::string saved = test::saved(cache);
  require(saved.size() == size, "what was loaded is not what is saved");
  test::load_from(saved, cache);
  require(test::saved(cache) == saved, "what was saved is not what is saved again");
  use(cache);
}

/// Calls visit(an empty cache) for each kind. They differ in what a file of theirs is.
template <class Visit>
void for_each_cache(const Visit& visit) {
  static const PagePool<FullKv<1, 2, 1>, int8> full_pool(3);
  static const PagePool<FullKv<1, 2, 1>, int4> open_pool(3);
  static const PagePool<LatentKv<2, 1>, bf16> latent_pool(5);
  visit(Full(150));
  visit(Full(full_pool, 1'000'000));
  visit(Full(window.capacity(64), {}, window));
  visit(Open(150));
  visit(Open(open_pool, window.capacity(64), window));
  visit(Latent(100));
  visit(Latent(latent_pool, window.capacity(64), window));
}

void write_seeds(const std::string& directory) {
  int number = 0;
  for_each_cache([&](auto cache) {
    // With a window, the last of these have let pages go.
    for (const Index count : {0, 1, 63, 60, 60, 60, 60, 60}) {
      append_if_room(cache, count);
      std::ofstream seed(directory + "/" + std::to_string(number++), std::ios::binary);
      save(cache, seed);
    }
  });
}

}  // namespace
}  // namespace heed

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  constexpr std::string_view option = "--seeds=";
  for (int i = 1; i < *argc; ++i)
    if (const std::string_view argument = (*argv)[i]; argument.starts_with(option)) {
      heed::write_seeds(std::string(argument.substr(option.size())));
      std::exit(0);
    }
  return 0;
}

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

/// Every other time changes a number of the header, which bytes changed at random hardly leave a
/// number, and lets the header's length be what it then is: so that files come whose numbers do not
/// agree with each other, with their pages or with the cache.
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned int seed) {
  std::minstd_rand random(seed);
  const std::string file(reinterpret_cast<const char*>(data), size);
  const std::size_t header_end = file.find("}}");
  if (random() % 2 == 0 || header_end == std::string::npos || header_end < 8)
    return LLVMFuzzerMutate(data, size, max_size);

  // Numbers, as the header's text has them: digits behind something else.
  std::vector<std::pair<std::size_t, std::size_t>> numbers;  // begin, length
  const auto is_digit = [&](std::size_t at) { return file[at] >= '0' && file[at] <= '9'; };
  for (std::size_t at = 8; at < header_end; ++at)
    if (is_digit(at)) {
      const std::size_t begin = at;
      while (at < header_end && is_digit(at)) ++at;
      numbers.emplace_back(begin, at - begin);
    }
  if (numbers.empty()) return LLVMFuzzerMutate(data, size, max_size);
  const auto [begin, length] = numbers[random() % numbers.size()];
  const std::int64_t old =
      std::strtoll(file.substr(begin, std::min<std::size_t>(length, 18)).c_str(), nullptr, 10);
  const std::int64_t choices[] = {old + 1,  old - 1,
                                  0,        1,
                                  63,       64,
                                  65,       256,
                                  512,      std::int64_t{1} << (random() % 63),
                                  -1 - old, static_cast<std::int64_t>(random())};
  std::string changed = file.substr(8);
  changed.replace(begin - 8, length, std::to_string(choices[random() % std::size(choices)]));
  // The header goes on to its braces and is filled up with blanks to a multiple of 8.
  const std::size_t braces = changed.find("}}") + 2, pages = changed.find_first_not_of(' ', braces);
  changed.replace(braces, pages == std::string::npos ? std::string::npos : pages - braces,
                  std::string((8 - braces % 8) % 8, ' '));
  const std::size_t header_size = (braces + 7) / 8 * 8;
  for (int byte = 7; byte >= 0; --byte)
    changed.insert(changed.begin(), static_cast<char>(header_size >> (8 * byte) & 0xff));
  const std::size_t kept = std::min(changed.size(), max_size);
  std::copy_n(changed.begin(), kept, reinterpret_cast<char*>(data));
  return kept;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string file(reinterpret_cast<const char*>(data), size);
  const std::string fixed = heed::test::with_its_checksum(file);
  heed::for_each_cache([&](auto cache) { heed::check_load(fixed, std::move(cache)); });
  if (fixed != file) heed::check_load(file, heed::Full(150));
  return 0;
}
