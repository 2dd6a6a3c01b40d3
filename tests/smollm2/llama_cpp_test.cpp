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
    std::ifstream file(HEED_TEST_DIR "/smollm2/llama_cpp.json");
    record_ = nlohmann::json::parse(file);
  }
  static void TearDownTestSuite() {
    tokenizer_.reset();
    model_.reset();
  }
  void SetUp() override {
    if (model_ == nullptr) GTEST_SKIP() << "HEED_SMOLLM2_MODEL names no model";
  }

  static std::unique_ptr<Context> context(Index capacity, const std::string& element) {
    return make_context(*model_, {.capacity = capacity, .element = element});
  }

  inline static std::unique_ptr<Model> model_;
  inline static std::unique_ptr<Tokenizer> tokenizer_;
  inline static nlohmann::json record_;
};

TEST_F(LlamaCpp, CutsTextsIntoTheSameTokens) {
  ASSERT_GE(record_.at("texts").size(), 50u);
  for (const auto& text : record_.at("texts"))
    EXPECT_EQ(tokenizer_->encode(text.at("text").get<std::string>()),
              text.at("tokens").get<std::vector<Token>>())
        << text.at("name");
}

TEST_F(LlamaCpp, RendersTheChatTemplateAlike) {
  const ChatTemplate chat(tokenizer_->vocabulary().chat_template);
  int num_chats = 0;
  for (const auto& prompt : record_.at("prompts")) {
    if (!prompt.contains("messages")) continue;
    std::vector<ChatMessage> messages;
    for (const auto& message : prompt.at("messages"))
      messages.push_back({message.at("role"), message.at("content")});
    EXPECT_EQ(tokenizer_->encode(chat.render(messages, AddGenerationPrompt::yes)),
              prompt.at("prompt_tokens").get<std::vector<Token>>())
        << prompt.at("name");
    ++num_chats;
  }
  EXPECT_GE(num_chats, 2);
}

TEST_F(LlamaCpp, GeneratesTheSameTokens) {
  ASSERT_GE(record_.at("prompts").size(), 8u);
  for (const std::string element : {"f32", "f16"})
    for (const auto& prompt : record_.at("prompts")) {
      const auto tokens = prompt.at("prompt_tokens").get<std::vector<Token>>();
      const auto expected = prompt.at("tokens").get<std::vector<Token>>();
      const auto caches = context(std::ssize(tokens) + std::ssize(expected), element);
      Sampler greedy({});
      const Generation found =
          generate(*caches, *tokenizer_, tokens, std::ssize(expected), greedy, [](auto) {});
      EXPECT_EQ(found.tokens, expected) << prompt.at("name") << ", cache of " << element;
    }
}

// llama.cpp sums in another order and turns by angles that it computes in float: both are far below
// the 8 bits that its activations are rounded to, as are these. A rounded activation that falls to
// the other side of a half moves logits by some hundredths.
TEST_F(LlamaCpp, ComputesTheSameLogits) {
  double worst = 0;
  for (const auto& prompt : record_.at("prompts")) {
    const auto tokens = prompt.at("prompt_tokens").get<std::vector<Token>>();
    const auto caches = context(std::ssize(tokens), "f32");
    const std::vector<float> logits = read(*caches, tokens);
    for (const auto& [token, logit] : prompt.at("top_logits").get<std::vector<std::pair<Token, double>>>())
      worst = std::max(worst, std::abs(logits[static_cast<std::size_t>(token)] - logit));
  }
  RecordProperty("worst", std::to_string(worst));
  EXPECT_LE(worst, 0.1);
}

}  // namespace
}  // namespace smollm2
