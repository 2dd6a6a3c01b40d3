// SPDX-License-Identifier: MIT
/// \file
/// The header of a cache file: text and back. Layer 4, detail.
///
/// Every header has one text (kv_file.hpp shows it): fields in a fixed order, no optional space. So
/// reading is comparing, and no JSON has to be understood that `save` does not write.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <istream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "heed/base/error.hpp"
#include "heed/cache/crc64.hpp"
#include "heed/cache/table_state.hpp"

namespace heed::detail {

/// A string of the header, and what it is in the cache.
struct KvFileField {
  std::string_view name;
  std::string value;
};

/// What a file and a cache must have in common.
struct KvFileShape {
  std::vector<KvFileField> fields;
  Index page_bytes = 0;
  Index open_page_bytes = 0;  ///< of a page that is being filled, if it is not as the others

  /// Bytes of the page that is being filled, if there is one apart.
  Index open_bytes(const TableState& table) const noexcept {
    return table.seqlen % page_size == 0 ? 0 : open_page_bytes;
  }
};

/// What is a file's own.
struct KvFileState {
  TableState table;
  std::uint64_t checksum = 0;  ///< of the header with zeros in this place, and of the pages
};

/// More than any header that `save` writes. The format has headers of up to 100 MB.
inline constexpr std::size_t max_header_bytes = 4096;

inline std::string checksum_text(std::uint64_t checksum) {
  std::string text(16, '0');
  for (auto digit = text.rbegin(); digit != text.rend(); ++digit, checksum >>= 4)
    *digit = "0123456789abcdef"[checksum & 15];
  return text;
}

/// All bytes before the pages.
inline std::string header_text(const KvFileShape& shape, const KvFileState& state) {
  std::string json = R"({"__metadata__":{"format":"heed.kv_cache","version":"3")";
  const auto add = [&json](std::string_view name, std::string_view value) {
    json.append(",\"").append(name).append("\":\"").append(value).append("\"");
  };
  for (const auto& [name, value] : shape.fields) add(name, value);
  add("seqlen", std::to_string(state.table.seqlen));
  add("dropped_tokens", std::to_string(state.table.dropped_tokens));
  add("released_pages", std::to_string(state.table.released_pages));
  add("checksum", checksum_text(state.checksum));
  const Index pages = state.table.held_pages();
  json.append(R"(},"pages":{"dtype":"U8","shape":[)").append(std::to_string(pages)).append(",");
  json.append(std::to_string(shape.page_bytes)).append(R"(],"data_offsets":[0,)");
  const Index end = pages * shape.page_bytes;
  json.append(std::to_string(end)).append("]}");
  if (const Index open = shape.open_bytes(state.table); open > 0) {
    json.append(R"(,"open_page":{"dtype":"U8","shape":[)").append(std::to_string(open));
    json.append(R"(],"data_offsets":[)").append(std::to_string(end)).append(",");
    json.append(std::to_string(end + open)).append("]}");
  }
  json.append("}");
  json.resize(round_up(json.size(), 8), ' ');
  std::string text(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) text[i] = static_cast<char>(json.size() >> (8 * i) & 0xff);
  return text + json;
}

/// The checksum of a file as far as its header goes.
inline Crc64 header_checksum(const KvFileShape& shape, const TableState& table) {
  const std::string text = header_text(shape, {.table = table, .checksum = 0});
  Crc64 checksum;
  checksum.add(std::as_bytes(std::span(text)));
  return checksum;
}

[[noreturn]] inline void throw_load_error(const std::string& sentence) {
  throw FileError(message("load", sentence));
}

/// \param what  for the message, as in "its pages"
inline void read_bytes(std::istream& from, char* to, Index count, std::string_view what) {
  from.read(to, count);
  if (from.gcount() == count) return;
  const std::string part = std::to_string(count) + " bytes of " + std::string(what);
  if (from.bad()) throw_load_error("the stream failed within the " + part);
  throw_load_error("the file ends after " + std::to_string(from.gcount()) + " of the " + part);
}

/// All bytes before the pages. They may be anything.
inline std::string read_header_text(std::istream& from) {
  std::string text(8, '\0');
  if (!from) throw_load_error("the stream was not opened, or has failed before");
  read_bytes(from, text.data(), 8, "its header's length");
  std::uint64_t size = 0;
  for (std::size_t i = 0; i < 8; ++i)
    size |= std::uint64_t{static_cast<unsigned char>(text[i])} << (8 * i);
  if (size > max_header_bytes)
    throw_load_error("the file's header is said to have " + std::to_string(size) +
                     " bytes, which no header of heed::save has");
  text.resize(8 + size);
  read_bytes(from, text.data() + 8, static_cast<Index>(size), "its header");
  return text;
}

/// Takes a header's text apart from left to right.
class KvFileHeaderReader {
 public:
  explicit KvFileHeaderReader(std::string_view rest) : rest_(rest) {}

