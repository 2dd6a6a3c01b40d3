// SPDX-License-Identifier: MIT
/// \file
/// Choosing the next token.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <random>
#include <span>
#include <vector>

#include "vocabulary.hpp"  // Token

namespace smollm2 {

struct SamplerOptions {
  double temperature = 0;  ///< 0 takes the likeliest token
  double top_p = 1;        ///< of the likeliest tokens, as many as have this probability together
  std::uint32_t seed = 1;
};

/// The likeliest token; of several, the first.
inline Token likeliest(std::span<const float> logits) {
  return static_cast<Token>(std::ranges::max_element(logits) - logits.begin());
}

/// Draws tokens with softmax(logits / temperature), cut to top_p.
/// Source: Holtzman et al. 2019 (nucleus sampling), arXiv:1904.09751.
class Sampler {
 public:
  explicit Sampler(const SamplerOptions& options) : options_(options), engine_(options.seed) {}

  /// \param logits  [vocabulary_size]
  Token operator()(std::span<const float> logits) {
    if (options_.temperature <= 0) return likeliest(logits);
    std::vector<Token> order(logits.size());
    std::iota(order.begin(), order.end(), Token{0});
    const auto logit = [&](Token token) { return logits[static_cast<std::size_t>(token)]; };
    std::ranges::stable_sort(order, std::greater{}, logit);
    std::vector<double> sums;  // of the probabilities of the tokens up to this one, unnormalised
    const double largest = logit(order.front());
    double all = 0;
    for (const float value : logits) all += std::exp((value - largest) / options_.temperature);
    double sum = 0;
    for (const Token token : order) {
      sums.push_back(sum += std::exp((logit(token) - largest) / options_.temperature));
      if (sum >= options_.top_p * all) break;
    }
    // The same number on every platform, which uniform_real_distribution does not promise.
    const double drawn = 0x1p-32 * static_cast<double>(engine_()) * sum;
    const auto found = std::ranges::upper_bound(sums, drawn);
    return order[static_cast<std::size_t>(std::min(found - sums.begin(), std::ssize(sums) - 1))];
  }

 private:
  SamplerOptions options_;
  std::mt19937 engine_;
};

}  // namespace smollm2
