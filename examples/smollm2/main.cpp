// SPDX-License-Identifier: MIT
// Runs a Llama-family model with heed's attention: see README.md, or --help.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <iostream>
#include <string>

#include "chat_template.hpp"
#include "format_error.hpp"
#include "generate.hpp"
#include "measurements.hpp"
#include "options.hpp"

namespace {

using namespace smollm2;

std::string token_text(const Tokenizer& tokenizer, std::optional<Token> token) {
  if (!token) return "";
  return tokenizer.vocabulary().tokens[static_cast<std::size_t>(*token)];
}

void print(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
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
      : tokenizer_(tokenizer), template_(tokenizer.vocabulary().chat_template,
                                         token_text(tokenizer, tokenizer.vocabulary().begin),
                                         token_text(tokenizer, tokenizer.vocabulary().end)) {
    if (tokenizer.vocabulary().chat_template.empty())
      throw FormatError("the model's file has no chat template; with --raw none is used");
    if (!system.empty()) messages_.push_back({"system", system});
  }
  void add(std::string role, std::string content) {
    messages_.push_back({std::move(role), std::move(content)});
  }
  std::vector<Token> tokens() const {
    std::vector<Token> tokens =
        tokenizer_.encode(template_.render(messages_, AddGenerationPrompt::yes));
    // Where the template begins with what the tokenizer puts in front, once is enough.
    if (tokens.size() > 1 && tokens[0] == tokens[1] && tokens[0] == tokenizer_.vocabulary().begin)
      tokens.erase(tokens.begin());
    return tokens;
  }

 private:
  const Tokenizer& tokenizer_;
  ChatTemplate template_;
  std::vector<ChatMessage> messages_;
};

int generate_once(const Model& model, const Tokenizer& tokenizer, const Options& options) {
  std::vector<Token> prompt;
  if (options.prompt_form == Options::Prompt::raw) {
    prompt = tokenizer.encode(options.prompt);
  } else {
    Chat chat(tokenizer, options.system);
    chat.add("user", options.prompt);
    prompt = chat.tokens();
  }
  const std::unique_ptr<Context> context =
      make_context(model, context_options(model, options, options.element));
  Sampler sampler(options.sampler);
  const Generation generation =
      generate(*context, tokenizer, prompt, options.num_tokens, sampler, print);
  report(*context, generation);
  return 0;
}

/// Each turn reads what the caches do not have yet: the conversation so far is their beginning.
int chat(const Model& model, const Tokenizer& tokenizer, const Options& options) {
  const ContextOptions settings = context_options(model, options, options.element);
  std::unique_ptr<Context> context = make_context(model, settings);
  Sampler sampler(options.sampler);
  Chat chat(tokenizer, options.system);
  std::vector<Token> cached;
  for (std::string line; std::fputs("> ", stderr), std::getline(std::cin, line) && !line.empty();) {
    chat.add("user", line);
    const std::vector<Token> all = chat.tokens();
    // What was generated may be cut into other tokens when it is read back.
    const auto same = std::ranges::mismatch(all, cached).in1 - all.begin();
    auto kept = std::min(same, std::ssize(all) - 1);
    try {
      context->truncate(kept);
    } catch (const heed::ShapeError&) {  // a window has let go what these tokens would see
      context = make_context(model, settings);
      kept = 0;
    }
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

int run(const Options& options) {
  if (options.command == Options::Command::help) {
    print(help_text());
    return 0;
  }
  if (!std::filesystem::exists(options.model))
    throw std::runtime_error(options.model.string() +
                             " is not there; examples/smollm2/get-model fetches SmolLM2");
  const Model model(options.model, options.weights);
  if (options.command == Options::Command::speed) {
    measure_speed(model, options);
    return 0;
  }
  const Tokenizer tokenizer(vocabulary_of(model.file()));
  if (const Index count = std::ssize(tokenizer.vocabulary().tokens);
      count != model.shape().vocabulary_size)
    throw std::runtime_error("the file names " + std::to_string(count) + " tokens and has " +
                             std::to_string(model.shape().vocabulary_size) + " embeddings");
  switch (options.command) {
    case Options::Command::generate: return generate_once(model, tokenizer, options);
    case Options::Command::perplexity: measure_perplexity(model, tokenizer, options); return 0;
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
