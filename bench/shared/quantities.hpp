// SPDX-License-Identifier: MIT
/// \file
/// Numbers with units on the command line: "8k" tokens, "24GiB", lists of them.
#pragma once

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "heed/base/index.hpp"

namespace heed::bench {

/// A command line that cannot be understood. The message names the option.
class OptionError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

namespace detail {

using Unit = std::pair<std::string_view, Index>;

/// A whole number of 1 or more with one of the units; units are written in any case.
inline Index parse_quantity(const std::string& option, const std::string& text,
                            std::span<const Unit> units, const std::string& expected) {
  std::string lower = text;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
  Index number = 0;
  const char* const end = lower.data() + lower.size();
  const auto [rest, error] = std::from_chars(lower.data(), end, number);
  const std::string_view suffix(rest, static_cast<std::size_t>(end - rest));
  constexpr Index most = Index{1} << 50;  // what is reckoned from it then fits in an Index
  if (error == std::errc{} && number > 0)
    for (const auto& [name, factor] : units)
      if (suffix == name && number <= most / factor) return number * factor;
  throw OptionError(option + "=" + text + ": expected " + expected);
}

}  // namespace detail

/// "8192", "8k" or "1m": tokens, in powers of 1024, up to 2^31.
inline Index parse_tokens(const std::string& option, const std::string& text) {
  constexpr std::array units{detail::Unit{"", 1}, detail::Unit{"k", 1 << 10},
                             detail::Unit{"m", 1 << 20}};
  const std::string expected = "tokens up to 2048m, such as 8192, 8k or 1m";
  const Index tokens = detail::parse_quantity(option, text, units, expected);
  if (tokens > Index{1} << 31) throw OptionError(option + "=" + text + ": expected " + expected);
  return tokens;
}

/// "8k,32k" or "1,2": ascending, each once. \param parse  (option, text) -> Index
template <class Parse>
std::vector<Index> parse_list(const std::string& option, const std::string& text,
                              const Parse& parse) {
  std::vector<Index> list;
  std::istringstream stream(text + ',');
  for (std::string part; std::getline(stream, part, ',');) list.push_back(parse(option, part));
  std::sort(list.begin(), list.end());
  list.erase(std::unique(list.begin(), list.end()), list.end());
  return list;
}

/// "16GiB", "80GB", "1000000": bytes. KiB, MiB, GiB and TiB count in 1024, KB to TB in 1000.
inline Index parse_bytes(const std::string& option, const std::string& text) {
  constexpr std::array units{detail::Unit{"", 1},
                             detail::Unit{"kib", Index{1} << 10},
                             detail::Unit{"mib", Index{1} << 20},
                             detail::Unit{"gib", Index{1} << 30},
                             detail::Unit{"tib", Index{1} << 40},
                             detail::Unit{"kb", 1'000},
                             detail::Unit{"mb", 1'000'000},
                             detail::Unit{"gb", 1'000'000'000},
                             detail::Unit{"tb", 1'000'000'000'000}};
  return detail::parse_quantity(option, text, units, "bytes, such as 80GB, 24GiB or 1000000");
}

/// A number of threads that the program can run.
inline Index parse_threads(const std::string& option, const std::string& text) {
#ifdef _OPENMP
  constexpr Index most = 1024;
#else
  constexpr Index most = 1;  // compiled without OpenMP
#endif
  const std::string expected = "a number of threads, from 1 to " + std::to_string(most);
  const Index threads =
      detail::parse_quantity(option, text, std::array{detail::Unit{"", 1}}, expected);
  if (threads > most) throw OptionError(option + "=" + text + ": expected " + expected);
  return threads;
}

}  // namespace heed::bench
