// SPDX-License-Identifier: MIT
#include "context.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace smollm2 {

// Compiled in context_ELEMENT.cpp, side by side.
template <class Element>
std::unique_ptr<Context> make_context_of(const Model& model, const ContextOptions& options);

namespace {

using Make = std::unique_ptr<Context> (*)(const Model&, const ContextOptions&);

constexpr std::pair<std::string_view, Make> makers[] = {
    {"f32", make_context_of<float>},
    {"f16", make_context_of<heed::f16>},
    {"bf16", make_context_of<heed::bf16>},
    {"bf16-native", make_context_of<heed::Native<heed::bf16>>},
    {"int8", make_context_of<heed::int8>},
    {"int8-native", make_context_of<heed::Native<heed::int8>>},
    {"int8-channel", make_context_of<heed::PerChannel<heed::int8>>},
    {"int8-rotated", make_context_of<heed::Rotated<heed::int8>>},
    {"int4", make_context_of<heed::int4>},
    {"int4-native", make_context_of<heed::Native<heed::int4>>},
    {"int4-rotated", make_context_of<heed::Rotated<heed::int4>>},
};

}  // namespace

std::vector<std::string_view> cache_elements() {
  std::vector<std::string_view> names;
  for (const auto& [name, make] : makers) names.push_back(name);
  return names;
}

std::unique_ptr<Context> make_context(const Model& model, const ContextOptions& options) {
  for (const auto& [name, make] : makers)
    if (name == options.element) return make(model, options);
  std::string known;
  for (const std::string_view name : cache_elements()) known += " " + std::string(name);
  throw std::invalid_argument("no cache stores '" + options.element + "'; there are" + known);
}

std::vector<float> read(Context& context, std::span<const Token> tokens) {
  if (tokens.empty()) throw std::invalid_argument("there is no token to read");
  std::vector<float> logits(static_cast<std::size_t>(context.model().shape().vocabulary_size));
  for (std::size_t begin = 0; begin < tokens.size(); begin += max_append) {
    const std::size_t count = std::min<std::size_t>(max_append, tokens.size() - begin);
    const Matrix x = context.append(tokens.subspan(begin, count));
    if (begin + count == tokens.size())
      context.model().predict(ConstRows(x).middle_rows(x.rows() - 1, 1), Rows(std::span(logits)),
                              context.executor());
  }
  return logits;
}

}  // namespace smollm2
