// SPDX-License-Identifier: MIT
/// \file
/// Caches to streams and back: a conversation that goes on tomorrow, or on another machine.
/// Layer 4, public. Not in the umbrella: only programs that save need to compile it.
///
/// A cache becomes a safetensors file, which other programs can read, of one tensor of bytes: the
/// pages it holds, as they are (full_page.hpp and latent_page.hpp say what lies where). What they
/// mean is in the header's metadata. Here a sequence of 70 tokens in FullKv<8, 128> (a real file
/// has no line breaks):
///
///     <8 bytes: the size of what follows up to the pages, little-endian, a multiple of 8>
///     {"__metadata__":{"format":"heed.kv_cache","version":"3",
///       "entry":"full","num_kv_heads":"8","head_dim":"128","head_dim_v":"128",
///       "element":"bfloat16","page_size":"64","num_sink_tokens":"none","window_left":"none",
///       "seqlen":"70","dropped_tokens":"0","released_pages":"0","checksum":"8d4ac71e56c0bb1f"},
///      "pages":{"dtype":"U8","shape":[2,262144],"data_offsets":[0,524288]}}<spaces>
///     <524288 bytes>
///
/// | field                              | what                                             |
/// | ---------------------------------- | ------------------------------------------------ |
/// | entry                              | full (FullKv) or latent (LatentKv)               |
/// | num_kv_heads, head_dim, head_dim_v | of a full entry                                  |
/// | latent_dim, rope_dim               | of a latent one                                  |
/// | element                            | float32, float64, float16, bfloat16, int8, int4  |
/// |                                    | int8_per_channel; the last three also after      |
/// |                                    | rotated_; Native<E> has the name of E            |
/// | num_sink_tokens, window_left       | of the CacheWindow, or none                      |
/// | seqlen                             | tokens, those let go included                    |
/// | dropped_tokens, released_pages     | what the window has let go, behind the sinks     |
/// | checksum                           | CRC-64/XZ of all other bytes, its digits zeros   |
///
/// Keys with scales per channel add a tensor, "open_page": the page that is being filled, in float.
///
/// A header can be written in one way only, so that every byte of a file is checked. The capacity
/// is not part of it, and neither is where the pages came from. The checksum finds accidents, not
/// forgery: a file that was made to deceive is safe to read, but its keys and values are its
/// author's.
#pragma once

#include <algorithm>
#include <cstddef>
#include <istream>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "heed/base/aligned_array.hpp"
#include "heed/cache/crc64.hpp"
#include "heed/cache/kv_cache.hpp"
#include "heed/cache/kv_file_header.hpp"

namespace heed {
namespace detail {

/// The name of Native<E> is that of E: how elements are multiplied is not the file's business.
template <class Stored>
constexpr std::string_view element_name() {
  using Element = Unwrapped<Stored>;
  constexpr bool rotated = is_rotated<Stored>;
  if constexpr (std::is_same_v<Element, float>) return "float32";
  if constexpr (std::is_same_v<Element, double>) return "float64";
  if constexpr (std::is_same_v<Element, f16>) return "float16";
  if constexpr (std::is_same_v<Element, bf16>) return "bfloat16";
  if constexpr (std::is_same_v<Element, int8>) return rotated ? "rotated_int8" : "int8";
  if constexpr (std::is_same_v<Element, int4>) return rotated ? "rotated_int4" : "int4";
  if constexpr (std::is_same_v<Element, PerChannel<int8>>)
    return rotated ? "rotated_int8_per_channel" : "int8_per_channel";
  return "";
}

/// The page that a sequence ends in, with nothing behind its tokens: what may lie there are those
/// that were truncated, or another sequence's, of which this one has the beginning. Empty if that
/// page is whole.
struct LastPage {
  std::vector<std::byte> stored;
  std::vector<std::byte> open;  ///< in float, of keys that have scales per channel
};

/// What `save` and `load` need of a cache.
template <class Entry, class Stored>
class KvFile<KvCache<Entry, Stored>> {
 public:
  using Cache = KvCache<Entry, Stored>;

