// SPDX-License-Identifier: MIT
#include "speed/measure.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <exception>
#include <thread>

namespace heed::bench {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// A sample is at least as long: the clock and the loop then cost less than a thousandth.
constexpr double least_sample = 50e-6;
/// A turn of one contender, in seconds: many samples of a short run, one of a long one.
constexpr double turn = 30e-3;
constexpr int most_rounds = 10;
/// Rounds that each case has at least, unless one takes longer than this.
constexpr int least_rounds = 3;
constexpr double long_round = 6;
/// From here on, what a first run does once (page faults, threads) is lost in its time.
constexpr double long_run = 2;

/// Waits until the threads of the contender before are asleep, which spin for a while in wait of
/// work: until the process has used hardly any time in a millisecond. Those that never sleep are
/// not waited for.
void wait_until_idle() {
  constexpr std::chrono::milliseconds step{1}, most{100};
  for (auto waited = step; waited <= most; waited += step) {
    const std::clock_t before = std::clock();
    std::this_thread::sleep_for(step);
    if (std::clock() - before < CLOCKS_PER_SEC / 5000) return;
  }
}

/// The turns of one contender.
class Turns {
 public:
  explicit Turns(const Timed& timed) : timed_(timed), samples_{.name = timed.name, .seconds = {}} {
    const double first = timed.first_seconds > long_run ? timed.first_seconds : quiet_sample();
    runs_ = first < least_sample ? static_cast<int>(std::ceil(least_sample / first)) : 1;
    if (runs_ == 1) samples_.seconds.push_back(first);
    run_seconds_ = first;
  }

  void take() {
    wait_until_idle();
    // What the contender before had in the caches goes first.
    if (run_seconds_ < turn) sample(1);
    const auto start = Clock::now();
    do samples_.seconds.push_back(sample(runs_));
    while (seconds_since(start) < turn);
  }
  Samples samples() {
    if (samples_.seconds.empty()) samples_.seconds.push_back(run_seconds_);
    std::sort(samples_.seconds.begin(), samples_.seconds.end());
    return std::move(samples_);
  }

 private:
  double quiet_sample() const {
    wait_until_idle();
    return sample(1);
  }
  /// Seconds of a run, of so many in a row.
  double sample(int runs) const {
    const auto start = Clock::now();
    for (int i = 0; i < runs; ++i) timed_.run();
    return seconds_since(start) / runs;
  }

  const Timed& timed_;
  Samples samples_;
  int runs_ = 1;
  double run_seconds_ = 0;
};

/// A contender that has run once.
struct Prepared {
  std::unique_ptr<Contender> contender;
  double first_seconds = 0;
  std::string fault = {};  ///< why it is not to be timed; empty if its result is right
};

Prepared prepare(const ContenderKind& kind, const SpeedCase& c, const Inputs& inputs,
                 Index num_threads) try {
  Prepared made{kind.make(c, inputs, num_threads)};
  const auto start = Clock::now();
  made.contender->run();
  made.first_seconds = seconds_since(start);
  const double error = made.contender->largest_error(c, inputs);
  if (error <= kind.storage.tolerance) return made;
  char text[80];
  std::snprintf(text, sizeof text, "wrong by %.2g, at most %.2g", error, kind.storage.tolerance);
  made.fault = text;
  return made;
} catch (const std::exception& error) {
  return {nullptr, 0, error.what()};
}

}  // namespace

std::vector<Samples> time_in_turns(std::span<const Timed> all, double seconds) {
  const auto start = Clock::now();
  std::vector<Turns> turns;
  turns.reserve(all.size());
  for (const Timed& timed : all) turns.emplace_back(timed);
  const double first_round = seconds_since(start);
  for (int round = 1; round <= most_rounds; ++round) {
    const bool enough = round >= least_rounds || first_round > long_round;
    if (enough && seconds_since(start) >= seconds) break;
    for (Turns& one : turns) one.take();
  }
  std::vector<Samples> samples;
  for (Turns& one : turns) samples.push_back(one.samples());
  return samples;
}

std::vector<Samples> measure_case(const SpeedCase& c, const Inputs& inputs, Index num_threads,
                                  std::span<const ContenderKind> kinds) {
  std::vector<std::unique_ptr<Contender>> contenders;
  std::vector<Timed> right;
  std::vector<Samples> wrong;
  for (const ContenderKind& kind : kinds) {
    if (!kind.can(c, num_threads)) continue;
    Prepared prepared = prepare(kind, c, inputs, num_threads);
    if (!prepared.fault.empty()) {
      wrong.push_back({kind.name, {}, prepared.fault});
      continue;
    }
    contenders.push_back(std::move(prepared.contender));
    right.push_back({kind.name, [contender = contenders.back().get()] { contender->run(); },
                     prepared.first_seconds});
  }
  constexpr double seconds = 1;
  std::vector<Samples> samples = time_in_turns(right, seconds);
  samples.insert(samples.end(), wrong.begin(), wrong.end());
  return samples;
}

}  // namespace heed::bench
