// SPDX-License-Identifier: MIT
// Runs a Llama-family model with heed's attention: see README.md, or --help.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>

#include "chat_template.hpp"
#include "generate.hpp"
#include "options.hpp"
#include "perplexity.hpp"

namespace {

using namespace smollm2;

heed::AnyExecutor executor_of(const Options& options) {
  if (options.threads == 1) return heed::SerialExecutor{};
#ifdef _OPENMP
  if (options.threads > 0) return heed::OpenMpExecutor{options.threads};
#endif
  return {};
}

ContextOptions context_options(const Model& model, const Options& options,
                               const std::string& element) {
  return {.capacity = options.context > 0 ? options.context : model.shape().context_length,
          .element = element,
          .placement = options.placement,
          .window = options.window,
          .executor = executor_of(options)};
}

std::string token_text(const Tokenizer& tokenizer, std::optional<Token> token) {
  if (!token) return "";
  return tokenizer.vocabulary().tokens[static_cast<std::size_t>(*token)];
}

void print(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

/// Some number of megabytes, or kilobytes if it is small.
std::string size_text(std::size_t bytes) {
  char text[32];
  if (bytes < 10'000'000)
    std::snprintf(text, sizeof text, "%.1f kB", static_cast<double>(bytes) / 1e3);
  else
    std::snprintf(text, sizeof text, "%.1f MB", static_cast<double>(bytes) / 1e6);
  return text;
}

void report(const Context& context, const Generation& generation) {
  const auto generated = static_cast<double>(generation.tokens.size());
  std::fprintf(stderr,
               "\n%td prompt tokens at %.1f a second, %zu generated at %.1f a second\n"
               "caches: %zu bytes a token, %s for %td tokens\n",
               generation.num_prompt_tokens,
               static_cast<double>(generation.num_prompt_tokens) / generation.prompt_seconds,
               generation.tokens.size(), generated / generation.seconds, context.bytes_per_token(),
               size_text(context.bytes()).c_str(), context.seqlen());
}

/// A template of the file's, filled with messages.
class Chat {
 public:
  Chat(const Tokenizer& tokenizer, const std::string& system)
      : template_(tokenizer.vocabulary().chat_template,
                  token_text(tokenizer, tokenizer.vocabulary().begin),
                  token_text(tokenizer, tokenizer.vocabulary().end)) {
    if (!system.empty()) messages_.push_back({"system", system});
  }
  void add(std::string role, std::string content) {
    messages_.push_back({std::move(role), std::move(content)});
  }
  std::string text() const { return template_.render(messages_, AddGenerationPrompt::yes); }

 private:
  ChatTemplate template_;
  std::vector<ChatMessage> messages_;
};

int generate_once(const Model& model, const Tokenizer& tokenizer, const Options& options) {
  std::string text = options.prompt;
  if (options.prompt_form == Options::Prompt::chat) {
    Chat chat(tokenizer, options.system);
    chat.add("user", options.prompt);
    text = chat.text();
  }
  const std::unique_ptr<Context> context =
      make_context(model, context_options(model, options, options.element));
  Sampler sampler(options.sampler);
  const std::vector<Token> prompt = tokenizer.encode(text);
  const Generation generation =
      generate(*context, tokenizer, prompt, options.num_tokens, sampler, print);
  report(*context, generation);
  return 0;
}

/// Each turn reads what the caches do not have yet: the conversation so far is their beginning.
int chat(const Model& model, const Tokenizer& tokenizer, const Options& options) {
  const std::unique_ptr<Context> context =
      make_context(model, context_options(model, options, options.element));
  Sampler sampler(options.sampler);
  Chat chat(tokenizer, options.system);
  std::vector<Token> cached;
  for (std::string line; std::fputs("> ", stderr), std::getline(std::cin, line) && !line.empty();) {
    chat.add("user", line);
    const std::vector<Token> all = tokenizer.encode(chat.text());
    // What was generated may be cut into other tokens when it is read back.
    const auto same = std::ranges::mismatch(all, cached).in1 - all.begin();
    const auto kept = std::min(same, std::ssize(all) - 1);
    context->truncate(kept);
    std::string answer;
    const Generation generation =
        generate(*context, tokenizer, std::span(all).subspan(static_cast<std::size_t>(kept)),
                 options.num_tokens, sampler, [&](std::string_view text) {
                   answer += text;
                   print(text);
                 });
    report(*context, generation);
    chat.add("assistant", answer);
    cached = all;
    cached.insert(cached.end(), generation.tokens.begin(), generation.tokens.end());
    cached.resize(static_cast<std::size_t>(context->seqlen()));
  }
  return 0;
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

/// Middle of the seconds that one more token takes.
double decode_seconds(Context& context, Token token) {
  std::vector<double> seconds;
  const Index seqlen = context.seqlen();
  for (int i = 0; i < 15; ++i) {
    const Stopwatch watch;
    read(context, std::span(&token, 1));
    seconds.push_back(watch.seconds());
    context.truncate(seqlen);
  }
  std::ranges::nth_element(seconds, seconds.begin() + 7);
  return seconds[7];
}

int measure_perplexity(const Model& model, const Tokenizer& tokenizer, const Options& options) {
  std::vector<Token> tokens = tokenizer.encode(read_file(options.text));
  const auto room = static_cast<std::size_t>(options.context > 0 ? options.context
                                                                 : model.shape().context_length);
  if (tokens.size() > room - 1) tokens.resize(room - 1);  // one for decode_seconds
  std::vector<std::string> elements = options.elements;
  if (elements.empty()) {
    const auto all = cache_elements();
    elements.assign(all.begin(), all.end());
  }
  std::printf("%zu tokens of %s\n\n", tokens.size(), options.text.filename().c_str());
  std::printf(
      "| cache | bytes a token | in caches | perplexity | ms a token |\n"
      "| --- | --- | --- | --- | --- |\n");
  for (const std::string& element : elements) {
    const std::unique_ptr<Context> context =
        make_context(model, context_options(model, options, element));
    const double value = perplexity(*context, tokens);
    std::printf("| %s | %zu | %s | %.4f | %.2f |\n", element.c_str(), context->bytes_per_token(),
                size_text(context->bytes()).c_str(), value,
                1e3 * decode_seconds(*context, tokens.back()));
    std::fflush(stdout);
  }
  return 0;
}

int measure_speed(const Model& model, const Options& options) {
  std::printf(
      "| context | prompt tokens a second | generated tokens a second |\n"
      "| --- | --- | --- |\n");
  for (const Index seqlen : options.contexts) {
    std::vector<Token> tokens(static_cast<std::size_t>(seqlen));
    for (std::size_t i = 0; i < tokens.size(); ++i)
      tokens[i] =
          static_cast<Token>(i * 7919 % static_cast<std::size_t>(model.shape().vocabulary_size));
    ContextOptions settings = context_options(model, options, options.element);
    settings.capacity = std::max(settings.capacity, seqlen + 1);
    const std::unique_ptr<Context> context = make_context(model, settings);
    const Stopwatch watch;
    read(*context, tokens);
    const double seconds = watch.seconds();
    std::printf("| %td | %.0f | %.1f |\n", seqlen, static_cast<double>(seqlen) / seconds,
                1 / decode_seconds(*context, tokens.back()));
    std::fflush(stdout);
  }
  return 0;
}

int run(const Options& options) {
  if (options.command == Options::Command::help) {
    print(help_text());
    return 0;
  }
  const Model model(options.model, options.weights);
  if (options.command == Options::Command::speed) return measure_speed(model, options);
  const Tokenizer tokenizer(vocabulary_of(model.file()));
  switch (options.command) {
    case Options::Command::generate: return generate_once(model, tokenizer, options);
    case Options::Command::perplexity: return measure_perplexity(model, tokenizer, options);
    default: return chat(model, tokenizer, options);
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(smollm2::parse_options(argc, argv));
  } catch (const smollm2::OptionError& error) {
    std::fprintf(stderr, "smollm2: %s\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "smollm2: %s\n", error.what());
    return 1;
  }
}
