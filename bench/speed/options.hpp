// SPDX-License-Identifier: MIT
/// \file
/// The command line of speed, beside Google Benchmark's.
#pragma once

#include <algorithm>
#include <filesystem>
#include <optional>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "heed/base/executor.hpp"
#include "shared/quantities.hpp"

namespace heed::bench {

struct SpeedOptions {
  std::vector<std::string> contenders{};  ///< to be measured
  std::vector<Index> threads{};           ///< numbers of threads, ascending
  /// Where the Markdown report goes, if it is wanted.
  std::optional<std::filesystem::path> report{};
  bool help = false;
};

/// The report's place that means the standard output; Google Benchmark's table then goes to the
/// standard error.
inline constexpr const char* standard_output = "-";

namespace detail {

/// The parts of "a,b,c"; an empty part is an error.
inline std::vector<std::string> parse_names(const std::string& option, const std::string& text,
                                            std::span<const std::string> known) {
  std::string all;
  for (const std::string& name : known) all.append(all.empty() ? "" : ", ").append(name);
  std::vector<std::string> names;
  std::istringstream stream(text + ",");
  for (std::string name; std::getline(stream, name, ',');) {
    if (std::find(known.begin(), known.end(), name) == known.end())
      throw OptionError(option + "=" + text + ": expected some of " + all);
    names.push_back(name);
  }
  return names;
}

}  // namespace detail

/// What --help prints.
inline std::string speed_help(std::span<const std::string> contenders) {
  std::string names;
  for (const std::string& name : contenders) names.append(names.empty() ? "" : ", ").append(name);
  return R"(speed: attention on one thread and on all, as a share of what the machine allows, beside
plain Eigen and the libraries that were found when this program was built.

  --report            writes Markdown to the standard output when all is measured
  --report=FILE       writes it to a file
  --contenders=LIST   who is measured: )" +
         names + R"( unless said
  --threads=LIST      numbers of threads: 1 and all of OpenMP's unless said
  --benchmark_...     options of Google Benchmark, such as --benchmark_filter=decode/gqa
  --help

The exit code is 0; 1 if a result is not what it must be; or 2 if an option cannot be understood.
)";
}

/// \param contenders  all there are
/// \throws OptionError
inline SpeedOptions parse_speed_options(std::span<const std::string> arguments,
                                        std::span<const std::string> contenders) {
  SpeedOptions options;
  options.contenders.assign(contenders.begin(), contenders.end());
  options.threads = {1, AnyExecutor{}.concurrency()};
  if (options.threads[1] == 1) options.threads.pop_back();
  for (const std::string& argument : arguments) {
    const auto equals = argument.find('=');
    const std::string name = argument.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : argument.substr(equals + 1);
    if (argument == "--help" || argument == "-h")
      options.help = true;
    else if (argument == "--report")
      options.report = standard_output;
    else if (name == "--report" && value.empty())
      throw OptionError("--report=: expected --report or --report=FILE");
    else if (name == "--report")
      options.report = value;
    else if (name == "--contenders")
      options.contenders = detail::parse_names(name, value, contenders);
    else if (name == "--threads")
      options.threads = parse_list(name, value, parse_threads);
    else
      throw OptionError(argument + ": no such option; see --help");
  }
  return options;
}

}  // namespace heed::bench
