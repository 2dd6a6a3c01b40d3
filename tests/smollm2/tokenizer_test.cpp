// SPDX-License-Identifier: MIT
/// \file
/// Tokens of small vocabularies; the real one is compared with llama.cpp's elsewhere.

#include "tokenizer.hpp"

#include <chrono>
#include <functional>
#include <memory>
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

enum Id : Token {
  a,
  b,
  c,
  d,
  space,
  quote,
  ab,
  bc,
  cd,
  abc,
  space_a,
  whole,
  begin,
  end,
  mine,
  none
};

/// The letters a to d, é's two bytes but for "Ã", which is missing, and some merges.
Vocabulary small_vocabulary() {
  Vocabulary vocabulary;
  vocabulary.model = "gpt2";
  vocabulary.pre_tokenizer = "smollm";
  vocabulary.tokens = {"a",  "b",   "c",  "d",    "Ġ",       "©",     "ab",       "bc",
                       "cd", "abc", "Ġa", "dddd", "<begin>", "<end>", "<mine Ġ>", "<none>"};
  vocabulary.kinds.assign(vocabulary.tokens.size(), TokenKind::normal);
  vocabulary.kinds[begin] = vocabulary.kinds[end] = TokenKind::control;
  vocabulary.kinds[mine] = TokenKind::user_defined;
  vocabulary.kinds[none] = TokenKind::unused;
  vocabulary.merges = {"b c", "a b", "c d", "Ġ a", "a bc"};
  vocabulary.begin = begin;
  vocabulary.end = end;
  return vocabulary;
}

/// Expects that the vocabulary does not do, once changed.
void expect_error(const std::function<void(Vocabulary&)>& change, const std::string& message) {
  Vocabulary vocabulary = small_vocabulary();
  change(vocabulary);
  EXPECT_THAT([&] { Tokenizer{vocabulary}; }, ThrowsMessage<FormatError>(HasSubstr(message)));
}

TEST(Tokenizer, MergesWhatStandsFirst) {
  const Tokenizer tokenizer(small_vocabulary());
  EXPECT_THAT(tokenizer.encode("abc"), ElementsAre(abc));  // not ab, c
  EXPECT_THAT(tokenizer.encode("abd"), ElementsAre(ab, d));
  EXPECT_THAT(tokenizer.encode("bcd"), ElementsAre(bc, d));
  EXPECT_THAT(tokenizer.encode("cdabcab"), ElementsAre(cd, abc, ab));
  EXPECT_THAT(tokenizer.encode("dddd"), ElementsAre(d, d, d, d));  // no merge leads there
}

TEST(Tokenizer, MergesTheLeftmostOfEquals) {
  Vocabulary vocabulary = small_vocabulary();
  vocabulary.tokens[cd] = "aa";
  vocabulary.merges = {"a a"};
  const Tokenizer tokenizer(vocabulary);
  EXPECT_THAT(tokenizer.encode("aaa"), ElementsAre(cd, a));
  EXPECT_THAT(tokenizer.encode("aaaaa"), ElementsAre(cd, cd, a));
}

TEST(Tokenizer, OfEqualMergesTheFirstCounts) {
  Vocabulary vocabulary = small_vocabulary();
  vocabulary.merges = {"b c", "a b", "b c"};
  EXPECT_THAT(Tokenizer(vocabulary).encode("abc"), ElementsAre(a, bc));
}

TEST(Tokenizer, DoesNotMergeAcrossWords) {
  const Tokenizer tokenizer(small_vocabulary());
  EXPECT_THAT(tokenizer.encode(" a  ab"), ElementsAre(space_a, space, space, ab));
}

TEST(Tokenizer, TakesWholeWordsInLlama3) {
  Vocabulary vocabulary = small_vocabulary();
  vocabulary.pre_tokenizer = "llama-bpe";
  const Tokenizer tokenizer(vocabulary);
  EXPECT_THAT(tokenizer.encode("dddd"), ElementsAre(whole));
  EXPECT_THAT(tokenizer.encode("ddddd"), ElementsAre(d, d, d, d, d));
}