  /// \param cache  const to save, not to load
  template <class MaybeConst>
  static auto& table(std::string_view where, MaybeConst& cache) {
    if (cache.table_.store() == nullptr)
      throw StateError(message(where, "the cache was moved from"));
    return cache.table_;
  }
  /// Empty where the page that is being filled is as the others.
  static std::span<std::byte> open_page(const Cache& cache) { return cache.staging_.open_bytes(); }
  /// Copies of the page that the sequence ends in, and of that page in float, if there are such.
  static LastPage last_page(const Cache& cache) {
    const Index tokens = cache.seqlen() % page_size;
    LastPage last;
    if (tokens == 0) return last;
    last.stored = copy_of(cache.layout_, cache.table_.place(cache.seqlen() / page_size), tokens);
    if constexpr (Cache::has_open_page)
      last.open =
          copy_of(cache.staging_.open_page().layout(), cache.staging_.open_page().place(), tokens);
    return last;
  }
  static void forget_kept_page(Cache& cache) noexcept { cache.staging_.forget_from(0); }
  static KvFileShape shape(const Cache& cache) {
    static_assert(!element_name<Stored>().empty(),
                  "heed: this element has no name in cache files; give it one in element_name.");
    KvFileShape shape{.fields = {},
                      .page_bytes = cache.table_.store()->page_bytes(),
                      .open_page_bytes = std::ssize(open_page(cache))};
    const auto add = [&shape](std::string_view name, Index size) {
      shape.fields.push_back({name, std::to_string(size)});
    };
    const Entry& entry = cache.entry();
    shape.fields.push_back({"entry", is_latent<Entry> ? "latent" : "full"});
    if constexpr (is_latent<Entry>) {
      add("latent_dim", entry.latent_dim), add("rope_dim", entry.rope_dim);
    } else {
      add("num_kv_heads", entry.num_kv_heads);
      add("head_dim", entry.head_dim), add("head_dim_v", entry.head_dim_v);
    }
    shape.fields.push_back({"element", std::string(element_name<Stored>())});
    add("page_size", page_size);
    if (const auto& window = cache.table_.window()) {
      add("num_sink_tokens", window->num_sink_tokens), add("window_left", window->window_left);
    } else {
      shape.fields.push_back({"num_sink_tokens", "none"});
      shape.fields.push_back({"window_left", "none"});
    }
    return shape;
  }

