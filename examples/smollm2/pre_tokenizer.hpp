// SPDX-License-Identifier: MIT
/// \file
/// A text's words: tokens are looked for in each of them alone.
#pragma once

#include <string_view>
#include <vector>

namespace smollm2 {

/// The ways to find words. All of them keep a space with the word that follows.
enum class PreTokenizer {
  gpt2,
  smollm,  ///< as gpt2, but each digit is a word
  llama3,  ///< up to three digits make a word; line ends stay with the punctuation before them
  qwen2,   ///< as llama3, but each digit is a word
};

/// The pre-tokenizer that a model file means by `tokenizer.ggml.pre`.
///
/// \throws FormatError if it is none of "gpt-2", "smollm", "llama-bpe" and "qwen2".
PreTokenizer pre_tokenizer_named(std::string_view name);

/// The words of a text in UTF-8, in order and without gaps: joined, they are the text. They are
/// llama.cpp's, with two exceptions. A byte that belongs to no character stays what it is, where
/// llama.cpp puts U+FFFD. And utf8proc says what a letter is, so it may not know the latest ones:
/// its version 2.8 lacks U+2EBF0 to U+2EE5D.
std::vector<std::string_view> split_words(std::string_view text, PreTokenizer pre_tokenizer);

}  // namespace smollm2
