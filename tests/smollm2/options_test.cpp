// SPDX-License-Identifier: MIT
/// \file
/// smollm2's command line.

#include "options.hpp"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace smollm2 {
namespace {

using Command = Options::Command;

Options parsed(std::vector<std::string> words) {
  words.insert(words.begin(), "smollm2");
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  return parse_options(static_cast<int>(arguments.size()), arguments.data());
}

TEST(SmollmOptions, AreThoseOfAChatUnlessSaid) {
  const Options options = parsed({});
  EXPECT_EQ(options.command, Command::chat);
  EXPECT_EQ(options.element, "f16");
  EXPECT_EQ(options.placement, Placement::own);
  EXPECT_FALSE(options.window);
  EXPECT_EQ(options.weights, WeightsKept::as_stored);
  EXPECT_EQ(options.sampler.temperature, 0);
}

TEST(SmollmOptions, AreTaken) {
  const Options options =
      parsed({"--model=a.gguf", "--prompt=Who?", "--system=Be brief.", "--tokens=7",
              "--context=100", "--threads=2", "--cache=int4", "--placement=pool", "--sinks=8",
              "--weights=float", "--temperature=0.7", "--top-p", "0.9", "--seed=5", "--raw"});
  EXPECT_EQ(options.command, Command::generate);
  EXPECT_EQ(options.model, "a.gguf");
  EXPECT_EQ(options.prompt, "Who?");
  EXPECT_EQ(options.system, "Be brief.");
  EXPECT_EQ(options.prompt_form, Options::Prompt::raw);
  EXPECT_EQ(options.num_tokens, 7);
  EXPECT_EQ(options.context, 100);
  EXPECT_EQ(options.threads, 2);
  EXPECT_EQ(options.element, "int4");
  EXPECT_EQ(options.placement, Placement::pool);
  ASSERT_TRUE(options.window);
  EXPECT_EQ(options.window->num_sink_tokens, 8);
  EXPECT_EQ(options.window->window_left, 1020);
  EXPECT_EQ(options.weights, WeightsKept::as_float);
  EXPECT_EQ(options.sampler.temperature, 0.7);
  EXPECT_EQ(options.sampler.top_p, 0.9);
  EXPECT_EQ(options.sampler.seed, 5u);
}

TEST(SmollmOptions, NameTheCommand) {
  const Options perplexity = parsed({"--cache=f32,int8", "perplexity", "a.txt"});
  EXPECT_EQ(perplexity.command, Command::perplexity);
  EXPECT_EQ(perplexity.text, "a.txt");
  EXPECT_EQ(perplexity.elements, (std::vector<std::string>{"f32", "int8"}));
  const Options speed = parsed({"speed", "--contexts=1,20"});
  EXPECT_EQ(speed.command, Command::speed);
  EXPECT_EQ(speed.contexts, (std::vector<Index>{1, 20}));
  EXPECT_EQ(parsed({"--help"}).command, Command::help);
}

TEST(SmollmOptions, ThatCannotBeUnderstoodAreRefusedWithWhatToType) {
  const auto expect_refused = [](std::vector<std::string> words, const std::string& message) {
    try {
      parsed(words);
      ADD_FAILURE() << words.front() << " was taken";
    } catch (const OptionError& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr(message));
    }
  };
  expect_refused({"--tokens=0"}, "--tokens=0: expected a number, 1 or more");
  expect_refused({"--tokens=4x"}, "--tokens=4x: expected a number");
  expect_refused({"--threads=2000"}, "--threads=2000: expected a number, 1 to 1024");
  expect_refused({"--temperature=-1"}, "--temperature=-1: expected a number");
  expect_refused({"--temperature=nan"}, "--temperature=nan: expected a number");
  expect_refused({"--placement=heap"}, "--placement=heap: expected own or pool");
  expect_refused({"--cache=int8,nonsense"}, "--cache=nonsense: no cache stores that");
  expect_refused({"--weights=int8"}, "--weights=int8: expected stored or float");
  expect_refused({"--colour"}, "--colour is no option");
  expect_refused({"--tokens"}, "--tokens needs a value");
  expect_refused({"perplexity"}, "found `perplexity`");
  expect_refused({"dance"}, "found `dance`");
}

TEST(SmollmOptions, HelpNamesEveryElement) {
  for (const std::string_view element : cache_elements())
    EXPECT_THAT(help_text(), testing::HasSubstr(std::string(element)));
}

}  // namespace
}  // namespace smollm2
