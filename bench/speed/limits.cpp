// SPDX-License-Identifier: MIT
#include "speed/limits.hpp"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#include "heed/base/aligned_array.hpp"
#include "heed/base/views.hpp"
#include "heed/simd/packet.hpp"
#include "peers/peers.hpp"
#include "shared/executor.hpp"
#include "speed/inputs.hpp"
#include "speed/threads.hpp"

namespace heed::bench {
namespace {

/// Seconds of the fastest of `repeats` runs of body(thread) on all threads.
template <class Body>
double fastest(Index num_threads, int repeats, const Body& body) {
  const AnyExecutor executor = make_executor(num_threads);
  double best = 1e9;
  for (int i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    executor.parallel_for(num_threads, body);
    best = std::min(
        best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

volatile float sink;

double fma_flops(Index num_threads) {
  constexpr Index steps = 2'000'000;
  constexpr int sums = 12;  // more than FMA ports times their latency, few enough for 16 registers
  const double seconds = fastest(num_threads, 10, [](Index) {
    simd::Packet<float> sum[sums];
    for (int i = 0; i < sums; ++i) sum[i] = simd::broadcast(static_cast<float>(i));
    const auto factor = simd::broadcast(0.999F), term = simd::broadcast(0.001F);
    for (Index step = 0; step < steps; ++step) {
#pragma GCC unroll 16
      for (int i = 0; i < sums; ++i) sum[i] = simd::mul_add(sum[i], factor, term);
    }
    for (int i = 1; i < sums; ++i) sum[0] = simd::add(sum[0], sum[i]);
    sink = simd::sum_lanes(sum[0]);
  });
  return static_cast<double>(num_threads * steps * sums * simd::lanes<float> * 2) / seconds;
}

#ifdef __AVX512BF16__
std::optional<double> bf16_flops(Index num_threads) {
  constexpr Index steps = 2'000'000;
  constexpr int sums = 12;
  constexpr double flops = 64;  // of one instruction: 16 sums of 2 products
  const double seconds = fastest(num_threads, 10, [](Index) {
    __m512 sum[sums];
    for (int i = 0; i < sums; ++i) sum[i] = _mm512_set1_ps(static_cast<float>(i));
    __m512bh factor = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5F), _mm512_set1_ps(-0.5F));
    for (Index step = 0; step < steps; ++step) {
#pragma GCC unroll 16
      for (int i = 0; i < sums; ++i) sum[i] = _mm512_dpbf16_ps(sum[i], factor, factor);
    }
    for (int i = 1; i < sums; ++i) sum[0] = _mm512_add_ps(sum[0], sum[i]);
    sink = _mm512_reduce_add_ps(sum[0]);
  });
  return static_cast<double>(num_threads * steps * sums) * flops / seconds;
}
#else
std::optional<double> bf16_flops(Index) { return std::nullopt; }
#endif

/// Each thread reads its own share of `bytes`, `passes` times, in so many streams.
template <Index streams>
double read_in_streams(Index num_threads, double bytes, int passes, int repeats) {
  const Index share = static_cast<Index>(bytes / sizeof(float)) / num_threads / 256 * 256;
  const auto memory = heed::detail::make_aligned<float>(share * num_threads);
  const AnyExecutor executor = make_executor(num_threads);
  executor.parallel_for(
      num_threads, [&](Index thread) { std::fill_n(memory.get() + thread * share, share, 1.0F); });
  const double seconds = fastest(num_threads, repeats, [&](Index thread) {
    const float* const from = memory.get() + thread * share;
    const Index length = share / streams;
    simd::Packet<float> sum[streams];
    for (auto& s : sum) s = simd::broadcast(0.0F);
    for (int pass = 0; pass < passes; ++pass)
      for (Index i = 0; i < length; i += simd::lanes<float>)
        for (Index s = 0; s < streams; ++s)
          sum[s] = simd::add(sum[s], simd::load(from + s * length + i));
    for (Index s = 1; s < streams; ++s) sum[0] = simd::add(sum[0], sum[s]);
    sink = simd::sum_lanes(sum[0]);
  });
  return static_cast<double>(share * num_threads) * sizeof(float) * passes / seconds;
}

/// The most of what 1, 4 and 8 streams reach: which it is depends on the processor.
double read_bytes(Index num_threads, double bytes, int passes, int repeats) {
  return std::max({read_in_streams<1>(num_threads, bytes, passes, repeats),
                   read_in_streams<4>(num_threads, bytes, passes, repeats),
                   read_in_streams<8>(num_threads, bytes, passes, repeats)});
}

/// FLOP/s of multiply(a, b, c): a product of 1024 x 1024 floats.
template <class Multiply>
double gemm_flops(const Multiply& multiply) {
  constexpr Index n = 1024;
  const Matrix a = random_matrix(n, n, 1), b = random_matrix(n, n, 2);
  Matrix c(n, n);
  double best = 1e9;
  for (int i = 0; i < 8; ++i) {
    const auto start = std::chrono::steady_clock::now();
    multiply(a, b, c);
    best = std::min(
        best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  sink = c(0, 0);
  return 2.0 * n * n * n / best;
}

double eigen_gemm_flops(Index num_threads) {
  set_eigen_threads(num_threads);
  return gemm_flops([](const Matrix& a, const Matrix& b, Matrix& c) { c.noalias() = a * b; });
}

std::optional<double> blas_flops(Index num_threads) {
  const auto blas = blas_peer();
  if (!blas) return std::nullopt;
  blas->set_num_threads(num_threads);
  return gemm_flops([&](const Matrix& a, const Matrix& b, Matrix& c) {
    blas->multiply(a.rows(), a.data(), b.data(), c.data());
  });
}

/// Bytes of a cache of the first core. Not by sysconf: on a virtual machine it may tell the host's.
std::optional<double> cache_size(int level) {
  std::ifstream file("/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(level) + "/size");
  double kibibytes = 0;
  if (!(file >> kibibytes)) return std::nullopt;
  return kibibytes * 1024;
}

/// What is read to measure the last-level cache: half of what cases may take there, and more than
/// the threads' own caches hold.
double shared_bytes(Index num_threads) {
  return std::max(cached_bytes() / 2,
                  2.0 * static_cast<double>(num_threads) * cache_size(2).value_or(1 << 20));
}

}  // namespace

double cached_bytes() { return cache_size(3).value_or(32.0 * (1 << 20)) / 2; }

Limits measure_limits(Index num_threads) {
  return {.fma_flops = fma_flops(num_threads),
          .bf16_flops = bf16_flops(num_threads),
          .dram_bytes = read_bytes(num_threads, 1.0 * (1 << 30), 1, 4),
          .cache_bytes = read_bytes(num_threads, shared_bytes(num_threads), 8, 10),
          .eigen_gemm_flops = eigen_gemm_flops(num_threads),
          .blas_flops = blas_flops(num_threads)};
}

}  // namespace heed::bench
