// SPDX-License-Identifier: MIT
/// \file
/// Text in, text out.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <span>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "context.hpp"
#include "sampler.hpp"
#include "tokenizer.hpp"

namespace smollm2 {

/// What a generation took.
struct Generation {
  Index num_prompt_tokens = 0;
  std::vector<Token> tokens;  ///< the last may be one that ends the text
  double prompt_seconds = 0, seconds = 0;
};

/// Seconds since it was made.
class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

/// Reads the prompt and goes on from there, until a token ends the text, `most` are generated or
/// the context is full.
/// \param show  is given each token's text as soon as it is known
inline Generation generate(Context& context, const Tokenizer& tokenizer,
                           std::span<const Token> prompt, Index most, Sampler& sampler,
                           const std::function<void(std::string_view)>& show) {
  Generation result{.num_prompt_tokens = std::ssize(prompt), .tokens = {}};
  const Stopwatch reading;
  std::vector<float> logits = read(context, prompt);
  result.prompt_seconds = reading.seconds();
  const Stopwatch writing;
  while (true) {
    if (std::ranges::any_of(logits, [](float logit) { return std::isnan(logit); }))
      throw std::runtime_error("the model's logits are not numbers");
    const Token token = sampler(logits);
    result.tokens.push_back(token);
    if (tokenizer.ends(token)) break;
    show(tokenizer.decode(token));
    if (std::ssize(result.tokens) == most || context.seqlen() == context.capacity()) break;
    logits = read(context, std::span(&token, 1));
  }
  result.seconds = writing.seconds();
  return result;
}

}  // namespace smollm2
