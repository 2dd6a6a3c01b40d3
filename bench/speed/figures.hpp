// SPDX-License-Identifier: MIT
/// \file
/// What times mean: shares of the machine's limits, and ratios.
#pragma once

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "heed/cache/kv_bytes.hpp"
#include "speed/case.hpp"

namespace heed::bench {

/// Names of contenders that others are compared with.
inline constexpr const char* heed_name = "heed";
inline constexpr const char* eigen_name = "eigen";

/// What the machine allows with so many threads; measured in the same run.
struct Limits {
  double fma_flops;                  ///< float32 multiply-adds in registers, FLOP/s
  std::optional<double> bf16_flops;  ///< bfloat16 dot products, where the CPU has them
  double dram_bytes;                 ///< reading memory far larger than the caches, bytes/s
  double cache_bytes;                ///< reading a last-level cache's share, bytes/s
  double eigen_gemm_flops;           ///< Eigen's product of 1024 x 1024 floats, FLOP/s
  std::optional<double> blas_flops;  ///< OpenBLAS's, if this program was built with it
};

/// The larger of each: what disturbs a measurement only ever makes it smaller.
inline Limits larger(const Limits& a, const Limits& b) {
  return {.fma_flops = std::max(a.fma_flops, b.fma_flops),
          .bf16_flops = std::max(a.bf16_flops, b.bf16_flops),
          .dram_bytes = std::max(a.dram_bytes, b.dram_bytes),
          .cache_bytes = std::max(a.cache_bytes, b.cache_bytes),
          .eigen_gemm_flops = std::max(a.eigen_gemm_flops, b.eigen_gemm_flops),
          .blas_flops = std::max(a.blas_flops, b.blas_flops)};
}

/// How a contender stores keys and values, and what it multiplies.
struct KvStorage {
  double bytes = 4;                       ///< an element, if `element` does not say
  std::optional<KvElement> element = {};  ///< of a KvCache: bits, and scales beside
  /// What a result may be off by, in largest elements of its row. Of float: the rounding of scores
  /// up to about 5, which is that of their weights in proportion, and of sums of values; with room
  /// for 32 of it, since some sum 32k of them one after another.
  double tolerance = 32 * 5 * double{std::numeric_limits<float>::epsilon()};
  /// Of its products to that of FMAs on float: the processor's own on bf16, and on codes with
  /// factors of 16 bits, have twice as many elements to an operation, those of 24 bits 4/3.
  double product_rate = 1;

  /// All keys and values of a case.
  double kv_bytes(const SpeedCase& c) const {
    if (!element) return bytes * c.kv_elements();
    const Index token = c.kv == Kv::latent
                            ? kv_bytes_per_token(LatentShape{.latent_dim = c.head_dim_v,
                                                             .rope_dim = c.head_dim - c.head_dim_v},
                                                 *element)
                            : kv_bytes_per_token(GroupedShape{.num_kv_heads = c.num_kv_heads,
                                                              .head_dim = c.head_dim,
                                                              .head_dim_v = c.head_dim_v},
                                                 *element);
    return static_cast<double>(token * c.rows_kv());
  }
};

/// What a contender's runs of a case took, or why there are none.
struct Samples {
  std::string name;
  std::vector<double> seconds;  ///< of a run, in ascending order
  std::string error = {};

  double best() const { return seconds.front(); }
  double median() const { return seconds[seconds.size() / 2]; }
};

/// A case with so many threads: all contenders that compute it.
struct CaseResult {
  SpeedCase speed_case;
  Index num_threads;
  std::vector<Samples> contenders;

  bool was_measured(const std::string& name) const {
    return std::any_of(contenders.begin(), contenders.end(),
                       [&](const Samples& one) { return one.name == name; });
  }
  /// Null if it is not there, or its result was wrong.
  const Samples* find(const std::string& name) const {
    for (const Samples& one : contenders)
      if (one.name == name && one.error.empty()) return &one;
    return nullptr;
  }
};

/// Seconds below which no program can compute the case: keys and values are read once, every
/// visible score costs its FLOPs.
/// \param cached_bytes  what the last-level cache holds; a case of more is read from memory
inline double least_seconds(const SpeedCase& c, const Limits& limits, const KvStorage& storage,
                            double cached_bytes) {
  const double bytes = storage.kv_bytes(c);
  const double bandwidth = bytes <= cached_bytes ? limits.cache_bytes : limits.dram_bytes;
  const double flops = storage.product_rate > 1 && limits.bf16_flops
                           ? storage.product_rate / 2 * *limits.bf16_flops
                           : limits.fma_flops;
  return std::max(bytes / bandwidth, c.flops() / flops);
}

}  // namespace heed::bench
