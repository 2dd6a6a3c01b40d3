// SPDX-License-Identifier: MIT
/// \file
/// Other libraries that compute attention or products, each there if CMake found it: README.md.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "speed/contender.hpp"

namespace heed::bench {

/// A library that computes attention.
struct Peer {
  std::string name, version;
  std::vector<ContenderKind> kinds;
  std::vector<ContenderKind> backward_kinds = {};  ///< of Pass::backward, by names of `kinds`
};

/// Those that this program was built with.
std::vector<Peer> peers();

/// A library that multiplies matrices.
struct BlasPeer {
  std::string name, version;
  void (*set_num_threads)(Index num_threads);
  /// c = a b, all n x n and row-major.
  void (*multiply)(Index n, const float* a, const float* b, float* c);
};

/// OpenBLAS, if this program was built with it and it is still there.
std::optional<BlasPeer> blas_peer();

/// One each; defined where CMake found the library.
Peer ggml_peer();
std::optional<Peer> ik_llama_peer();  ///< if it is still there
Peer onnxruntime_peer();
Peer torch_peer();
ContenderKind torch_backward_kind();
std::optional<BlasPeer> openblas_peer();

}  // namespace heed::bench
