// SPDX-License-Identifier: MIT
/// \file
/// Feeds whatever libFuzzer comes up with to the text side of examples/smollm2: as a chat template,
/// and as a text that must come back from words and from tokens. Nothing but a FormatError may
/// escape.
///
///     text_fuzz --seeds=DIRECTORY    writes files to start from
///     text_fuzz DIRECTORY...         as libFuzzer's -help=1 says

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "chat_template.hpp"
#include "format_error.hpp"
#include "pre_tokenizer.hpp"
#include "tokenizer.hpp"

namespace smollm2 {
namespace {

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "text_fuzz: %s\n", what);
  std::abort();
}

constexpr std::array pre_tokenizers{"gpt-2", "smollm", "llama-bpe", "qwen2"};

/// All bytes, in GPT-2's order, and some merges. No special tokens, so every text comes back.
Vocabulary byte_vocabulary(const char* pre_tokenizer) {
  Vocabulary vocabulary;
  vocabulary.model = "gpt2";
  vocabulary.pre_tokenizer = pre_tokenizer;
  for (unsigned code = 0x21; code < 0x144; ++code) {
    if (code == 0xAD || (code >= 0x7F && code <= 0xA0)) continue;
    vocabulary.tokens.emplace_back();
    if (code >= 0x80) vocabulary.tokens.back() += static_cast<char>(0xC0 | code >> 6);
    vocabulary.tokens.back() += static_cast<char>(code < 0x80 ? code : 0x80 | (code & 0x3F));
  }
  for (const std::string_view merge :
       {"a a", "Ġ a", "aa a", "a b", "Ġ Ġ", "ĠĠ ĠĠ", "Ã ©", "b c", "ab c", "Ċ Ċ", "1 2", "Ġa aa"}) {
    vocabulary.merges.emplace_back(merge);
    std::string result(merge);
    result.erase(result.find(' '), 1);
    vocabulary.tokens.push_back(result);
  }
  return vocabulary;
}

void check_template(std::string_view text) {
  const std::vector<ChatMessage> chat{{"system", "Be brief."}, {"user", " Hi!\n"}};
  try {
    const ChatTemplate made(text, "<s>", "</s>");
    for (const auto prompt : {AddGenerationPrompt::no, AddGenerationPrompt::yes})
      made.render(chat, prompt);
  } catch (const FormatError&) {
  }
}

void check_tokens(std::string_view text) {
  static const std::vector<Tokenizer> tokenizers = [] {
    std::vector<Tokenizer> made;
    for (const char* name : pre_tokenizers) made.emplace_back(byte_vocabulary(name));
    return made;
  }();
  for (const Tokenizer& tokenizer : tokenizers) {
    std::string joined;
    const PreTokenizer kind = pre_tokenizer_named(tokenizer.vocabulary().pre_tokenizer);
    for (const std::string_view word : split_words(text, kind)) {
      require(!word.empty(), "there is an empty word");
      joined += word;
    }
    require(joined == text, "the words are not the text");
    require(tokenizer.decode(tokenizer.encode(text)) == text, "the tokens are not the text");
  }
}

void write_seeds(const std::string& directory) {
  constexpr std::array<std::string_view, 5> seeds{
      "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\n"
      "{{- '<s>' }}{% endif %}{{ message.content | trim + eos_token }}{%- endfor -%}",
      "{# a #}{% set x = messages[-1] %}{% if x is defined and not 'a' in x.role or (1 + 2) == 3 %}"
      "{{ raise_exception(\"no\\n\") }}{% elif none %}{{ true }}{% else %}b{% endif %}",
      "I'll say they're   sure\n\n we've 12 34 aaab, DON'T\t you? ",
      "\xC3\xA9t\xC3\xA9 \xE6\x97\xA5\xE6\x9C\xAC\xE3\x80\x80\xF0\x9F\x98\x80\xFF\xC3",
      "{%+ if add_generation_prompt +%}{{ bos_token }}{{ messages | length }}{% endif %}"};
  for (std::size_t i = 0; i < seeds.size(); ++i)
    std::ofstream(directory + "/text_" + std::to_string(i), std::ios::binary) << seeds[i];
}

}  // namespace
}  // namespace smollm2

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  smollm2::check_template(text);
  smollm2::check_tokens(text);
  return 0;
}

extern "C" int LLVMFuzzerInitialize(int* argument_count, char*** arguments) {
  for (int i = 1; i < *argument_count; ++i) {
    const std::string_view argument = (*arguments)[i];
    if (!argument.starts_with("--seeds=")) continue;
    smollm2::write_seeds(std::string(argument.substr(8)));
    std::exit(0);
  }
  return 0;
}
