// SPDX-License-Identifier: MIT
/// \file
/// Where and with what a report was made.
#pragma once

#include <string>

namespace heed::bench {

/// "2026-11-24"
std::string date_today();
/// As the system names it.
std::string cpu_name();
/// Name and version.
std::string compiler_name();
/// The vector extensions that this program is compiled for, as "AVX2, FMA, F16C".
std::string target_features();
std::string eigen_version();

}  // namespace heed::bench
