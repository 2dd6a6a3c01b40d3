// SPDX-License-Identifier: MIT
/// \file
/// The tables of `smollm2 perplexity` and `smollm2 speed`.
#pragma once

#include <cstddef>
#include <string>

#include "context.hpp"
#include "options.hpp"
#include "tokenizer.hpp"

namespace smollm2 {

/// What a context of the model is made with, as the command line says.
ContextOptions context_options(const Model& model, const Options& options,
                               const std::string& element);

/// "12.3 MB", or kilobytes below 10 MB.
std::string size_text(std::size_t bytes);

/// Prints how well the model predicts a text with each element, what its caches hold then, and what
/// one more token takes; these steps are timed in turns.
/// \throws std::runtime_error if the text cannot be read, or has fewer than two tokens
void measure_perplexity(const Model& model, const Tokenizer& tokenizer, const Options& options);

/// Prints tokens per second at each context.
void measure_speed(const Model& model, const Options& options);

}  // namespace smollm2
