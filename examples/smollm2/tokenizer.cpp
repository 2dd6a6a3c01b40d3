// SPDX-License-Identifier: MIT
#include "tokenizer.hpp"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <limits>
#include <optional>
#include <queue>
#include <tuple>
#include <utility>

#include <utf8proc.h>

#include "format_error.hpp"

namespace smollm2 {
namespace {

constexpr Token no_token = -1;

/// The character that stands for a byte in a byte-level vocabulary: its own in Latin-1 if that
/// shows, or one of the first behind Latin-1.
std::array<std::string, 256> make_byte_characters() {
  std::array<std::string, 256> characters;
  utf8proc_int32_t next = 0x100;
  for (std::size_t byte = 0; byte < characters.size(); ++byte) {
    const bool shows = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
    std::array<utf8proc_uint8_t, 4> bytes{};
    const utf8proc_ssize_t size =
        utf8proc_encode_char(shows ? static_cast<utf8proc_int32_t>(byte) : next++, bytes.data());
    characters[byte].assign(bytes.begin(), bytes.begin() + size);
  }
  return characters;
}

const std::array<std::string, 256>& byte_characters() {
  static const std::array<std::string, 256> characters = make_byte_characters();
  return characters;
}

const std::string& byte_character(char byte) {
  return byte_characters()[static_cast<unsigned char>(byte)];
}

std::unordered_map<std::string_view, char> make_bytes_of_characters() {
  std::unordered_map<std::string_view, char> bytes;
  for (std::size_t byte = 0; byte < 256; ++byte)
    bytes.emplace(byte_characters()[byte], static_cast<char>(static_cast<unsigned char>(byte)));
  return bytes;
}

/// The bytes that byte-level text stands for. What is no byte's character stays as it is.
std::string bytes_of(std::string_view text) {
  static const std::unordered_map<std::string_view, char> bytes = make_bytes_of_characters();
  std::string decoded;
  while (!text.empty()) {
    std::size_t size = 1;
    auto found = bytes.find(text.substr(0, 1));
    if (found == bytes.end()) {
      found = bytes.find(text.substr(0, 2));
      if (found != bytes.end()) size = 2;
    }
    decoded += found != bytes.end() ? found->second : text.front();
    text.remove_prefix(size);
  }
  return decoded;
}

std::uint64_t pair_key(Token left, Token right) {
  return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
}

bool is_usual_end(std::string_view text) {
  constexpr std::array<std::string_view, 8> ends{"<|im_end|>", "<|endoftext|>",  "<|eot_id|>",
                                                 "<|eom_id|>", "<|end|>",        "<end_of_turn>",
                                                 "</s>",       "<|end_of_text|>"};
  return std::find(ends.begin(), ends.end(), text) != ends.end();
}

/// The vocabulary, if its parts fit each other.
Vocabulary checked(Vocabulary vocabulary) {
  const std::size_t size = vocabulary.tokens.size();
  if (vocabulary.model != "gpt2")
    throw FormatError("the tokenizer's model \"" + vocabulary.model +
                      "\" is not supported; gpt2, byte-level byte-pair encoding, is");
  if (size > static_cast<std::size_t>(std::numeric_limits<Token>::max()))
    throw FormatError("the vocabulary has too many tokens");
  if (!vocabulary.kinds.empty() && vocabulary.kinds.size() != size)
    throw FormatError("the vocabulary has " + std::to_string(size) + " tokens, but kinds of " +
                      std::to_string(vocabulary.kinds.size()));
  const auto check_token = [&](const char* name, std::optional<Token> token) {
    if (token && (*token < 0 || static_cast<std::size_t>(*token) >= size))
      throw FormatError("the " + std::string(name) + " token " + std::to_string(*token) +
                        " is outside of the vocabulary");
  };
  check_token("begin", vocabulary.begin);
  check_token("end", vocabulary.end);
  check_token("end-of-turn", vocabulary.end_of_turn);
  if (vocabulary.add_begin == Vocabulary::Begin::added && !vocabulary.begin)
    throw FormatError("texts should begin with a token that the vocabulary does not name");
  return vocabulary;
}

/// A part of a word that is one token, in a list of such parts.
struct Symbol {
  Token token;  // no_token once it is part of its left neighbour
  std::size_t previous, next;
};

/// Two neighbours that have a merge, or had one when they were put into the queue.
struct Candidate {
  std::size_t rank, left, right;
  Token left_token, right_token;

