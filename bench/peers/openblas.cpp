// SPDX-License-Identifier: MIT
// OpenBLAS's sgemm, for the limits alone.
#include <cstdio>

#include "peers/loaded_library.hpp"
#include "peers/peers.hpp"

namespace heed::bench {
namespace {

// As cblas.h has them, for a library with 32-bit integers.
constexpr int row_major = 101, no_transpose = 111;
using Sgemm = void (*)(int order, int transpose_a, int transpose_b, int m, int n, int k,
                       float alpha, const float* a, int stride_a, const float* b, int stride_b,
                       float beta, float* c, int stride_c);

struct OpenBlas {
  LoadedLibrary library{HEED_OPENBLAS_LIBRARY};
  Sgemm sgemm = library.find<Sgemm>("cblas_sgemm");
  void (*set_num_threads)(int) = library.find<void (*)(int)>("openblas_set_num_threads");
  const char* (*config)() = library.find<const char* (*)()>("openblas_get_config");
};

const OpenBlas& open_blas() {
  static const OpenBlas blas;
  return blas;
}

void multiply(Index n, const float* a, const float* b, float* c) {
  const int size = static_cast<int>(n);
  open_blas().sgemm(row_major, no_transpose, no_transpose, size, size, size, 1, a, size, b, size, 0,
                    c, size);
}

/// "0.3.21" of "OpenBLAS 0.3.21 NO_LAPACKE ..."
std::string version_of(const std::string& config) {
  const auto begin = config.find(' ') + 1;
  return config.substr(begin, config.find(' ', begin) - begin);
}

}  // namespace

std::optional<BlasPeer> openblas_peer() {
  try {
    return BlasPeer{
        "OpenBLAS", version_of(open_blas().config()),
        [](Index num_threads) { open_blas().set_num_threads(static_cast<int>(num_threads)); },
        multiply};
  } catch (const std::runtime_error& error) {
    std::fprintf(stderr, "speed: without OpenBLAS: %s\n", error.what());
    return std::nullopt;
  }
}

}  // namespace heed::bench
