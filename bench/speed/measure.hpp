// SPDX-License-Identifier: MIT
/// \file
/// Times contenders against one another: in turns, so that what else the machine does hits all.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "speed/contender.hpp"
#include "speed/figures.hpp"

namespace heed::bench {

/// Something to be timed.
struct Timed {
  std::string name;
  std::function<void()> run;
  double first_seconds = 0;  ///< of a run made before, if one was
};

/// Runs all in turns, several rounds. Runs of less than 50 us are timed several at once. Takes
/// about `seconds`, and longer only if one run of each does. A run made before counts if it took so
/// long that another would say no more.
std::vector<Samples> time_in_turns(std::span<const Timed> all, double seconds);

/// Makes the contenders for a case, holds the result of each against float64, and times those that
/// are right in turns. Those that cannot compute the case are not in the answer.
std::vector<Samples> measure_case(const SpeedCase& c, const Inputs& inputs, Index num_threads,
                                  std::span<const ContenderKind> kinds);

}  // namespace heed::bench
