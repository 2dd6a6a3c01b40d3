// SPDX-License-Identifier: MIT
/// \file
/// The same tokens as llama.cpp. Needs the model's file, of which the environment variable
/// HEED_SMOLLM2_MODEL has the path; without it, these tests are skipped.

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "chat_template.hpp"
#include "generate.hpp"
#include "perplexity.hpp"

namespace smollm2 {
namespace {

class LlamaCpp : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const char* path = std::getenv("HEED_SMOLLM2_MODEL");
    if (path == nullptr || *path == '\0') return;
    model_ = std::make_unique<Model>(path);
    tokenizer_ = std::make_unique<Tokenizer>(vocabulary_of(model_->file()));
    prompts_ = read_json("prompts.json");
    record_ = read_json("llama_cpp.json");
  }
  static void TearDownTestSuite() {
    tokenizer_.reset();
    model_.reset();
  }
  void SetUp() override {
    if (model_ == nullptr) GTEST_SKIP() << "HEED_SMOLLM2_MODEL names no model";
  }

  static nlohmann::json read_json(const std::string& name) {
    std::ifstream file(HEED_TEST_DIR "/smollm2/" + name);
    return nlohmann::json::parse(file);
  }
  static std::unique_ptr<Context> context(Index capacity, const std::string& element) {
    return make_context(*model_, {.capacity = capacity,
                                  .element = element,
                                  .executor = heed::SerialExecutor{}});  // tests run side by side
  }

  /// The likeliest tokens after a prompt.
  static std::vector<Token> greedy(std::span<const Token> prompt, Index count,
                                   const std::string& element) {
    const auto caches = context(std::ssize(prompt) + count, element);
    Sampler sampler({});
    return generate(*caches, *tokenizer_, prompt, count, sampler, [](auto) {}).tokens;
  }

  inline static std::unique_ptr<Model> model_;
  inline static std::unique_ptr<Tokenizer> tokenizer_;
  inline static nlohmann::json prompts_, record_;  // what was asked, and what llama.cpp said
};

std::vector<Token> tokens_of(const nlohmann::json& record, const char* key) {
  return record.at(key).get<std::vector<Token>>();
}

TEST_F(LlamaCpp, CutsTextsIntoTheSameTokens) {
  ASSERT_GE(prompts_.size(), 50u);
  for (const auto& prompt : prompts_) {
    const auto name = prompt.at("name").get<std::string>();
    const auto& text = prompt.contains("messages")
                           ? record_.at(name).at("text")
                           : prompt.at(prompt.contains("text") ? "text" : "prompt");
    EXPECT_EQ(tokenizer_->encode(text.get<std::string>()), tokens_of(record_.at(name), "tokens"))
        << name;
  }
}

TEST_F(LlamaCpp, RendersTheChatTemplateAlike) {
  const ChatTemplate chat(tokenizer_->vocabulary().chat_template);
  int num_chats = 0;
  for (const auto& prompt : prompts_) {
    if (!prompt.contains("messages")) continue;
    std::vector<ChatMessage> messages;
    for (const auto& message : prompt.at("messages"))
      messages.push_back({message.at("role"), message.at("content")});
    const auto name = prompt.at("name").get<std::string>();
    EXPECT_EQ(chat.render(messages, AddGenerationPrompt::yes), record_.at(name).at("text")) << name;
    ++num_chats;
  }
  EXPECT_GE(num_chats, 4);
}

/// The first tokens after a prompt, and for each how much likelier it was than the second.
struct Generated {
  std::string name;
  std::vector<Token> prompt, tokens;
  std::vector<double> margins;
};
std::vector<Generated> generated(const nlohmann::json& record) {
  std::vector<Generated> all;
  for (const auto& [name, prompt] : record.items())
    if (prompt.contains("generated"))
      all.push_back({name, tokens_of(prompt, "tokens"), tokens_of(prompt, "generated"),
                     prompt.at("margins").get<std::vector<double>>()});
  return all;
}

// Beside quantized weights llama.cpp rounds activations, too: from the Q4_1 file it gives the same
// tokens for half of the prompts (see examples/smollm2/README.md).
TEST_F(LlamaCpp, GeneratesTheSameTokens) {
  const nlohmann::json quantized = read_json("llama_cpp_q4_1.json");
  const std::vector<Generated> all = generated(record_);
  EXPECT_GE(all.size(), 20u);
  int num_equal = 0;
  for (const auto& [name, prompt, tokens, margins] : all) {
    const std::vector<Token> found = greedy(prompt, std::ssize(tokens), "f32");
    EXPECT_EQ(found, tokens) << name;
    num_equal += found == tokens_of(quantized, name.c_str());
  }
  EXPECT_GE(num_equal, 11);
}

// 16-bit caches round alike, but llama.cpp's attention rounds more than its cache: where two tokens
// are all but equally likely, it may choose the other.
TEST_F(LlamaCpp, GeneratesTheSameTokensFrom16BitCaches) {
  int num_equal = 0;
  const std::vector<Generated> all = generated(record_);
  for (const auto& [name, prompt, tokens, margins] : all) {
    const std::vector<Token> found = greedy(prompt, std::ssize(tokens), "f16");
    const auto differs = std::ranges::mismatch(found, tokens).in2 - tokens.begin();
    if (differs == std::ssize(tokens))
      ++num_equal;
    else
      EXPECT_LE(margins[static_cast<std::size_t>(differs)], 0.02) << name << ", token " << differs;
  }
  EXPECT_GE(num_equal, std::ssize(all) - 2);
}

// The sums are taken in another order, and llama.cpp turns by angles that it computes in float.
TEST_F(LlamaCpp, ComputesTheSameLogits) {
  double worst = 0;
  for (const auto& [name, prompt] : record_.items()) {
    if (!prompt.contains("top")) continue;
    const std::vector<Token> tokens = tokens_of(prompt, "tokens");
    const auto caches = context(std::ssize(tokens), "f32");
    const std::vector<float> logits = read(*caches, tokens);
    for (const auto& [token, logit] :
         prompt.at("top").get<std::vector<std::pair<Token, double>>>()) {
      const double found = logits[static_cast<std::size_t>(token)];
      ASSERT_TRUE(std::isfinite(found)) << name;
      worst = std::max(worst, std::abs(found - logit));
    }
  }
  RecordProperty("worst", std::to_string(worst));
  // The record has 6 digits, which rounds logits of 10 and more by up to 5e-5; as much again, and a
  // half, for 30 layers of sums on either side. Found with AVX-512: 7e-5.
  EXPECT_LE(worst, 1.25e-4);
}

}  // namespace
}  // namespace smollm2
