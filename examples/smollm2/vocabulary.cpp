// SPDX-License-Identifier: MIT
/// \file
/// Takes the vocabulary out of a model file.

#include "vocabulary.hpp"

#include <cstddef>
#include <string_view>

#include "format_error.hpp"
#include "gguf.hpp"

namespace smollm2 {
namespace {

[[noreturn]] void fail(const GgufFile& file, std::string_view key, const std::string& what) {
  throw FormatError(file.name() + ": key " + std::string(key) + ": " + what);
}

std::string text_or_nothing(const GgufFile& file, std::string_view key) {
  const std::string* text = file.find_text(key);
  return text ? *text : "";
}

std::vector<TokenKind> kinds_of(const GgufFile& file, std::size_t num_tokens) {
  constexpr std::string_view key = "tokenizer.ggml.token_type";
  const auto numbers = file.find_integers(key);
  if (!numbers) return std::vector<TokenKind>(num_tokens, TokenKind::normal);
  if (numbers->size() != num_tokens)
    fail(file, key,
         std::to_string(numbers->size()) + " kinds for " + std::to_string(num_tokens) + " tokens");
  std::vector<TokenKind> kinds;
  for (const std::int64_t number : *numbers) {
    if (number < 1 || number > 6) fail(file, key, "kind " + std::to_string(number) + " is unknown");
    kinds.push_back(static_cast<TokenKind>(number));
  }
  return kinds;
}

std::optional<Token> find_token(const GgufFile& file, std::string_view key,
                                std::size_t num_tokens) {
  const std::optional<std::int64_t> number = file.find_integer(key);
  if (!number) return std::nullopt;
  if (*number < 0 || static_cast<std::uint64_t>(*number) >= num_tokens)
    fail(file, key,
         "there is no token " + std::to_string(*number) + " among " + std::to_string(num_tokens));
  return static_cast<Token>(*number);
}

}  // namespace

Vocabulary vocabulary_of(const GgufFile& file) {
  Vocabulary vocabulary;
  vocabulary.model = file.text("tokenizer.ggml.model");
  vocabulary.pre_tokenizer = text_or_nothing(file, "tokenizer.ggml.pre");
  vocabulary.tokens = file.texts("tokenizer.ggml.tokens");
  const std::size_t num_tokens = vocabulary.tokens.size();
  vocabulary.kinds = kinds_of(file, num_tokens);
  if (const auto* merges = file.find_texts("tokenizer.ggml.merges")) vocabulary.merges = *merges;
  vocabulary.begin = find_token(file, "tokenizer.ggml.bos_token_id", num_tokens);
  vocabulary.end = find_token(file, "tokenizer.ggml.eos_token_id", num_tokens);
  vocabulary.end_of_turn = find_token(file, "tokenizer.ggml.eot_token_id", num_tokens);
  // Llama 3's files may leave it to their readers to know.
  const bool known_to_begin = vocabulary.pre_tokenizer == "llama-bpe" && vocabulary.begin;
  if (file.find_integer("tokenizer.ggml.add_bos_token").value_or(known_to_begin) != 0)
    vocabulary.add_begin = Vocabulary::Begin::added;
  vocabulary.chat_template = text_or_nothing(file, "tokenizer.chat_template");
  return vocabulary;
}

}  // namespace smollm2
