// SPDX-License-Identifier: MIT
// How fast attention is, as a share of what the machine allows and beside its peers: see --help,
// and bench/README.md.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <iostream>
#include <map>
#include <optional>
#include <span>
#include <string_view>

#include <benchmark/benchmark.h>

#include "peers/peers.hpp"
#include "shared/filter.hpp"
#include "shared/output_file.hpp"
#include "shared/standard_output.hpp"
#include "speed/layer_case.hpp"
#include "speed/layer_suite.hpp"
#include "speed/limits.hpp"
#include "speed/machine.hpp"
#include "speed/options.hpp"
#include "speed/report.hpp"
#include "speed/suite.hpp"

namespace heed::bench {
namespace {

std::vector<ContenderKind> all_kinds() {
  std::vector<ContenderKind> kinds = heed_kinds();
  kinds.push_back(eigen_kind());
  for (const Peer& peer : peers()) kinds.insert(kinds.end(), peer.kinds.begin(), peer.kinds.end());
  return kinds;
}

/// Each by a name of all_kinds().
std::vector<ContenderKind> backward_kinds() {
  std::vector<ContenderKind> kinds{heed_backward_kind(), eigen_backward_kind()};
  for (const Peer& peer : peers())
    kinds.insert(kinds.end(), peer.backward_kinds.begin(), peer.backward_kinds.end());
  return kinds;
}

std::vector<std::string> names_of(std::span<const ContenderKind> kinds) {
  std::vector<std::string> names;
  for (const ContenderKind& kind : kinds) names.push_back(kind.name);
  return names;
}

const ContenderKind* find(std::span<const ContenderKind> kinds, const std::string& name) {
  for (const ContenderKind& kind : kinds)
    if (kind.name == name) return &kind;
  return nullptr;
}

/// Those of `kinds` that are to be measured.
std::vector<ContenderKind> chosen(std::vector<ContenderKind> kinds, const SpeedOptions& options) {
  std::erase_if(kinds, [&](const ContenderKind& kind) {
    const auto& names = options.contenders;
    return std::find(names.begin(), names.end(), kind.name) == names.end();
  });
  return kinds;
}

/// The largest that were measured, `limits` included, in several rounds: what disturbs a machine
/// for a second does not disturb all of them.
std::map<Index, Limits> limits_of(std::span<const Index> threads,
                                  std::map<Index, Limits> limits = {}) {
  constexpr int rounds = 3;
  std::fprintf(stderr, "measuring the limits\n");
  for (int round = 0; round < rounds; ++round)
    for (const Index num_threads : threads) {
      const Limits measured = measure_limits(num_threads);
      const auto [place, is_first] = limits.try_emplace(num_threads, measured);
      if (!is_first) place->second = larger(place->second, measured);
    }
  std::fputs(detail::limits_table(limits).c_str(), stderr);
  return limits;
}

/// Of a report: date, CPU, compiler, and the versions of all that is compared.
std::string machine_text() {
  std::string text = date_today() + ", " + cpu_name() + "; " + compiler_name() + " (" +
                     target_features() + "); Eigen " + eigen_version();
  for (const Peer& peer : peers()) text += ", " + peer.name + " " + peer.version;
  if (const auto blas = blas_peer()) text += ", " + blas->name + " " + blas->version;
  return text + ".";
}

/// What is measured.
struct Suites {
  Suite forward, backward;
  LayerSuite layers;

  Suites(const SpeedOptions& options, const std::map<Index, Limits>& limits)
      : forward(speed_cases(), chosen(all_kinds(), options), limits),
        backward(backward_cases(), chosen(backward_kinds(), options), limits),
        layers(options.threads) {
    forward.register_rows();
    layers.register_rows();
    backward.register_rows();
  }
};

/// With columns in the order of --contenders.
ReportHead head_of(const Suite& suite, const SpeedOptions& options) {
  ReportHead head{.machine = machine_text(), .others = {}, .cached_bytes = cached_bytes()};
  const std::vector<ContenderKind> own = heed_kinds();
  for (const std::string& name : options.contenders) {
    if (name == heed_name || name == eigen_name || !find(suite.kinds(), name)) continue;
    const ContenderKind* const kind = find(own, name);
    head.others.push_back({name, kind ? std::optional(kind->storage) : std::nullopt});
  }
  return head;
}

/// By the limits before the cases and after them: the machine is not the same for all that time.
std::string report_of(const Suites& all, const SpeedOptions& options) {
  const auto& [forward, backward, layers] = all;
  const std::map<Index, Limits> limits = limits_of(options.threads, forward.limits());
  return report_text(head_of(forward, options), limits, forward.results()) +
         layers_text(layers.layers()) +
         crossovers_text(deepseek_v2_lite_shape(), layers.crossovers()) +
         backward_text(head_of(backward, options), limits, backward.results());
}

/// Says what was computed wrong. Returns whether nothing was.
bool all_right(const Suites& all) {
  for (const std::string& error : all.layers.errors())
    std::fprintf(stderr, "speed: %s\n", error.c_str());
  bool right = all.layers.errors().empty();
  for (const Suite* const suite : {&all.forward, &all.backward})
    for (const CaseResult& result : suite->results())
      for (const Samples& one : result.contenders)
        if (!one.error.empty()) {
          std::fprintf(stderr, "speed: %s/%s/threads:%td: %s\n", result.speed_case.name.c_str(),
                       one.name.c_str(), result.num_threads, one.error.c_str());
          right = false;
        }
  return right;
}

int run(const SpeedOptions& options) {
  std::optional<OutputFile> file;
  if (options.report && *options.report != standard_output)
    file.emplace("--report", *options.report);
  Suites all(options, limits_of(options.threads));
  if (options.report && !file) {
    benchmark::ConsoleReporter reporter(benchmark::ConsoleReporter::OO_Tabular);
    reporter.SetOutputStream(&std::cerr);
    require_matched(benchmark::RunSpecifiedBenchmarks(&reporter));
  } else {
    require_matched(benchmark::RunSpecifiedBenchmarks());
  }
  if (options.report && !file) print(report_of(all, options));
  if (file) file->write(report_of(all, options));
  return all_right(all) ? 0 : 1;
}

}  // namespace
}  // namespace heed::bench

int main(int argc, char** argv) {
  using namespace heed::bench;
  try {
    std::vector<std::string> ours;  // what is not an option of Google Benchmark, which has --help
    std::vector<char*> theirs{argv[0]};
    for (char* const argument : std::span(argv + 1, argv + argc))
      if (std::string_view(argument).starts_with("--benchmark_"))
        theirs.push_back(argument);
      else
        ours.emplace_back(argument);
    int num_theirs = static_cast<int>(theirs.size());
    theirs.push_back(nullptr);  // as argv ends
    benchmark::Initialize(&num_theirs, theirs.data());
    if (benchmark::ReportUnrecognizedArguments(num_theirs, theirs.data())) return 2;

    const std::vector<std::string> names = names_of(all_kinds());
    const SpeedOptions options = parse_speed_options(ours, names);
    if (options.help) {
      std::fputs(speed_help(names).c_str(), stdout);
      return 0;
    }
    return run(options);
  } catch (const OptionError& error) {
    std::fprintf(stderr, "speed: %s\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "speed: %s\n", error.what());
    return 1;
  }
}
