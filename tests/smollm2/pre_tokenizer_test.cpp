// SPDX-License-Identifier: MIT
/// \file
/// Words as llama.cpp cuts them: what is expected here was read off its unicode_regex_split.

#include "pre_tokenizer.hpp"

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "format_error.hpp"

namespace smollm2 {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::ThrowsMessage;

using Words = std::vector<std::string_view>;

constexpr PreTokenizer all[] = {PreTokenizer::gpt2, PreTokenizer::smollm, PreTokenizer::llama3,
                                PreTokenizer::qwen2};

TEST(PreTokenizerNamed, KnowsFour) {
  EXPECT_EQ(pre_tokenizer_named("gpt-2"), PreTokenizer::gpt2);
  EXPECT_EQ(pre_tokenizer_named("smollm"), PreTokenizer::smollm);
  EXPECT_EQ(pre_tokenizer_named("llama-bpe"), PreTokenizer::llama3);
  EXPECT_EQ(pre_tokenizer_named("qwen2"), PreTokenizer::qwen2);
}

TEST(PreTokenizerNamed, ListsThemForAnother) {
  EXPECT_THAT([] { pre_tokenizer_named("tekken"); },
              ThrowsMessage<FormatError>(
                  HasSubstr("\"tekken\" is not supported; gpt-2, smollm, llama-bpe and qwen2")));
  EXPECT_THROW(pre_tokenizer_named(""), FormatError);
}

TEST(SplitWords, NothingHasNoWords) {
  for (const PreTokenizer kind : all) EXPECT_THAT(split_words("", kind), IsEmpty());
}

TEST(SplitWords, KeepsASpaceWithTheNextWord) {
  const std::string_view text = "Hello, big  world ";
  EXPECT_THAT(split_words(text, PreTokenizer::gpt2),
              ElementsAre("Hello", ",", " big", " ", " world", " "));
  EXPECT_THAT(split_words(text, PreTokenizer::llama3),
              ElementsAre("Hello", ",", " big", " ", " world", " "));
}

TEST(SplitWords, Contractions) {
  const std::string_view text = "I'll they're DON'T 'tis o'x '";
  EXPECT_THAT(
      split_words(text, PreTokenizer::gpt2),
      ElementsAre("I", "'ll", " they", "'re", " DON", "'", "T", " '", "tis", " o", "'", "x", " '"));
  EXPECT_THAT(split_words(text, PreTokenizer::llama3),
              ElementsAre("I", "'ll", " they", "'re", " DON", "'T", " '", "tis", " o", "'x", " '"));
  EXPECT_THAT(split_words("'s't're've'm'll'd'l'r", PreTokenizer::smollm),
              ElementsAre("'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'", "l", "'", "r"));
}

TEST(SplitWords, Digits) {
  const std::string_view text = "a1234 56  7½";
  EXPECT_THAT(split_words(text, PreTokenizer::gpt2), ElementsAre("a", "1234", " 56", " ", " 7½"));
  EXPECT_THAT(split_words(text, PreTokenizer::smollm),
              ElementsAre("a", "1", "2", "3", "4", " ", "5", "6", "  ", "7", "½"));
  EXPECT_THAT(split_words(text, PreTokenizer::llama3),
              ElementsAre("a", "123", "4", " ", "56", " ", " ", "7½"));
  EXPECT_THAT(split_words(text, PreTokenizer::qwen2),
              ElementsAre("a", "1", "2", "3", "4", " ", "5", "6", " ", " ", "7", "½"));
}

TEST(SplitWords, LineEnds) {
  const std::string_view text = "a;\n\n  b \n\t c\r\n";
  EXPECT_THAT(split_words(text, PreTokenizer::gpt2),
              ElementsAre("a", ";", "\n\n ", " b", " \n\t", " c", "\r\n"));
  EXPECT_THAT(split_words(text, PreTokenizer::llama3),
              ElementsAre("a", ";\n\n", " ", " b", " \n", "\t", " c", "\r\n"));
}

TEST(SplitWords, OnlySpaces) {
  for (const PreTokenizer kind : all) {
    EXPECT_THAT(split_words(" ", kind), ElementsAre(" "));
    EXPECT_THAT(split_words(" \t  ", kind), ElementsAre(" \t  "));
  }
}

TEST(SplitWords, LettersAndSpacesOfUnicode) {
  EXPECT_THAT(split_words("naïve 日本語。Ωμέγα", PreTokenizer::smollm),
              ElementsAre("naïve", " 日本語", "。", "Ωμέγα"));
  EXPECT_THAT(split_words("a\u3000\u00a0b\u2028c\u0085", PreTokenizer::smollm),
              ElementsAre("a", "\u3000", "\u00a0", "b", "\u2028", "c", "\u0085"));
  EXPECT_THAT(split_words("\u200b\u0301x", PreTokenizer::smollm),  // neither letters nor spaces
              ElementsAre("\u200b\u0301", "x"));
  EXPECT_THAT(split_words("\u00a0x", PreTokenizer::llama3), ElementsAre("\u00a0x"));
}

TEST(SplitWords, BytesThatAreNoCharacters) {
  EXPECT_THAT(split_words("a\xff\xc3 \xe2\x82", PreTokenizer::smollm),
              ElementsAre("a", "\xff\xc3", " \xe2\x82"));
  EXPECT_THAT(split_words("\xed\xa0\x80\xf4\x90\x80\x80\xc0\xa0", PreTokenizer::gpt2),
              ElementsAre("\xed\xa0\x80\xf4\x90\x80\x80\xc0\xa0"));
}

TEST(SplitWords, WordsAreTheText) {
  std::string text;
  for (int round = 0; round < 3; ++round)
    for (int byte = 0; byte < 256; ++byte)
      text.append(static_cast<std::size_t>(round + 1), static_cast<char>(byte * 77));
  for (const PreTokenizer kind : all) {
    std::string joined;
    for (const std::string_view word : split_words(text, kind)) {
      EXPECT_FALSE(word.empty());
      joined += word;
    }
    EXPECT_EQ(joined, text);
  }
}

TEST(SplitWords, LongTextsTakeNoLongTime) {
  const std::string spaces(1'000'000, ' ');
  std::string lines;
  for (int i = 0; i < 500'000; ++i) lines += "a ";
  for (const PreTokenizer kind : all) {
    EXPECT_EQ(split_words(spaces, kind), Words{spaces});
    EXPECT_EQ(split_words(lines, kind).size(), 500'001U);
  }
}

}  // namespace
}  // namespace smollm2
