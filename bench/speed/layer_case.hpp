// SPDX-License-Identifier: MIT
/// \file
/// Whole attention layers of published models, and their parts to be timed alone.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "heed/layers/latent_attention.hpp"

namespace heed::bench {

/// What a pass of a layer is given: so many new tokens on so many cached ones.
struct PassSize {
  Index seqlen_q, cached;
  Index seqlen_kv() const { return cached + seqlen_q; }
};

/// A layer with random weights, random tokens in its cache and random input, ready for the same
/// pass again and again. The parts work on operands of the pass's sizes; `attend` needs a `forward`
/// before it, which leaves the new tokens in the cache.
class LayerCase {
 public:
  virtual ~LayerCase() = default;
  virtual void forward() = 0;
  /// The projections of x and of the heads' results; with MLA the norm of the latents too.
  virtual void project() = 0;
  virtual void rotate() = 0;
  /// Over the cache; with MLA what makes queries for latents, or keys and values of them, too.
  virtual void attend() = 0;
  /// Of forward's first, middle and last row, against float64. NaN if one of their elements is.
  virtual double largest_error() const = 0;
};

/// 32 heads of 128, 8 groups. \tparam W  what its weights are made of: float or bf16
template <class W>
std::unique_ptr<LayerCase> make_llama_3_8b(const PassSize& size, Index num_threads);
/// 16 heads of 128 + 64 over latents of 512 + 64. \tparam W  as above
template <class W>
std::unique_ptr<LayerCase> make_deepseek_v2_lite(const PassSize& size, Index num_threads,
                                                 MlaPath path);

/// Of which the FLOPs decide between the paths.
LatentShape deepseek_v2_lite_shape();

}  // namespace heed::bench
