// SPDX-License-Identifier: MIT
#include "speed/machine.hpp"

#include <ctime>
#include <fstream>

#include <Eigen/Core>

namespace heed::bench {

std::string date_today() {
  const std::time_t now = std::time(nullptr);
  char text[16];
  std::strftime(text, sizeof text, "%Y-%m-%d", std::gmtime(&now));
  return text;
}

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name")) {
      const auto colon = line.find(": ");
      if (colon != std::string::npos) return line.substr(colon + 2);
    }
  return "unknown CPU";
}

std::string compiler_name() {
#if defined(__clang__)
  return "clang " + std::to_string(__clang_major__) + "." + std::to_string(__clang_minor__) + "." +
         std::to_string(__clang_patchlevel__);
#elif defined(__GNUC__)
  return "g++ " + std::to_string(__GNUC__) + "." + std::to_string(__GNUC_MINOR__) + "." +
         std::to_string(__GNUC_PATCHLEVEL__);
#else
  return "unknown compiler";
#endif
}

std::string target_features() {
  std::string features;
  const auto add = [&](const char* name) {
    features += (features.empty() ? "" : ", ") + std::string(name);
  };
#ifdef __SSE4_2__
  add("SSE4.2");
#endif
#ifdef __AVX2__
  add("AVX2");
#endif
#ifdef __FMA__
  add("FMA");
#endif
#ifdef __F16C__
  add("F16C");
#endif
#ifdef __AVX512F__
  add("AVX-512");
#endif
#ifdef __AVX512BF16__
  add("BF16");
#endif
#ifdef __AVX512VNNI__
  add("VNNI");
#endif
#ifdef __ARM_NEON
  add("NEON");
#endif
  return features.empty() ? "no vector extensions" : features;
}

std::string eigen_version() {
  return std::to_string(EIGEN_WORLD_VERSION) + "." + std::to_string(EIGEN_MAJOR_VERSION) + "." +
         std::to_string(EIGEN_MINOR_VERSION);
}

}  // namespace heed::bench
