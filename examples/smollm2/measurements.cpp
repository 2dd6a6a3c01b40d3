// SPDX-License-Identifier: MIT
#include "measurements.hpp"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <memory>
#include <span>
#include <sstream>
#include <stdexcept>
#include <utility>
#include <vector>

#include "generate.hpp"
#include "perplexity.hpp"

namespace smollm2 {
namespace {

heed::AnyExecutor executor_of(const Options& options) {
  if (options.threads == 1) return heed::SerialExecutor{};
#ifdef _OPENMP
  if (options.threads > 0) return heed::OpenMpExecutor{options.threads};
#endif
  return {};
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

/// Seconds that one more token takes in each context, the middle of several steps. Contexts take
/// turns, so that what else the machine does hits all.
std::vector<double> decode_seconds(std::span<const std::unique_ptr<Context>> contexts,
                                   Token token) {
  constexpr int rounds = 15;
  std::vector<std::vector<double>> samples(contexts.size());
  for (int round = 0; round < rounds; ++round)
    for (std::size_t i = 0; i < contexts.size(); ++i) {
      const Index seqlen = contexts[i]->seqlen();
      const Stopwatch watch;
      read(*contexts[i], std::span(&token, 1));
      samples[i].push_back(watch.seconds());
      contexts[i]->truncate(seqlen);
    }
  std::vector<double> middles;
  for (std::vector<double>& of_one : samples) {
    std::ranges::nth_element(of_one, of_one.begin() + rounds / 2);
    middles.push_back(of_one[rounds / 2]);
  }
  return middles;
}

}  // namespace

ContextOptions context_options(const Model& model, const Options& options,
                               const std::string& element) {
  return {.capacity = options.context > 0 ? options.context : model.shape().context_length,
          .element = element,
          .placement = options.placement,
          .window = options.window,
          .executor = executor_of(options)};
}

std::string size_text(std::size_t bytes) {
  char text[32];
  if (bytes < 10'000'000)
    std::snprintf(text, sizeof text, "%.1f kB", static_cast<double>(bytes) / 1e3);
  else
    std::snprintf(text, sizeof text, "%.1f MB", static_cast<double>(bytes) / 1e6);
  return text;
}

void measure_perplexity(const Model& model, const Tokenizer& tokenizer, const Options& options) {
  std::vector<Token> tokens = tokenizer.encode(read_file(options.text));
  // Room for one more, which is timed.
  const Index room = context_options(model, options, "").capacity - 1;
  tokens.resize(std::min(tokens.size(), static_cast<std::size_t>(room)));
  if (tokens.size() < 2)
    throw std::runtime_error(options.text.string() + " has fewer than two tokens");
  std::vector<std::string> elements = options.elements;
  if (elements.empty()) {
    const auto all = cache_elements();
    elements.assign(all.begin(), all.end());
    // Latents have no scales per channel.
    if (std::holds_alternative<heed::LatentShape>(model.shape().attention))
      std::erase_if(elements, [](const std::string& name) {
        return name.find("int8-channel") != std::string::npos;
      });
  }
  std::vector<std::unique_ptr<Context>> contexts;
  std::vector<double> perplexities;
  for (const std::string& element : elements) {
    contexts.push_back(make_context(model, context_options(model, options, element)));
    perplexities.push_back(perplexity(*contexts.back(), tokens));
    std::fprintf(stderr, "%s: perplexity %.4f\n", element.c_str(), perplexities.back());
  }
  const std::vector<double> seconds = decode_seconds(contexts, tokens.back());
  std::printf("%zu tokens of %s\n\n", tokens.size(), options.text.filename().c_str());
  std::printf(
      "| cache | bytes a token | in caches | perplexity | ms a token |\n"
      "| --- | --- | --- | --- | --- |\n");
  for (std::size_t i = 0; i < contexts.size(); ++i)
    std::printf("| %s | %zu | %s | %.4f | %.2f |\n", elements[i].c_str(),
                contexts[i]->bytes_per_token(), size_text(contexts[i]->bytes()).c_str(),
                perplexities[i], 1e3 * seconds[i]);
}

void measure_speed(const Model& model, const Options& options) {
  std::printf(
      "| context | prompt tokens a second | generated tokens a second |\n"
      "| --- | --- | --- |\n");
  for (const Index seqlen : options.contexts) {
    std::vector<Token> tokens(static_cast<std::size_t>(seqlen));
    for (Index i = 0; i < seqlen; ++i)
      tokens[static_cast<std::size_t>(i)] =
          static_cast<Token>(i * 7919 % model.shape().vocabulary_size);
    ContextOptions settings = context_options(model, options, options.element);
    settings.capacity = seqlen + 1;
    std::vector<std::unique_ptr<Context>> context;
    context.push_back(make_context(model, settings));
    const Stopwatch watch;
    read(*context.front(), tokens);
    const double seconds = watch.seconds();
    std::printf("| %td | %.0f | %.1f |\n", seqlen, static_cast<double>(seqlen) / seconds,
                1 / decode_seconds(context, tokens.back()).front());
    std::fflush(stdout);
  }
}

}  // namespace smollm2