TEST(Tokenizer, NothingHasNoTokens) {
  const Tokenizer tokenizer(small_vocabulary());
  EXPECT_THAT(tokenizer.encode(""), IsEmpty());
  EXPECT_EQ(tokenizer.decode(std::vector<Token>{}), "");
}

TEST(Tokenizer, PutsTheBeginningInFrontIfAsked) {
  Vocabulary vocabulary = small_vocabulary();
  vocabulary.add_begin = Vocabulary::Begin::added;
  const Tokenizer tokenizer(vocabulary);
  EXPECT_THAT(tokenizer.encode(""), ElementsAre(begin));
  EXPECT_THAT(tokenizer.encode("<begin>a"), ElementsAre(begin, begin, a));
}

TEST(Tokenizer, FindsSpecialTokensInTheText) {
  const Tokenizer tokenizer(small_vocabulary());
  EXPECT_THAT(tokenizer.encode("a<begin>b<end><end>"), ElementsAre(a, begin, b, end, end));
  EXPECT_THAT(tokenizer.encode("a<mine Ġ> a"), ElementsAre(a, mine, space_a));
  EXPECT_THAT(tokenizer.encode("<<end>"), ElementsAre(end));  // there is no token for <
  EXPECT_THAT(tokenizer.encode("<none>a"), ElementsAre(a));   // it is not special
  EXPECT_THAT(tokenizer.encode("a<end>bc"), ElementsAre(a, end, bc));
}

TEST(Tokenizer, PrefersTheLongestSpecialToken) {
  Vocabulary vocabulary = small_vocabulary();
  vocabulary.tokens[begin] = "<e";
  const Tokenizer tokenizer(vocabulary);
  EXPECT_THAT(tokenizer.encode("<end><e"), ElementsAre(end, begin));
}

TEST(Tokenizer, LeavesOutBytesWithoutToken) {
  const Tokenizer tokenizer(small_vocabulary());
  EXPECT_THAT(tokenizer.encode("aéb"), ElementsAre(a, quote, b));
  EXPECT_THAT(tokenizer.encode("a\xff"
                               "b"),
              ElementsAre(a, b));
}

TEST(Tokenizer, DecodesBytes) {
  const Tokenizer tokenizer(small_vocabulary());
  EXPECT_EQ(tokenizer.decode(space_a), " a");
  EXPECT_EQ(tokenizer.decode(quote), "\xa9");
  EXPECT_EQ(tokenizer.decode(std::vector<Token>{begin, abc, none, space, mine, end}),
            "abc <mine Ġ>");
}

TEST(Tokenizer, DecodesWhatIsNoByteAsItIs) {
  Vocabulary vocabulary = small_vocabulary();
  vocabulary.tokens[whole] = "日Ġ x";
  EXPECT_EQ(Tokenizer(vocabulary).decode(whole), "日  x");
}

TEST(Tokenizer, EveryByteComesBack) {
  Vocabulary vocabulary;
  vocabulary.model = "gpt2";
  vocabulary.pre_tokenizer = "gpt-2";
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte) bytes += static_cast<char>(byte);
  // As in GPT-2: what shows stands for itself, the others are U+0100, U+0101, ...
  const auto add = [&](unsigned code) {
    vocabulary.tokens.push_back(code < 0x80 ? std::string(1, static_cast<char>(code))
                                            : std::string{static_cast<char>(0xC0 | code >> 6),
                                                          static_cast<char>(0x80 | (code & 0x3F))});
  };
  for (unsigned code = 0x21; code < 0x144; ++code)
    if (code != 0xAD && (code < 0x7F || code > 0xA0)) add(code);
  ASSERT_EQ(vocabulary.tokens.size(), 256U);
  const Tokenizer tokenizer(vocabulary);
  const std::vector<Token> tokens = tokenizer.encode(bytes);
  EXPECT_EQ(tokens.size(), 256U);
  EXPECT_EQ(tokenizer.decode(tokens), bytes);
  EXPECT_EQ(tokens[0], 188);     // U+0100
  EXPECT_EQ(tokens['!'], 0);     // itself
  EXPECT_EQ(tokens[0xAD], 255);  // U+0143, the last one
}

