// SPDX-License-Identifier: MIT
// The KV cache of real models under each attention variant: see --help, and bench/README.md.
#include <cstdio>
#include <exception>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <benchmark/benchmark.h>

#include "kv_memory/report.hpp"
#include "shared/output_file.hpp"
#include "shared/standard_output.hpp"

namespace heed::bench {
namespace {

std::string text_of(const std::vector<ModelReport>& reports, const Options& options) {
  switch (options.format) {
    case Format::csv: return csv_text(reports, options);
    case Format::json: return json_text(reports, options);
    default: return table_text(reports, options);
  }
}

/// Says what is wrong with the measurements. Returns whether all are right.
bool all_right(const std::vector<MeasuredCase>& cases,
               const std::vector<std::optional<Measurement>>& measurements) {
  bool right = true;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const auto& one = measurements[i];
    if (!one || one->is_right()) continue;
    std::fprintf(
        stderr, "kv_memory: %s is wrong: error %g, at most %g; %td bytes allocated, %td reported\n",
        case_name(cases[i]).c_str(), one->error.largest, one->error.allowed, one->allocated_bytes,
        one->reported_bytes);
    right = false;
  }
  return right;
}

int run(const Options& options) {
  if (options.help) {
    print(help_text(element_types()));
    return 0;
  }
  std::vector<ModelConfig> configs;
  for (const auto& path : options.configs) configs.push_back(read_model_config(path));
  std::optional<OutputFile> file;
  if (options.out_json) file.emplace("--out-json", *options.out_json);

  const auto cases = cases_of(configs, options);
  const auto measurements =
      measure(cases, *options.element, options.placement, options.num_threads);
  const auto reports = make_reports(configs, options, cases, measurements);
  print(text_of(reports, options));
  if (file) file->write(json_text(reports, options));
  return all_right(cases, measurements) ? 0 : 1;
}

}  // namespace
}  // namespace heed::bench

int main(int argc, char** argv) {
  try {
    std::vector<char*> rest;  // what is not an option of Google Benchmark, which takes --help too
    std::vector<char*> theirs{argv[0]};
    for (char* const argument : std::span(argv + 1, argv + argc))
      (std::string_view(argument).starts_with("--benchmark_") ? theirs : rest).push_back(argument);
    int num_theirs = static_cast<int>(theirs.size());
    theirs.push_back(nullptr);  // as argv ends
    benchmark::Initialize(&num_theirs, theirs.data());
    rest.insert(rest.end(), theirs.begin() + 1, theirs.begin() + num_theirs);  // unknown to it

    const heed::bench::Choices choices{.models = HEED_BENCH_DIR "/models",
                                       .elements = heed::bench::element_types()};
    return heed::bench::run(heed::bench::parse_options({rest.begin(), rest.end()}, choices));
  } catch (const heed::bench::OptionError& error) {
    std::fprintf(stderr, "kv_memory: %s\n", error.what());
  } catch (const heed::bench::ConfigError& error) {
    std::fprintf(stderr, "kv_memory: %s\n", error.what());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kv_memory: %s\n", error.what());
    return 1;
  }
  return 2;
}
