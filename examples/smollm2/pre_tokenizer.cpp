// SPDX-License-Identifier: MIT
/// \file
/// Words without regular expressions: each rule says how long the word at the beginning of a text
/// is. The comments have the alternatives of the regular expressions that the models were made
/// with.

#include "pre_tokenizer.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include <utf8proc.h>

#include "format_error.hpp"

namespace smollm2 {
namespace {

enum class Kind { none, letter, number, space, other };  // none: beyond the end

struct Character {
  std::int32_t code;
  Kind kind;
  std::size_t offset;  // of its first byte
};
using Characters = std::span<const Character>;

constexpr std::int32_t replacement_character = 0xFFFD;

Kind kind_of(std::int32_t code) {
  switch (utf8proc_category(code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: return Kind::letter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: return Kind::number;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return Kind::space;
    default: return (code >= '\t' && code <= '\r') || code == 0x85 ? Kind::space : Kind::other;
  }
}

std::vector<Character> characters_of(std::string_view text) {
  std::vector<Character> characters;
  characters.reserve(text.size());
  for (std::size_t offset = 0; offset < text.size();) {
    const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + offset;
    utf8proc_int32_t code = 0;
    utf8proc_ssize_t size =
        utf8proc_iterate(bytes, static_cast<utf8proc_ssize_t>(text.size() - offset), &code);
    if (size <= 0) {
      code = replacement_character;
      size = 1;
    }
    characters.push_back({code, kind_of(code), offset});
    offset += static_cast<std::size_t>(size);
  }
  return characters;
}

std::int32_t code_at(Characters text, std::size_t place) {
  return place < text.size() ? text[place].code : -1;
}
Kind kind_at(Characters text, std::size_t place) {
  return place < text.size() ? text[place].kind : Kind::none;
}
bool is_line_end(std::int32_t code) { return code == '\r' || code == '\n'; }

std::size_t end_of(Kind kind, Characters text, std::size_t place) {
  while (kind_at(text, place) == kind) ++place;
  return place;
}

enum class Capitals { differ, match };

// 's|'t|'re|'ve|'m|'ll|'d
std::size_t contraction_size(Characters text, Capitals capitals) {
  if (code_at(text, 0) != '\'') return 0;
  const auto letter_at = [&](std::size_t place) {
    const std::int32_t code = code_at(text, place);
    return capitals == Capitals::match && code >= 'A' && code <= 'Z' ? code - 'A' + 'a' : code;
  };
  const std::int32_t first = letter_at(1), second = letter_at(2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') ||
      (first == 'l' && second == 'l'))
    return 3;
  return 0;
}

// \s+(?!\S)|\s+
std::size_t space_size(Characters text) {
  const std::size_t end = end_of(Kind::space, text, 0);
  return end > 1 && end < text.size() ? end - 1 : end;  // the last one belongs to the next word
}

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
std::size_t gpt2_size(Characters text) {
  if (const std::size_t size = contraction_size(text, Capitals::differ)) return size;
  const std::size_t start = code_at(text, 0) == ' ' ? 1 : 0;
  const Kind kind = kind_at(text, start);
  if (kind == Kind::none || kind == Kind::space) return space_size(text);
  return end_of(kind, text, start);
}

// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,most_digits}|
//  ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
std::size_t llama3_size(Characters text, std::size_t most_digits) {
  if (const std::size_t size = contraction_size(text, Capitals::match)) return size;
  const std::int32_t code = code_at(text, 0);
  const Kind kind = kind_at(text, 0);
  if (kind == Kind::number) return std::min(end_of(Kind::number, text, 0), most_digits);
  if (kind == Kind::letter || (!is_line_end(code) && kind_at(text, 1) == Kind::letter))
    return end_of(Kind::letter, text, 1);
  const std::size_t start = code == ' ' ? 1 : 0;
  if (kind_at(text, start) == Kind::other) {
    std::size_t end = end_of(Kind::other, text, start);
    while (is_line_end(code_at(text, end))) ++end;
    return end;
  }
  for (std::size_t end = end_of(Kind::space, text, 0); end > 0; --end)
    if (is_line_end(text[end - 1].code)) return end;
  return space_size(text);
}

std::size_t word_size(Characters text, PreTokenizer pre_tokenizer) {
  switch (pre_tokenizer) {
    case PreTokenizer::llama3: return llama3_size(text, 3);
    case PreTokenizer::qwen2: return llama3_size(text, 1);
    case PreTokenizer::gpt2:
    case PreTokenizer::smollm: break;
  }
  return gpt2_size(text);
}

/// How much of the text the rules see at once. SmolLM's see one digit, or what lies between two.
std::size_t part_size(Characters text, PreTokenizer pre_tokenizer) {
  if (pre_tokenizer != PreTokenizer::smollm) return text.size();
  std::size_t size = 1;
  if (text.front().kind != Kind::number)
    while (size < text.size() && text[size].kind != Kind::number) ++size;
  return size;
}

}  // namespace

PreTokenizer pre_tokenizer_named(std::string_view name) {
  if (name == "gpt-2") return PreTokenizer::gpt2;
  if (name == "smollm") return PreTokenizer::smollm;
  if (name == "llama-bpe") return PreTokenizer::llama3;
  if (name == "qwen2") return PreTokenizer::qwen2;
  throw FormatError("the pre-tokenizer \"" + std::string(name) +
                    "\" is not supported; gpt-2, smollm, llama-bpe and qwen2 are");
}

std::vector<std::string_view> split_words(std::string_view text, PreTokenizer pre_tokenizer) {
  const std::vector<Character> characters = characters_of(text);
  std::vector<std::string_view> words;
  std::size_t begin = 0;  // of the word, in bytes
  for (Characters rest = characters; !rest.empty();) {
    Characters part = rest.first(part_size(rest, pre_tokenizer));
    while (!part.empty()) {
      const std::size_t size = word_size(part, pre_tokenizer);
      part = part.subspan(size);
      rest = rest.subspan(size);
      const std::size_t end = rest.empty() ? text.size() : rest.front().offset;
      words.push_back(text.substr(begin, end - begin));
      begin = end;
    }
  }
  return words;
}

}  // namespace smollm2
