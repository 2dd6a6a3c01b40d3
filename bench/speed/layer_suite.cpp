// SPDX-License-Identifier: MIT
#include "speed/layer_suite.hpp"

#include <limits>

#include "speed/layer_case.hpp"
#include "speed/measure.hpp"
#include "speed/threads.hpp"

namespace heed::bench {
namespace {

/// Elements are about 1 and results about as much; sums of up to 4096 products round by some tens
/// of epsilon, once in each of three projections, and scores by as much again.
constexpr double layer_tolerance = 200 * double{std::numeric_limits<float>::epsilon()};
/// About what is spent on a row.
constexpr double layer_seconds = 1, crossover_seconds = 0.5;

struct LayerRow {
  std::string name;
  PassSize size;
  std::unique_ptr<LayerCase> (*make)(const PassSize& size, Index num_threads);
};

template <class W>
std::unique_ptr<LayerCase> make_deepseek(const PassSize& size, Index num_threads) {
  return make_deepseek_v2_lite<W>(size, num_threads, MlaPath::automatic);
}

std::vector<LayerRow> layer_rows() {
  constexpr PassSize prefill{512, 0}, decode{1, 4096};
  return {{"layer/llama-3-8b/prefill-512", prefill, make_llama_3_8b<float>},
          {"layer/llama-3-8b/prefill-512/bf16", prefill, make_llama_3_8b<bf16>},
          {"layer/llama-3-8b/decode-4096", decode, make_llama_3_8b<float>},
          {"layer/llama-3-8b/decode-4096/bf16", decode, make_llama_3_8b<bf16>},
          {"layer/deepseek-v2-lite/prefill-512", prefill, make_deepseek<float>},
          {"layer/deepseek-v2-lite/prefill-512/bf16", prefill, make_deepseek<bf16>},
          {"layer/deepseek-v2-lite/decode-4096", decode, make_deepseek<float>},
          {"layer/deepseek-v2-lite/decode-4096/bf16", decode, make_deepseek<bf16>}};
}

LayerResult time_layer(const LayerRow& row, Index num_threads, LayerCase& layer) {
  // `forward` first: `attend` needs what it leaves in the cache.
  const Timed parts[] = {{"forward", [&] { layer.forward(); }},
                         {"project", [&] { layer.project(); }},
                         {"rotate", [&] { layer.rotate(); }},
                         {"attend", [&] { layer.attend(); }}};
  const std::vector<Samples> samples = time_in_turns(parts, layer_seconds);
  return {row.name,          num_threads,       samples[0].best(),
          samples[1].best(), samples[2].best(), samples[3].best()};
}

benchmark::internal::Benchmark* as_row(benchmark::internal::Benchmark* row) {
  return row->Unit(benchmark::kMillisecond)->UseManualTime()->Iterations(1);
}

std::string with_threads(const std::string& name, Index num_threads) {
  return name + "/threads:" + std::to_string(num_threads);
}

}  // namespace

void LayerSuite::fail(benchmark::State& state, const std::string& name, double error) {
  errors_.push_back(name + ": wrong by " + std::to_string(error));
  state.SkipWithError(errors_.back().c_str());
}

void LayerSuite::register_layers() {
  for (const LayerRow& row : layer_rows())
    for (const Index num_threads : threads_) {
      const std::string name = with_threads(row.name, num_threads);
      as_row(benchmark::RegisterBenchmark(
          name.c_str(), [this, row, name, num_threads](benchmark::State& state) {
            set_eigen_threads(1);  // the executor's threads share the products
            const auto layer = row.make(row.size, num_threads);
            layer->forward();
            if (const double error = layer->largest_error(); !(error <= layer_tolerance))
              return fail(state, name, error);
            const LayerResult result = time_layer(row, num_threads, *layer);
            for (auto _ : state) state.SetIterationTime(result.whole);
            state.counters["projections%"] = 100 * result.share(result.projections);
            state.counters["rope%"] = 100 * result.share(result.rope);
            state.counters["attention%"] = 100 * result.share(result.attention);
            layers_.push_back(result);
          }));
    }
}

void LayerSuite::register_crossovers() {
  for (const Index cached : {512, 4096})
    for (const Index tokens : {1, 4, 16, 64, 96, 128, 160, 192, 256, 512})
      for (const Index num_threads : threads_) {
        const std::string name = with_threads(
            "crossover/" + std::to_string(cached) + "/" + std::to_string(tokens), num_threads);
        as_row(benchmark::RegisterBenchmark(
            name.c_str(), [this, name, cached, tokens, num_threads](benchmark::State& state) {
              set_eigen_threads(1);
              const PassSize size{tokens, cached};
              const std::unique_ptr<LayerCase> paths[] = {
                  make_deepseek_v2_lite<float>(size, num_threads, MlaPath::absorbed),
                  make_deepseek_v2_lite<float>(size, num_threads, MlaPath::expanded)};
              for (const auto& path : paths) {
                path->forward();
                if (const double error = path->largest_error(); !(error <= layer_tolerance))
                  return fail(state, name, error);
              }
              const Timed timed[] = {{"absorbed", [&] { paths[0]->attend(); }},
                                     {"expanded", [&] { paths[1]->attend(); }}};
              const std::vector<Samples> samples = time_in_turns(timed, crossover_seconds);
              const CrossoverResult result{
                  tokens,
                  cached,
                  num_threads,
                  samples[0].best(),
                  samples[1].best(),
                  cheaper_path(deepseek_v2_lite_shape(), tokens, size.seqlen_kv())};
              for (auto _ : state)
                state.SetIterationTime(std::min(result.absorbed, result.expanded));
              state.counters["absorbed_ms"] = 1e3 * result.absorbed;
              state.counters["expanded_ms"] = 1e3 * result.expanded;
              state.counters["takes_absorbed"] = result.chosen == MlaPath::absorbed ? 1 : 0;
              crossovers_.push_back(result);
            }));
      }
}

void LayerSuite::register_rows() {
  register_layers();
  register_crossovers();
}

}  // namespace heed::bench
