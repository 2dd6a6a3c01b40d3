// SPDX-License-Identifier: MIT
// What serving sequences in one call gains over serving them one by one, and sharing pages over
// copies of them: see --help, and bench/README.md.
#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <functional>
#include <limits>
#include <set>
#include <stdexcept>

#include "batch/batch_case.hpp"
#include "shared/executor.hpp"
#include "shared/quantities.hpp"
#include "shared/standard_output.hpp"
#include "speed/figures.hpp"  // KvStorage

namespace heed::bench::batch {
namespace {

constexpr const char* help = R"(batch: tokens per second of ragged batches.

Sequences of mixed lengths, decode steps and chunks of prompts, are served one by one and in one
call; decode steps on a common prefix of 8k tokens, from copies of it and from shared pages. Results
are compared bit for bit, and with float64, before anything is timed. Prints a table in Markdown.

  --filter=TEXT    cases whose name contains it
  --threads=N      1, and all of OpenMP's, unless said
  --report=FILE    writes the table there
  --help

The exit code is 0; 1 if a result is not what it must be; or 2 if an option cannot be understood.
)";

struct Options {
  std::string filter, report;
  std::set<Index> threads{1, AnyExecutor{}.concurrency()};
};

Options parse(std::span<char* const> arguments) {
  Options options;
  for (const std::string argument : arguments) {
    const auto equals = std::min(argument.find('='), argument.size() - 1);
    const std::string name = argument.substr(0, equals), value = argument.substr(equals + 1);
    if (value.empty()) throw OptionError(argument + ": expected NAME=VALUE; see --help");
    if (name == "--filter")
      options.filter = value;
    else if (name == "--report")
      options.report = value;
    else if (name == "--threads")
      options.threads = {parse_threads(name, value)};
    else
      throw OptionError(argument + ": not understood; see --help");
  }
  return options;
}

/// Of one thread, its time on the processor, so that other programs do not count.
double seconds_now(Index num_threads) {
  if (num_threads == 1) return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Seconds of the fastest run of each, in turns: other programs only ever slow a run down.
std::vector<double> best_seconds(std::span<const std::function<void()>> ways, Index num_threads) {
  constexpr double seconds = 1;
  constexpr int least_rounds = 3;
  std::vector<double> best(ways.size(), std::numeric_limits<double>::infinity());
  const double begin = seconds_now(num_threads);
  for (int round = 0; round < least_rounds || seconds_now(num_threads) < begin + seconds; ++round)
    for (std::size_t way = 0; way < ways.size(); ++way) {
      const double start = seconds_now(num_threads);
      ways[way]();
      best[way] = std::min(best[way], seconds_now(num_threads) - start);
    }
  return best;
}

/// A row of the table. \throws std::runtime_error if the ways do not give the same bits
template <class Entry, class Element>
std::string row(const BatchCase& c, Entry entry, const char* element, Index num_threads) {
  FilledCase<Entry, Element> filled(c, entry, make_executor(num_threads));
  std::vector<std::function<void()>> ways{[&] { filled.run_one_by_one(); },
                                          [&] { filled.run_batch(); }};
  if (c.prefix > 0) ways.emplace_back([&] { filled.run_shared(); });
  for (std::size_t way = 0; way < ways.size(); ++way) {
    ways[way]();
    if (filled.out(way) != filled.out(0))
      throw std::runtime_error(c.name + ", " + element + ": not the bits of calls one by one");
  }
  if (const double error = filled.largest_error(); !(error <= KvStorage{}.tolerance))
    throw std::runtime_error(c.name + ", " + element + ": wrong by " + std::to_string(error));
  const auto seconds = best_seconds(ways, num_threads);
  const auto tokens = static_cast<double>(c.tokens());
  char text[200];
  std::snprintf(text, sizeof text, "| %s | %s | %td | %td | %.0f | %.0f |", c.name.c_str(), element,
                std::ssize(c.lengths), num_threads, tokens / seconds[0], tokens / seconds[1]);
  std::string line = text;
  if (c.prefix > 0)
    std::snprintf(text, sizeof text, " %.0f | %.2f | %.2f |\n", tokens / seconds[2],
                  seconds[0] / seconds[1], seconds[1] / seconds[2]);
  else
    std::snprintf(text, sizeof text, " | %.2f | |\n", seconds[0] / seconds[1]);
  return line + text;
}

template <class Element>
std::string row(const BatchCase& c, const char* element, Index num_threads) {
  if (c.is_latent())
    return row<LatentKv<>, Element>(
        c, {.latent_dim = c.head_dim_v, .rope_dim = c.head_dim - c.head_dim_v}, element,
        num_threads);
  return row<FullKv<>, Element>(
      c, {.num_kv_heads = c.num_kv_heads, .head_dim = c.head_dim, .head_dim_v = c.head_dim_v},
      element, num_threads);
}

void run(const Options& options) {
  std::vector<BatchCase> cases = batch_cases();
  std::string names;
  for (const BatchCase& c : cases)  // of one name, those of 1, 8 and 64 sequences
    if (names.find(c.name) == std::string::npos) names.append(names.empty() ? "" : "; ") += c.name;
  std::erase_if(
      cases, [&](const BatchCase& c) { return c.name.find(options.filter) == std::string::npos; });
  if (cases.empty())
    throw OptionError("--filter=" + options.filter + ": in the name of no case, which are " +
                      names);
  std::ofstream file;
  if (!options.report.empty()) {  // before time is spent
    file.open(options.report);
    if (!file) throw OptionError("--report=" + options.report + ": cannot be written");
  }
  const auto put = [&](const std::string& text) {
    print(text);
    file << text << std::flush;
  };
  put("Tokens per second:\n\n"
      "| case | elements | sequences | threads | one by one | one call | shared pages "
      "| one call / one by one | shared / copies |\n"
      "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n");
  for (const Index num_threads : options.threads)
    for (const BatchCase& c : cases) {
      put(row<float>(c, "f32", num_threads));
      put(row<bf16>(c, "bf16", num_threads));
    }
  if (!options.report.empty() && !file.flush())
    throw std::runtime_error(options.report + ": could not be written");
}

}  // namespace
}  // namespace heed::bench::batch

int main(int argc, char** argv) {
  using namespace heed::bench::batch;
  try {
    const std::span<char* const> arguments(argv + 1, argv + argc);
    for (const std::string_view argument : arguments)
      if (argument == "--help" || argument == "-h") {
        std::fputs(help, stdout);
        return 0;
      }
    run(parse(arguments));
    return 0;
  } catch (const heed::bench::OptionError& error) {
    std::fprintf(stderr, "batch: %s\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "batch: %s\n", error.what());
    return 1;
  }
}
