// SPDX-License-Identifier: MIT
#include "kv_memory/measure.hpp"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <unordered_map>

#include <benchmark/benchmark.h>

#include "kv_memory/variants.hpp"
#include "shared/executor.hpp"
#include "shared/filter.hpp"

namespace heed::bench {
namespace {

/// Repetitions of each timing: enough for a median that one disturbance does not move.
constexpr int repetitions = 5;
/// Of a repetition: enough steps of the smallest caches to make the clock's own cost vanish.
constexpr double least_seconds = 0.03;

/// Google Benchmark calls a benchmark several times, to find out how many steps to time and for
/// each repetition. Meanwhile the cache of the case at hand stays filled.
class Cases {
 public:
  Cases(const std::vector<MeasuredCase>& cases, const ElementType& element, Placement placement,
        Index num_threads)
      : cases_(cases), element_(element), placement_(placement),
        executor_(make_executor(num_threads)), results_(cases.size()) {}

  void run(benchmark::State& state, std::size_t index) {
    if (!filled_ || filled_index_ != index) fill(index);
    const Measurement& result = *results_[index];
    if (!result.is_right()) {
      state.SkipWithError("the result or the allocation is not what it must be");
      return;
    }
    for (auto _ : state) filled_->decode();

    const double tokens = static_cast<double>(cases_[index].tokens_seen());
    const auto formula = kv_bytes_per_token(cases_[index].shape, element_.storage);
    state.counters["tokens"] = tokens;
    state.counters["formula_bytes_per_token"] = static_cast<double>(formula);
    state.counters["allocated_bytes_per_token"] =
        static_cast<double>(result.allocated_bytes) / tokens;
    state.counters["largest_error"] = result.error.largest;
    state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * formula *
                            cases_[index].tokens_seen());
  }

  void set_times(std::size_t index, std::vector<double> seconds) {
    std::sort(seconds.begin(), seconds.end());
    results_[index]->best_seconds = seconds.front();
    results_[index]->median_seconds = seconds[seconds.size() / 2];
  }

  const std::vector<std::optional<Measurement>>& results() const { return results_; }

 private:
  void fill(std::size_t index) {
    std::fprintf(stderr, "[%zu/%zu] %s\n", index + 1, cases_.size(),
                 case_name(cases_[index]).c_str());
    filled_.reset();  // before the next is made: two may not fit
    filled_ = element_.make_case(cases_[index], placement_, executor_);
    filled_index_ = index;
    filled_->decode();
    results_[index] = Measurement{.allocated_bytes = filled_->allocated_bytes(),
                                  .reported_bytes = filled_->reported_bytes(),
                                  .held_bytes = filled_->held_bytes(),
                                  .error = filled_->error()};
  }

  const std::vector<MeasuredCase>& cases_;
  const ElementType& element_;
  Placement placement_;
  AnyExecutor executor_;
  std::vector<std::optional<Measurement>> results_;
  std::unique_ptr<DecodeCase> filled_;
  std::size_t filled_index_ = 0;
};

/// Keeps the times; the table is printed from them.
class Collector : public benchmark::BenchmarkReporter {
 public:
  Collector(Cases& cases, const std::unordered_map<std::string, std::size_t>& indices)
      : cases_(cases), indices_(indices) {}

  bool ReportContext(const Context&) override { return true; }

  void ReportRuns(const std::vector<Run>& runs) override {
    std::vector<double> seconds;
    std::string name;
    for (const Run& run : runs)
      if (run.run_type == Run::RT_Iteration && run.iterations > 0) {
        name = run.run_name.function_name;
        seconds.push_back(run.real_accumulated_time / static_cast<double>(run.iterations));
      }
    if (!seconds.empty()) cases_.set_times(indices_.at(name), std::move(seconds));
  }

 private:
  Cases& cases_;
  const std::unordered_map<std::string, std::size_t>& indices_;
};

}  // namespace

MeasuredCase measured_case(const AttentionShape& shape, const KvLayers& layers, Index context,
                           Placement placement) {
  const Index tokens_held = layers.tokens_held(context);
  const bool slides = placement != Placement::own && tokens_held < context;
  const Index tokens = slides ? context : tokens_held;
  const std::optional<Index> window =
      slides ? std::optional(*layers.window_left + 1) : std::nullopt;
  if (const auto* latent = std::get_if<LatentShape>(&shape))
    return {LatentShape{.model_dim = 0,
                        .num_heads = latent->num_heads,
                        .latent_dim = latent->latent_dim,
                        .rope_dim = latent->rope_dim,
                        .nope_dim = 0,
                        .head_dim_v = 0},
            tokens, window};
  GroupedShape grouped = std::get<GroupedShape>(shape);
  grouped.model_dim = 0;
  return {grouped, tokens, window};
}

std::string case_name(const MeasuredCase& one) {
  std::string name = "decode/heads:" + std::to_string(num_heads(one.shape));
  if (const auto* latent = std::get_if<LatentShape>(&one.shape)) {
    name += "/latent_dim:" + std::to_string(latent->latent_dim) +
            "/rope_dim:" + std::to_string(latent->rope_dim);
  } else {
    const auto& grouped = std::get<GroupedShape>(one.shape);
    name += "/kv_heads:" + std::to_string(grouped.num_kv_heads) +
            "/head_dim:" + std::to_string(grouped.head_dim);
    if (grouped.head_dim_v != grouped.head_dim)
      name += "/head_dim_v:" + std::to_string(grouped.head_dim_v);
  }
  if (one.window) name += "/window:" + std::to_string(*one.window);
  return name + "/tokens:" + std::to_string(one.tokens);
}

std::vector<std::optional<Measurement>> measure(const std::vector<MeasuredCase>& cases,
                                                const ElementType& element, Placement placement,
                                                Index num_threads) {
  if (cases.empty()) return {};
  Cases runner(cases, element, placement, num_threads);
  std::unordered_map<std::string, std::size_t> indices;
  for (std::size_t index = 0; index < cases.size(); ++index) {
    const std::string name = case_name(cases[index]);
    indices[name] = index;
    benchmark::RegisterBenchmark(
        name.c_str(), [&runner, index](benchmark::State& state) { runner.run(state, index); })
        ->UseRealTime()
        ->Unit(benchmark::kMicrosecond)
        ->MinTime(least_seconds)
        ->Repetitions(repetitions);
  }
  Collector collector(runner, indices);
  const std::size_t matched = benchmark::RunSpecifiedBenchmarks(&collector);
  benchmark::ClearRegisteredBenchmarks();
  require_matched(matched);
  return runner.results();
}

}  // namespace heed::bench
