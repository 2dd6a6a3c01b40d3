// SPDX-License-Identifier: MIT
/// \file
/// The vocabulary of a model file.

#include "vocabulary.hpp"

#include <cstdint>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "format_error.hpp"
#include "gguf.hpp"
#include "smollm2/gguf_bytes.hpp"

namespace smollm2 {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::ThrowsMessage;

Vocabulary vocabulary_in(const GgufWriter& writer) {
  const auto bytes = test::bytes_of(writer);
  return vocabulary_of(GgufFile(bytes));
}

GgufWriter with_tokens() {
  GgufWriter writer;
  writer.add("tokenizer.ggml.model", "gpt2");
  writer.add("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b", "ab"});
  return writer;
}

TEST(Vocabulary, TakesAllThatTheFileSays) {
  GgufWriter writer = with_tokens();
  writer.add("tokenizer.ggml.pre", "smollm");
  writer.add("tokenizer.ggml.token_type", std::vector<std::int32_t>{3, 1, 4});
  writer.add("tokenizer.ggml.merges", std::vector<std::string>{"a b"});
  writer.add("tokenizer.ggml.bos_token_id", std::uint32_t{0});
  writer.add("tokenizer.ggml.eos_token_id", std::uint32_t{1});
  writer.add("tokenizer.ggml.eot_token_id", std::uint32_t{2});
  writer.add("tokenizer.ggml.add_bos_token", true);
  writer.add("tokenizer.chat_template", "{{ messages }}");
  const Vocabulary vocabulary = vocabulary_in(writer);
  EXPECT_EQ(vocabulary.model, "gpt2");
  EXPECT_EQ(vocabulary.pre_tokenizer, "smollm");
  EXPECT_THAT(vocabulary.tokens, ElementsAre("a", "b", "ab"));
  EXPECT_THAT(vocabulary.kinds,
              ElementsAre(TokenKind::control, TokenKind::normal, TokenKind::user_defined));
  EXPECT_THAT(vocabulary.merges, ElementsAre("a b"));
  EXPECT_EQ(vocabulary.begin, 0);
  EXPECT_EQ(vocabulary.end, 1);
  EXPECT_EQ(vocabulary.end_of_turn, 2);
  EXPECT_EQ(vocabulary.add_begin, Vocabulary::Begin::added);
  EXPECT_EQ(vocabulary.chat_template, "{{ messages }}");
}

TEST(Vocabulary, TakesLittle) {
  const Vocabulary vocabulary = vocabulary_in(with_tokens());
  EXPECT_EQ(vocabulary.pre_tokenizer, "");
  EXPECT_THAT(vocabulary.kinds,
              ElementsAre(TokenKind::normal, TokenKind::normal, TokenKind::normal));
  EXPECT_THAT(vocabulary.merges, IsEmpty());
  EXPECT_FALSE(vocabulary.begin || vocabulary.end || vocabulary.end_of_turn);
  EXPECT_EQ(vocabulary.add_begin, Vocabulary::Begin::left_out);
  EXPECT_EQ(vocabulary.chat_template, "");

  GgufWriter told = with_tokens();
  told.add("tokenizer.ggml.add_bos_token", false);
  EXPECT_EQ(vocabulary_in(told).add_begin, Vocabulary::Begin::left_out);
}

TEST(Vocabulary, KnowsThatLlama3Begins) {
  GgufWriter writer = with_tokens();
  writer.add("tokenizer.ggml.pre", "llama-bpe");
  writer.add("tokenizer.ggml.bos_token_id", std::uint32_t{0});
  EXPECT_EQ(vocabulary_in(writer).add_begin, Vocabulary::Begin::added);
  writer.add("tokenizer.ggml.add_bos_token", false);
  EXPECT_EQ(vocabulary_in(writer).add_begin, Vocabulary::Begin::left_out);
}

TEST(Vocabulary, RefusesWhatCannotBe) {
  const auto refuses = [](const std::string& key, const MetadataValue& value,
                          const std::string& message) {
    GgufWriter writer = with_tokens();
    writer.add(key, value);
    EXPECT_THAT([&] { vocabulary_in(writer); },
                ThrowsMessage<FormatError>("buffer: key " + key + ": " + message));
  };
  refuses("tokenizer.ggml.token_type", std::vector<std::int32_t>{1, 1}, "2 kinds for 3 tokens");
  for (const std::int32_t kind : {0, 7, -1})
    refuses("tokenizer.ggml.token_type", std::vector<std::int32_t>{1, kind, 1},
            "kind " + std::to_string(kind) + " is unknown");
  for (const std::string name : {"bos", "eos", "eot"}) {
    const std::string key = "tokenizer.ggml." + name + "_token_id";
    refuses(key, std::uint32_t{3}, "there is no token 3 among 3");
    refuses(key, std::int32_t{-1}, "there is no token -1 among 3");
    refuses(key, "a", "the value is string, expected an integer");
  }
  refuses("tokenizer.chat_template", 1.0f, "the value is float32, expected string");

  EXPECT_THAT([] { vocabulary_in({}); },
              ThrowsMessage<FormatError>("buffer: key tokenizer.ggml.model: the key is missing"));
  GgufWriter no_tokens;
  no_tokens.add("tokenizer.ggml.model", "gpt2");
  EXPECT_THAT([&] { vocabulary_in(no_tokens); },
              ThrowsMessage<FormatError>("buffer: key tokenizer.ggml.tokens: the key is missing"));
}

}  // namespace
}  // namespace smollm2