  friend bool operator>(const Candidate& a, const Candidate& b) {
    return std::tie(a.rank, a.left) > std::tie(b.rank, b.left);
  }
};

}  // namespace

Tokenizer::Tokenizer(Vocabulary vocabulary)
    : vocabulary_(checked(std::move(vocabulary))),
      pre_tokenizer_(pre_tokenizer_named(vocabulary_.pre_tokenizer)) {
  for (std::size_t i = 0; i < vocabulary_.tokens.size(); ++i) {
    const auto token = static_cast<Token>(i);
    const std::string& text = vocabulary_.tokens[i];
    tokens_.emplace(text, token);
    if (!text.empty() && (kind(token) == TokenKind::control || kind(token) == TokenKind::unknown ||
                          kind(token) == TokenKind::user_defined))
      special_.push_back(token);
  }
  std::sort(special_.begin(), special_.end(), [this](Token a, Token b) {
    const std::size_t a_size = vocabulary_.tokens[static_cast<std::size_t>(a)].size();
    const std::size_t b_size = vocabulary_.tokens[static_cast<std::size_t>(b)].size();
    return a_size != b_size ? a_size > b_size : a < b;
  });
  for (std::size_t byte = 0; byte < byte_tokens_.size(); ++byte) {
    const auto found = tokens_.find(byte_characters()[byte]);
    byte_tokens_[byte] = found != tokens_.end() ? found->second : no_token;
  }
  read_merges();
}

void Tokenizer::read_merges() {
  merges_.reserve(vocabulary_.merges.size());
  for (std::size_t rank = 0; rank < vocabulary_.merges.size(); ++rank) {
    const std::string& merge = vocabulary_.merges[rank];
    const auto fail = [&](const std::string& what) {
      return FormatError("merge " + std::to_string(rank) + ", \"" + merge + "\", " + what);
    };
    const std::size_t space = merge.find(' ');
    if (space == std::string::npos) throw fail("has no space between two tokens");
    const auto token_of = [&](const std::string& text) {
      const auto found = tokens_.find(text);
      if (found == tokens_.end()) throw fail("needs \"" + text + "\", which is no token");
      return found->second;
    };
    const std::string left = merge.substr(0, space), right = merge.substr(space + 1);
    const Token result = token_of(left + right);
    merges_.emplace(pair_key(token_of(left), token_of(right)), Merge{rank, result});
  }
}

TokenKind Tokenizer::kind(Token token) const {
  return vocabulary_.kinds.empty() ? TokenKind::normal
                                   : vocabulary_.kinds[static_cast<std::size_t>(token)];
}

const Tokenizer::Merge* Tokenizer::find_merge(Token left, Token right) const {
  const auto found = merges_.find(pair_key(left, right));
  return found != merges_.end() ? &found->second : nullptr;
}

std::vector<Tokenizer::Fragment> Tokenizer::fragments(std::string_view text) const {
  std::vector<Fragment> fragments{{text, no_token}};
  for (const Token token : special_) {
    const std::string& special = vocabulary_.tokens[static_cast<std::size_t>(token)];
    if (text.find(special) == std::string_view::npos) continue;
    std::vector<Fragment> cut;
    for (Fragment fragment : fragments) {
      while (fragment.token == no_token) {
        const std::size_t found = fragment.text.find(special);
        if (found == std::string_view::npos) break;
        cut.push_back({fragment.text.substr(0, found), no_token});
        cut.push_back({fragment.text.substr(found, special.size()), token});
        fragment.text.remove_prefix(found + special.size());
      }
      cut.push_back(fragment);
    }
    fragments = std::move(cut);
  }
  return fragments;
}

std::vector<Token> Tokenizer::encode(std::string_view text) const {
  std::vector<Token> tokens;
  if (vocabulary_.add_begin == Vocabulary::Begin::added) tokens.push_back(*vocabulary_.begin);
  for (const Fragment& fragment : fragments(text)) {
    if (fragment.token != no_token) {
      tokens.push_back(fragment.token);
      continue;
    }
    for (const std::string_view word : split_words(fragment.text, pre_tokenizer_))
      append_word(word, tokens);
  }
  return tokens;
}

void Tokenizer::append_word(std::string_view word, std::vector<Token>& tokens) const {
  // Llama 3's vocabulary has words that its merges do not lead to.
  if (pre_tokenizer_ == PreTokenizer::llama3) {
    std::string text;
    for (const char byte : word) text += byte_character(byte);
    if (const auto found = tokens_.find(text); found != tokens_.end())
      return tokens.push_back(found->second);
  }

  std::vector<Symbol> symbols;
  symbols.reserve(word.size());
  for (std::size_t i = 0; i < word.size(); ++i)
    symbols.push_back({byte_tokens_[static_cast<unsigned char>(word[i])], i - 1, i + 1});

  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> candidates;
  const auto consider = [&](std::size_t left, std::size_t right) {
    if (left >= symbols.size() || right >= symbols.size()) return;  // there is no neighbour
    const Token left_token = symbols[left].token, right_token = symbols[right].token;
    if (const Merge* merge = find_merge(left_token, right_token))
      candidates.push({merge->rank, left, right, left_token, right_token});
  };
  for (std::size_t i = 1; i < symbols.size(); ++i) consider(i - 1, i);

  while (!candidates.empty()) {
    const Candidate pair = candidates.top();
    candidates.pop();
    Symbol &left = symbols[pair.left], &right = symbols[pair.right];
    if (left.token != pair.left_token || right.token != pair.right_token) continue;  // outdated
    left.token = find_merge(left.token, right.token)->result;
    left.next = right.next;
    if (right.next < symbols.size()) symbols[right.next].previous = pair.left;
    right.token = no_token;
    consider(left.previous, pair.left);
    consider(pair.left, left.next);
  }
  for (const Symbol& symbol : symbols)
    if (symbol.token != no_token) tokens.push_back(symbol.token);
}

std::string Tokenizer::decode(Token token) const {
  if (token < 0 || static_cast<std::size_t>(token) >= vocabulary_.tokens.size())
    throw FormatError("there is no token " + std::to_string(token));
  const std::string& text = vocabulary_.tokens[static_cast<std::size_t>(token)];
  switch (kind(token)) {
    case TokenKind::control:
    case TokenKind::unknown:
    case TokenKind::unused: return {};
    case TokenKind::user_defined: return text;  // it is looked for in the text itself
    case TokenKind::normal:
    case TokenKind::byte: break;
  }
  return bytes_of(text);
}

std::string Tokenizer::decode(std::span<const Token> tokens) const {
  std::string text;
  for (const Token token : tokens) text += decode(token);
  return text;
}

bool Tokenizer::ends(Token token) const {
  if (token == vocabulary_.end || token == vocabulary_.end_of_turn) return true;
  return token >= 0 && static_cast<std::size_t>(token) < vocabulary_.tokens.size() &&
         kind(token) == TokenKind::control &&
         is_usual_end(vocabulary_.tokens[static_cast<std::size_t>(token)]);
}

}  // namespace smollm2
