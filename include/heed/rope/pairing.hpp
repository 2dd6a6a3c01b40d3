// SPDX-License-Identifier: MIT
/// \file
/// Which two columns RoPE turns together. Layer 2, public.
#pragma once

namespace heed {

/// The columns of pair i; a property of the model.
enum class RopePairing {
  half_split,   ///< i and i + rope_dim / 2: Llama, GPT-NeoX and most others
  interleaved,  ///< 2i and 2i + 1: GPT-J, Cohere, GLM, Llama 4, DeepSeek
};

}  // namespace heed