TEST(Tokenizer, LongWordsTakeNoLongTime) {
  const Tokenizer tokenizer(small_vocabulary());
  std::string text;
  for (int i = 0; i < 300'000; ++i) text += "bca"[i % 3];
  const auto start = std::chrono::steady_clock::now();
  const std::vector<Token> tokens = tokenizer.encode(text);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
  EXPECT_EQ(tokenizer.decode(tokens), text);
  EXPECT_THAT(std::vector(tokens.begin(), tokens.begin() + 3), ElementsAre(bc, abc, abc));
}

TEST(Tokenizer, Ends) {
  Vocabulary vocabulary = small_vocabulary();
  vocabulary.tokens[begin] = "<|im_end|>";
  vocabulary.tokens[none] = "<|eot_id|>";  // not a control token
  vocabulary.end_of_turn = mine;
  const Tokenizer tokenizer(vocabulary);
  EXPECT_TRUE(tokenizer.ends(begin));
  EXPECT_TRUE(tokenizer.ends(end));
  EXPECT_TRUE(tokenizer.ends(mine));
  EXPECT_FALSE(tokenizer.ends(none));
  EXPECT_FALSE(tokenizer.ends(a));
  EXPECT_FALSE(tokenizer.ends(-1));
  EXPECT_FALSE(tokenizer.ends(1000));
}

TEST(Tokenizer, WorksWithoutKinds) {
  Vocabulary vocabulary = small_vocabulary();
  vocabulary.kinds.clear();
  const Tokenizer tokenizer(vocabulary);
  EXPECT_EQ(tokenizer.decode(end), "<end>");
  EXPECT_THAT(tokenizer.encode("<end>"), ElementsAre(d));
}

TEST(Tokenizer, CopiesAreTheirOwn) {
  auto first = std::make_unique<Tokenizer>(small_vocabulary());
  const Tokenizer copy = *first;
  first.reset();
  EXPECT_THAT(copy.encode("abc<end>"), ElementsAre(abc, end));
  EXPECT_EQ(copy.vocabulary().tokens[ab], "ab");
}

TEST(Tokenizer, DecodeRefusesWhatIsNoToken) {
  const Tokenizer tokenizer(small_vocabulary());
  EXPECT_THAT([&] { tokenizer.decode(16); },
              ThrowsMessage<FormatError>(HasSubstr("there is no token 16")));
  EXPECT_THROW(tokenizer.decode(-1), FormatError);
}

TEST(Tokenizer, RefusesVocabulariesThatDoNotFit) {
  expect_error([](Vocabulary& v) { v.model = "llama", v.pre_tokenizer = "default"; },
               "model \"llama\" is not supported; gpt2");
  expect_error([](Vocabulary& v) { v.pre_tokenizer = "x"; }, "pre-tokenizer \"x\"");
  expect_error([](Vocabulary& v) { v.kinds.pop_back(); }, "16 tokens, but kinds of 15");
  expect_error([](Vocabulary& v) { v.begin = 16; }, "the begin token 16 is outside");
  expect_error([](Vocabulary& v) { v.end = -1; }, "the end token -1 is outside");
  expect_error([](Vocabulary& v) { v.end_of_turn = 99; }, "the end-of-turn token 99 is outside");
  expect_error(
      [](Vocabulary& v) {
        v.add_begin = Vocabulary::Begin::added;
        v.begin.reset();
      },
      "should begin with a token");
}

TEST(Tokenizer, RefusesMergesThatDoNotFit) {
  expect_error([](Vocabulary& v) { v.merges[1] = "ab"; }, "merge 1, \"ab\", has no space");
  expect_error([](Vocabulary& v) { v.merges[0] = "a d"; }, "needs \"ad\", which is no token");
  expect_error([](Vocabulary& v) { v.merges[0] = "dd dd"; }, "needs \"dd\", which is no token");
  expect_error([](Vocabulary& v) { v.merges[2] = "a "; }, "needs \"\", which is no token");
  expect_error([](Vocabulary& v) { v.merges[2] = ""; }, "merge 2");
}

}  // namespace
}  // namespace smollm2
