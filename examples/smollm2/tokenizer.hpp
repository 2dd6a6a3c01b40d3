// SPDX-License-Identifier: MIT
/// \file
/// Text to tokens and back: byte-level byte-pair encoding.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "pre_tokenizer.hpp"
#include "vocabulary.hpp"

namespace smollm2 {

/// Encodes and decodes by a vocabulary, as llama.cpp does.
///
/// A word begins as the tokens of its single bytes. Then the pair of neighbours whose merge stands
/// first in the vocabulary becomes one token, the leftmost first, until no pair has a merge.
class Tokenizer {
 public:
  /// \throws FormatError if the vocabulary's model is not "gpt2", its pre-tokenizer is unknown, its
  ///   lists do not fit each other, a merge's tokens or its result are missing, or one of its
  ///   special tokens lies outside.
  explicit Tokenizer(Vocabulary vocabulary);

  /// The tokens of a text in UTF-8, behind `begin` if the vocabulary adds that. What reads as a
  /// control, user-defined or unknown token becomes that token, the longest first. Bytes that the
  /// vocabulary has no token for are left out, as llama.cpp does: SmolLM2's lacks some that are
  /// rare in UTF-8.
  std::vector<Token> encode(std::string_view text) const;

  /// A token's bytes, which need not be whole characters; none for a control, unknown or unused
  /// token.
  ///
  /// \throws FormatError if the vocabulary has no such token.
  std::string decode(Token token) const;
  std::string decode(std::span<const Token> tokens) const;  ///< \copydoc decode(Token) const

  /// Whether the token ends the model's answer: the vocabulary's `end` and `end_of_turn`, and the
  /// control tokens that are usual for that, such as <|im_end|>.
  bool ends(Token token) const;

  const Vocabulary& vocabulary() const { return vocabulary_; }  ///< what this was made of

 private:
  struct Merge {
    std::size_t rank;  // the lowest is made first
    Token result;
  };
  struct Fragment {
    std::string_view text;
    Token token;  // what stands for the whole text, or none
  };

  Vocabulary vocabulary_;
  PreTokenizer pre_tokenizer_;
  std::unordered_map<std::string, Token> tokens_;    // by their texts in the vocabulary
  std::unordered_map<std::uint64_t, Merge> merges_;  // by the pair's tokens
  std::array<Token, 256> byte_tokens_;
  std::vector<Token> special_;  // those that are looked for in a text, the longest first

  void read_merges();
  const Merge* find_merge(Token left, Token right) const;
  TokenKind kind(Token token) const;
  std::vector<Fragment> fragments(std::string_view text) const;
  void append_word(std::string_view word, std::vector<Token>& tokens) const;
};

}  // namespace smollm2
