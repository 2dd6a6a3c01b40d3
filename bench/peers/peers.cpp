// SPDX-License-Identifier: MIT
#include "peers/peers.hpp"

#include <utility>

namespace heed::bench {

std::vector<Peer> peers() {
  std::vector<Peer> found;
#ifdef HEED_BENCH_GGML
  found.push_back(ggml_peer());
#endif
#ifdef HEED_BENCH_IK_LLAMA
  if (auto peer = ik_llama_peer()) found.push_back(*std::move(peer));
#endif
#ifdef HEED_BENCH_ONNXRUNTIME
  found.push_back(onnxruntime_peer());
#endif
#ifdef HEED_BENCH_TORCH
  found.push_back(torch_peer());
#endif
  return found;
}

std::optional<BlasPeer> blas_peer() {
#ifdef HEED_BENCH_OPENBLAS
  return openblas_peer();
#else
  return std::nullopt;
#endif
}

}  // namespace heed::bench
