// SPDX-License-Identifier: MIT
// The parts of heed that context_*.cpp share, compiled once.
#include <heed/instances/define.hpp>
#include <heed/instances/define_narrow.hpp>