 private:
  /// A page with nothing behind its tokens.
  template <class Layout>
  static std::vector<std::byte> copy_of(const Layout& layout, PagePlace page, Index tokens) {
    const Index num_heads = layout.entry().num_kv_heads, size = layout.head_bytes();
    std::vector<std::byte> memory(static_cast<std::size_t>(num_heads * size));
    const PagePlace copy{memory.data(), size};
    for (Index head = 0; head < num_heads; ++head) {
      std::copy_n(page.head(head), size, copy.head(head));
      layout.clear_from(copy, head, tokens);
    }
    return memory;
  }
};

inline void save_table(const PageTable& table, const LastPage& last, const KvFileShape& shape,
                       std::ostream& to) {
  const auto for_each_part = [&](const auto& f) {
    Index left = table.held_pages();
    table.for_each_page([&](const PagePlace& page) {
      if (--left == 0 && !last.stored.empty()) return f(std::span(last.stored));
      const Index num_heads = table.store()->num_heads();
      for (Index head = 0; head < num_heads; ++head)
        f(std::span<const std::byte>(page.head(head),
                                     static_cast<std::size_t>(table.store()->head_bytes())));
    });
    f(std::span(last.open));
  };
  KvFileState state{.table = table.state(), .checksum = 0};
  Crc64 checksum = header_checksum(shape, state.table);
  for_each_part([&](std::span<const std::byte> part) { checksum.add(part); });
  state.checksum = checksum.value();

  const std::string header = header_text(shape, state);
  const auto write = [&to](std::span<const std::byte> bytes) {
    to.write(reinterpret_cast<const char*>(bytes.data()), std::ssize(bytes));
  };
  write(std::as_bytes(std::span(header)));
  for_each_part(write);
  if (!to.flush())
    throw FileError(message(
        "save", "the stream did not take the file's " +
                    std::to_string(std::ssize(header) + table.held_pages() * shape.page_bytes +
                                   shape.open_bytes(state.table)) +
                    " bytes"));
}

/// \param open_page  where the page that is being filled goes, if it is not as the others
inline void load_table(std::istream& from, const KvFileShape& shape, PageTable& table,
                       std::span<std::byte> open_page) {
  // Numbers of the file are believed step by step: first that such a sequence can be, then that it
  // has room here, which bounds the memory that is taken to read it.
  const std::string header = read_header_text(from);
  const KvFileState state = parse_header(header, shape);
  if (!state.table.is_reachable(table.window()))
    throw_load_error("seqlen, dropped_tokens and released_pages are " +
                     std::to_string(state.table.seqlen) + ", " +
                     std::to_string(state.table.dropped_tokens) + " and " +
                     std::to_string(state.table.released_pages) +
                     " in the file, which cannot be with the cache's window");
  table.require_fits("load", state.table);
  const Index pages = state.table.held_pages();
  if (header != header_text(shape, state))
    throw_load_error("the header's end is not that of \"pages\", U8 " +
                     shape_text({pages, shape.page_bytes}));

  const Index open = shape.open_bytes(state.table), size = pages * shape.page_bytes + open;
  const auto content = make_aligned<std::byte>(size);
  read_bytes(from, reinterpret_cast<char*>(content.get()), size, "its pages");
  Crc64 checksum = header_checksum(shape, state.table);
  checksum.add({content.get(), static_cast<std::size_t>(size)});
  if (checksum.value() != state.checksum)
    throw_load_error("the checksum is " + checksum_text(state.checksum) + " in the file, " +
                     checksum_text(checksum.value()) + " of its content: it was altered");
  table.restore(state.table, content.get());
  std::copy_n(content.get() + size - open, open, open_page.data());
}

}  // namespace detail

/// Writes a cache, and flushes the stream. Several caches may follow one another in a stream: one
/// for each layer. Files of std::ofstream are opened as std::ios::binary. The tokens' own bits are
/// saved, and nothing that was truncated or is another sequence's.
/// Takes memory for a copy of the last page.
/// \throws FileError if the stream does not take it all, or what it is set to throw; StateError for
/// a cache that was moved from
template <class Entry, class Stored>
void save(const KvCache<Entry, Stored>& cache, std::ostream& to) {
  using File = detail::KvFile<KvCache<Entry, Stored>>;
  const detail::PageTable& table = File::table("save", cache);
  detail::save_table(table, File::last_page(cache), File::shape(cache), to);
}

/// Gives a cache the tokens of one that was saved in place of its own, bit for bit. Entry, element
/// and window must be the same; capacity, and whether pages are a pool's, may differ. The stream is
/// left behind the last byte that was read: where the next cache begins, or wherever it failed.
///
/// The file is read and checked as a whole before the cache changes, which takes memory for a
/// second copy of its pages until then. It may hold anything: what is not as `save` wrote it is an
/// error.
/// \throws FileError if the file is cut off, altered, or of another kind of cache; CapacityError or
/// PoolExhaustedError if what it says to hold does not fit, altered or not; StateError for a cache
/// that was moved from; what the stream is set to throw
template <class Entry, class Stored>
void load(std::istream& from, KvCache<Entry, Stored>& cache) {
  using File = detail::KvFile<KvCache<Entry, Stored>>;
  detail::PageTable& table = File::table("load", cache);
  detail::load_table(from, File::shape(cache), table, File::open_page(cache));
  File::forget_kept_page(cache);
}

}  // namespace heed
