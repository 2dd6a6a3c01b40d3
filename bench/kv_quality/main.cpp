// SPDX-License-Identifier: MIT
// What narrower elements in the KV cache cost in accuracy: see --help, and bench/README.md.
#include <cstdio>
#include <exception>
#include <span>
#include <string>

#include "kv_quality/options.hpp"
#include "kv_quality/report.hpp"
#include "shared/executor.hpp"
#include "shared/standard_output.hpp"
#include "speed/threads.hpp"

namespace heed::bench::quality {
namespace {

/// Says what is wrong with a table. Returns whether all is right.
bool all_right(const QualityTable& table) {
  bool right = true;
  for (const QualityRow& row : table.rows) {
    if (row.is_right()) continue;
    std::fprintf(stderr,
                 "kv_quality: %s is wrong: attention over the cache is %g times as far from "
                 "float64 as rounding may take it\n",
                 row.element.c_str(), row.kernel_error);
    right = false;
  }
  return right;
}

int run(const QualityOptions& options) {
  if (options.help) {
    print(help_text());
    return 0;
  }
  std::vector<Inputs> tables;
  if (options.weights) {
    tables.push_back(inputs_of_weights({.file = *options.weights,
                                        .layer = options.layer,
                                        .num_heads = options.num_heads,
                                        .num_kv_heads = options.num_kv_heads},
                                       options.sequence));
  } else {
    const auto bits = static_cast<double>(options.entropy_bits);
    tables.push_back(synthetic_inputs(options.grouped_shape(), options.sequence, bits));
    tables.push_back(synthetic_inputs(options.latent_shape(), options.sequence, bits));
  }
  constexpr double seconds_per_case = 0.2;
  std::string text;
  bool right = true;
  for (const Inputs& inputs : tables) {
    const QualityTable table = measure_quality(
        inputs, quality_elements(), make_executor(options.num_threads), seconds_per_case);
    right = all_right(table) && right;
    if (!text.empty()) text += '\n';
    text += markdown(inputs, table);
  }
  if (!right) return 1;
  print(text);
  return 0;
}

}  // namespace
}  // namespace heed::bench::quality

int main(int argc, char** argv) {
  try {
    const auto options = heed::bench::quality::parse_options({argv + 1, argv + argc});
    heed::bench::set_eigen_threads(options.num_threads);
    return heed::bench::quality::run(options);
  } catch (const heed::bench::OptionError& error) {
    std::fprintf(stderr, "kv_quality: %s\n", error.what());
  } catch (const heed::bench::quality::WeightsError& error) {
    std::fprintf(stderr, "kv_quality: %s\n", error.what());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kv_quality: %s\n", error.what());
    return 1;
  }
  return 2;
}
