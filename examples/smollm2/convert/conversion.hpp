// SPDX-License-Identifier: MIT
/// \file
/// Other attention variants of a grouped-query checkpoint.
#pragma once

#include <filesystem>

#include <heed/heed.hpp>

#include "gguf.hpp"
#include "gguf_writer.hpp"

namespace smollm2 {

using heed::Index;

/// Another number of key/value heads: a multiple of the model's repeats each head, which changes
/// nothing (MHA); a divisor takes the mean of neighbouring heads, as GQA's authors do before they
/// train on (MQA with 1). Without that training, means lose much.
/// Source: Ainslie et al. 2023, arXiv:2305.13245, section 2.1.
/// \throws std::invalid_argument if num_kv_heads is neither, or does not divide the query heads
void convert_kv_heads(const GgufFile& file, Index num_kv_heads, GgufWriter& out);

/// Query heads of a model.
Index num_heads(const GgufFile& file);

/// The same model with every weight as F32: for programs that compute otherwise where weights are
/// quantized.
void convert_to_float(const GgufFile& file, GgufWriter& out);

/// How much of a latent model is what it was.
struct LatentOptions {
  Index rotated_pairs;  ///< of each kv head, those that turn fastest; the others turn no more
  Index latent_dim;     ///< width of the latent, in place of all that it is made from
};

/// Multi-head latent attention: keys that turn go to the shared rotated key, a slot for each kv
/// head, with the same frequencies in each; a query head has zeros in the slots of the others. The
/// other key columns and the values go through a latent.
///
/// With all pairs rotated and a latent as wide as the values, everything is where it was and costs
/// the same memory: the results are GQA's to rounding. With fewer, the columns left do not turn,
/// and the latent keeps the largest singular values of their weights and the values' together
/// (inputs weighted by the norm's gain, keys scaled to the values' size). Without training on, that
/// loses much.
/// Sources: Meng et al. 2025 (TransMLA), arXiv:2502.07864; Ji et al. 2025 (MHA2MLA),
/// arXiv:2502.14837.
/// \throws std::invalid_argument if an option is out of range
void convert_to_latent(const GgufFile& file, const LatentOptions& options, GgufWriter& out);

/// What convert_to_latent keeps unless told otherwise: all.
LatentOptions exact_latent(const GgufFile& file);

}  // namespace smollm2