  void skip(std::string_view expected) {
    if (!rest_.starts_with(expected))
      throw_load_error("the header has " + printable(rest_.substr(0, expected.size())) + " where " +
                       std::string(expected) + " is expected");
    rest_.remove_prefix(expected.size());
  }
  std::string_view value(std::string_view name) {
    skip("\"" + std::string(name) + "\":\"");
    const auto size = std::min(rest_.find('"'), rest_.size());
    const auto found = rest_.substr(0, size);
    rest_.remove_prefix(size);
    skip("\"");
    return found;
  }
  void require_value(std::string_view name, std::string_view expected, std::string_view whose) {
    if (const auto found = value(name); found != expected)
      throw_load_error(std::string(name) + " is " + printable(found) + " in the file, " +
                       std::string(expected) + std::string(whose));
  }
  /// A number in 0 .. 10^15, which overflows in no sum or product of ours.
  Index count(std::string_view name) {
    const auto text = value(name);
    Index found = -1;
    std::from_chars(text.data(), text.data() + text.size(), found);
    if (text.size() > 15 || found < 0 || std::to_string(found) != text)
      throw_load_error(std::string(name) + " is " + printable(text) +
                       " in the file, expected a count");
    return found;
  }
  std::uint64_t checksum(std::string_view name) {
    const auto text = value(name);
    std::uint64_t found = 0;
    std::from_chars(text.data(), text.data() + text.size(), found, 16);
    if (checksum_text(found) != text)
      throw_load_error(std::string(name) + " is " + printable(text) +
                       " in the file, expected 16 hexadecimal digits");
    return found;
  }

 private:
  /// What a message can show of bytes that may be anything.
  static std::string printable(std::string_view found) {
    if (found.empty()) return "nothing";
    constexpr std::size_t most = 40;
    std::string text(found.substr(0, most));
    for (char& c : text)
      if (c < ' ' || c > '~') c = '?';
    return found.size() > most ? text + "..." : text;
  }

  std::string_view rest_;
};

/// Reads what `header_text` wrote. \throws FileError unless it was written of such a shape
inline KvFileState parse_header(const std::string& text, const KvFileShape& shape) {
  KvFileHeaderReader reader(std::string_view(text).substr(8));
  KvFileState state;
  reader.skip(R"({"__metadata__":{)");
  reader.require_value("format", "heed.kv_cache", " expected");
  reader.skip(",");
  reader.require_value("version", "3", " is what this heed reads");
  for (const auto& [name, value] : shape.fields) {
    reader.skip(",");
    reader.require_value(name, value, " in the cache");
  }
  reader.skip(",");
  state.table.seqlen = reader.count("seqlen");
  reader.skip(",");
  state.table.dropped_tokens = reader.count("dropped_tokens");
  reader.skip(",");
  state.table.released_pages = reader.count("released_pages");
  reader.skip(",");
  state.checksum = reader.checksum("checksum");
  return state;
}

}  // namespace heed::detail
