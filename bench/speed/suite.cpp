// SPDX-License-Identifier: MIT
#include "speed/suite.hpp"

#include <algorithm>

#include "speed/limits.hpp"
#include "speed/measure.hpp"

namespace heed::bench {

Suite::Suite(const std::vector<SpeedCase>& cases, std::vector<ContenderKind> kinds,
             std::map<Index, Limits> limits)
    : kinds_(std::move(kinds)), limits_(std::move(limits)) {
  for (const SpeedCase& c : cases)
    for (const auto& [num_threads, unused] : limits_) slots_.push_back({{c, num_threads, {}}});
}

void Suite::register_rows() {
  for (std::size_t slot = 0; slot < slots_.size(); ++slot)
    for (const ContenderKind& kind : kinds_) {
      const auto& [c, num_threads, unused] = slots_[slot].result;
      if (!kind.can(c, num_threads)) continue;
      benchmark::RegisterBenchmark(
          (c.name + "/" + kind.name + "/threads:" + std::to_string(num_threads)).c_str(),
          [this, slot, &kind](benchmark::State& state) { report(state, slot, kind); })
          ->Unit(benchmark::kMillisecond)
          ->UseManualTime()
          ->Iterations(1);  // the time of a row is the median of the samples already taken
    }
}

void Suite::measure(Slot& slot) {
  const SpeedCase& c = slot.result.speed_case;
  if (inputs_of_ != c.name) {
    inputs_ = nullptr;  // before the next are made: two may not fit
    inputs_ = std::make_unique<const Inputs>(c);
    inputs_of_ = c.name;
  }
  slot.result.contenders = measure_case(c, *inputs_, slot.result.num_threads, kinds_);
  slot.measured = true;
}

void Suite::report(benchmark::State& state, std::size_t index, const ContenderKind& kind) {
  Slot& slot = slots_[index];
  if (!slot.measured) measure(slot);
  const CaseResult& result = slot.result;
  const auto& all = result.contenders;
  const auto samples = std::find_if(all.begin(), all.end(),
                                    [&](const Samples& one) { return one.name == kind.name; });
  if (!samples->error.empty()) return state.SkipWithError(samples->error.c_str());

  for (auto _ : state) state.SetIterationTime(samples->median());
  const SpeedCase& c = result.speed_case;
  const Limits& limits = limits_.at(result.num_threads);
  const double seconds = samples->best();  // other programs only ever slow a run down
  state.counters["best_ms"] = 1e3 * seconds;
  state.counters["samples"] = static_cast<double>(samples->seconds.size());
  state.counters["GFLOP/s"] = c.flops() / seconds / 1e9;
  if (c.pass == Pass::forward) state.counters["GB/s"] = kind.storage.kv_bytes(c) / seconds / 1e9;
  state.counters["roofline%"] =
      100 * least_seconds(c, limits, kind.storage, cached_bytes()) / seconds;
  if (const Samples* eigen = result.find(eigen_name))
    state.counters["vs_eigen"] = eigen->best() / seconds;
}

std::vector<CaseResult> Suite::results() const {
  std::vector<CaseResult> measured;
  for (const Slot& slot : slots_)
    if (slot.measured) measured.push_back(slot.result);
  return measured;
}

}  // namespace heed::bench
