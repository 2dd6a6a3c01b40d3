// SPDX-License-Identifier: MIT
/// \file
/// How well a model predicts a text.
#pragma once

#include <cmath>
#include <span>
#include <vector>

#include "context.hpp"

namespace smollm2 {

/// -log of the probability that logits give to a token.
inline double surprise(std::span<const float> logits, Token token) {
  const Eigen::Map<const Eigen::ArrayXf> all(logits.data(), std::ssize(logits));
  const float largest = all.maxCoeff();
  const double sum = (all - largest).exp().cast<double>().sum();
  return std::log(sum) + largest - logits[static_cast<std::size_t>(token)];
}

/// exp of the mean surprise at each token but the first, every one predicted from all before it
/// that the context keeps.
/// \param tokens  at least two; at most as many as the context has room for
inline double perplexity(Context& context, std::span<const Token> tokens) {
  const Model& model = context.model();
  const Index vocabulary_size = model.shape().vocabulary_size;
  constexpr Index rows_at_once = 64;  // logits are wide
  Matrix logits(rows_at_once, vocabulary_size);
  double sum = 0;
  for (std::size_t begin = 0; begin < tokens.size(); begin += max_append) {
    const std::size_t count = std::min<std::size_t>(max_append, tokens.size() - begin);
    const Matrix x = context.append(tokens.subspan(begin, count));
    for (Index row = 0; row < x.rows(); row += rows_at_once) {
      const Index rows = std::min(rows_at_once, x.rows() - row);
      model.predict(ConstRows(x).middle_rows(row, rows), Rows(logits).middle_rows(0, rows),
                    context.executor());
      for (Index r = 0; r < rows; ++r) {
        const std::size_t next = begin + static_cast<std::size_t>(row + r) + 1;
        if (next < tokens.size())
          sum += surprise({logits.row(r).data(), static_cast<std::size_t>(vocabulary_size)},
                          tokens[next]);
      }
    }
  }
  return std::exp(sum / static_cast<double>(tokens.size() - 1));
}

}  // namespace smollm2
