// SPDX-License-Identifier: MIT
/// \file
/// Chat templates: what is expected here is what jinja2 gives with trim_blocks and lstrip_blocks.

#include "chat_template.hpp"

#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "format_error.hpp"

namespace smollm2 {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

const std::vector<ChatMessage> chat{{"system", "Be brief."}, {"user", " Hi!\n"}};

std::string render(std::string_view source, const std::vector<ChatMessage>& messages = chat,
                   AddGenerationPrompt prompt = AddGenerationPrompt::yes) {
  return ChatTemplate(source, "<s>", "</s>").render(messages, prompt);
}

/// Expects an error when the template is parsed.
void expect_parse_error(std::string_view source, const std::string& message) {
  EXPECT_THAT([&] { ChatTemplate{source}; }, ThrowsMessage<FormatError>(HasSubstr(message)))
      << source.substr(0, 100);
}

/// Expects an error when the template, which can be parsed, is rendered.
void expect_render_error(std::string_view source, const std::string& message) {
  const ChatTemplate made(source);
  EXPECT_THAT([&] { made.render(chat, AddGenerationPrompt::no); },
              ThrowsMessage<FormatError>(HasSubstr(message)))
      << source.substr(0, 100);
}

constexpr std::string_view smollm2_template =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}";

TEST(ChatTemplate, SmolLm2) {
  EXPECT_EQ(render(smollm2_template),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi!\n<|im_end|>\n"
            "<|im_start|>assistant\n");
  EXPECT_EQ(render(smollm2_template, {{"user", "x"}}, AddGenerationPrompt::no),
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
            "Face<|im_end|>\n<|im_start|>user\nx<|im_end|>\n");
  EXPECT_EQ(render(smollm2_template, {}), "<|im_start|>assistant\n");
}

TEST(ChatTemplate, Llama3) {
  EXPECT_EQ(
      render("{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = "
             "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ "
             "message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content "
             "= bos_token + content %}{% endif %}{{ content }}{% endfor %}{{ "
             "'<|start_header_id|>assistant<|end_header_id|>\n\n' }}"),
      "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
      "<|start_header_id|>user<|end_header_id|>\n\nHi!<|eot_id|>"
      "<|start_header_id|>assistant<|end_header_id|>\n\n");
}

TEST(ChatTemplate, ChatMl) {
  EXPECT_EQ(render("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + "
                   "message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi!\n<|im_end|>\n");
}

TEST(ChatTemplate, Zephyr) {
  EXPECT_EQ(render("{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
                   "{{ '<|user|>\n' + message['content'] + eos_token }}\n"
                   "{% elif message['role'] == 'system' %}\n"
                   "{{ '<|system|>\n' + message['content'] + eos_token }}\n{% endif %}\n"
                   "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n"
                   "{% endif %}\n{% endfor %}"),
            "<|system|>\nBe brief.</s>\n<|user|>\n Hi!\n</s>\n<|assistant|>\n");
}

TEST(ChatTemplate, WhiteSpaceAroundTags) {
  EXPECT_EQ(render(""), "");
  EXPECT_EQ(render("\n"), "");
  EXPECT_EQ(render("\n\n"), "\n");
  EXPECT_EQ(render("a\r\nb\rc\r\n"), "a\nb\nc");
  EXPECT_EQ(render("{% if true %}\n\n x{% endif %}\n\ny"), "\n x\ny");
  EXPECT_EQ(render("a\n \t{% if true %}b\n  {% endif %}\nc"), "a\nb\nc");
  EXPECT_EQ(render("a {% if true %} b {% endif %} c"), "a  b  c");
  EXPECT_EQ(render(" a \n {%- if true -%} \n b \n {%- endif %} \nc"), " ab \nc");
  EXPECT_EQ(render("  {%+ if true +%}\nb{% endif %}"), "  \nb");
  EXPECT_EQ(render("a\n  {{ 1 }}\nb {{- 2 -}} \n c"), "a\n  1\nb2c");
  EXPECT_EQ(render("a\n  {# x #}\nb {#- y -#} \n c{#-#}d{##}"), "a\nbcd");
  EXPECT_EQ(render("{ } {x} %} #} }}"), "{ } {x} %} #} }}");
}

TEST(ChatTemplate, Strings) {
  EXPECT_EQ(render(R"({{ 'it\'s' + "\"q\"" + '\\\n\t\r|' }})"), "it's\"q\"\\\n\t\r|");
  EXPECT_EQ(render("{{ \"it's {{ %} }}\" }}{{ 'a\nb' }}{{ '' }}"), "it's {{ %} }}a\nb");
}

TEST(ChatTemplate, Operators) {
  EXPECT_EQ(render("{{ 1 + 2 + -4 }}{{ 'a' + 'b' | trim + 'c' }}{{ (' a' + 'b ') | trim }}"),
            "-1abcab");
  EXPECT_EQ(render("{{ 1 == 1 }}{{ 1 == '1' }}{{ 1 == true }}{{ none == none }}{{ u == none }}"),
            "TrueFalseTrueTrueFalse");
  EXPECT_EQ(render("{{ 'a' != 'b' }}{{ not 1 == 2 }}{{ not not 'x' }}"), "TrueTrueTrue");
  EXPECT_EQ(render("{{ false or none or 3 }}{{ 0 and u.v }}{{ true and 'v' }}{{ 1 or u.v }}"),
            "30v1");
  EXPECT_EQ(render("{{ false and false or true }}{{ not true or true }}"), "TrueTrue");
  EXPECT_EQ(render("{{ 'b' in 'abc' }}{{ 'x' not in 'abc' }}{{ 'role' in messages[0] }}"),
            "TrueTrueTrue");
  EXPECT_EQ(render("{{ 1 in messages }}{{ 'x' in u }}"), "FalseFalse");
}

TEST(ChatTemplate, Items) {
  EXPECT_EQ(render("{{ messages[0]['role'] }} {{ messages[-1].role }} {{ messages[1]['role'] }}"),
            "system user user");
  EXPECT_EQ(render("[{{ messages[2] }}{{ messages[-3] }}{{ messages[0].x }}{{ messages.x }}]"),
            "[]");
}

TEST(ChatTemplate, Definedness) {
  EXPECT_EQ(render("{{ u }}{{ u is defined }}{{ u is not defined }}{{ messages is defined }}"),
            "FalseTrueTrue");
  EXPECT_EQ(render("{{ not u is defined }}{% set u = none %}{{ u is defined }}{{ u }}"),
            "TrueTrueNone");
}

TEST(ChatTemplate, Filters) {
  EXPECT_EQ(render("[{{ '\u3000\u00a0 \t\x1c x y \u2028\u0085\n' | trim }}]"), "[x y]");
  EXPECT_EQ(render("[{{ '  ' | trim }}{{ '' | trim }}{{ 5 | trim }}{{ u | trim }}]"), "[5]");
  EXPECT_EQ(render("{{ messages | length }}{{ 'aé日' | length }}{{ u | length }}"
                   "{{ ' a ' | trim | length }}"),
            "2301");
  EXPECT_EQ(render("[{{ '\xff \x80' | trim }}]"), "[\xff \x80]");
}

TEST(ChatTemplate, Loops) {
  EXPECT_EQ(render("{% for m in messages %}{{ loop.index0 }}{{ loop.index }}{{ loop.length }}"
                   "{{ loop.first }}{{ loop.last }};{% endfor %}"),
            "012TrueFalse;122FalseTrue;");
  EXPECT_EQ(render("{% for m in messages %}{% for n in messages %}{{ loop.index }}{% endfor %}"
                   "{{ loop.index }} {% endfor %}{{ m }}{{ loop }}"),
            "121 122 ");
  EXPECT_EQ(render("{% for m in nothing %}x{% endfor %}y"), "y");
}

TEST(ChatTemplate, VariablesOfALoopEndWithEachRound) {
  EXPECT_EQ(render("{% set x = 1 %}{% for m in messages %}{{ x }}{% set x = 2 %}{{ x }}"
                   "{% endfor %}{{ x }}"),
            "12121");
  EXPECT_EQ(render("{% if true %}{% set y = 3 %}{% endif %}{{ y }}"), "3");
}

TEST(ChatTemplate, NestedConditions) {
  const std::string_view source =
      "{% for m in messages %}{% if m.role == 'system' %}S{% if m.content %}+{% else %}-"
      "{% endif %}{% elif m.role == 'user' %}U{% elif true %}{% if false %}{% endif %}O"
      "{% else %}!{% endif %}{% endfor %}";
  EXPECT_EQ(render(source, {{"system", ""}, {"system", "x"}, {"user", ""}, {"tool", ""}}),
            "S-S+UO");
}

TEST(ChatTemplate, WhatIsSaidIsNoTemplate) {
  EXPECT_EQ(render("{{ messages[0].content }}", {{"user", "{{ 1 }}\r\n{% x %}\xff"}}),
            "{{ 1 }}\r\n{% x %}\xff");
}

TEST(ChatTemplate, RaisesExceptions) {
  const ChatTemplate made(
      "{% if messages[0].role != 'user' %}\n{{ raise_exception('no ' + "
      "messages[0].role + '!') }}{% endif %}ok");
  EXPECT_THAT([&] { made.render(chat, AddGenerationPrompt::no); },
              ThrowsMessage<FormatError>(::testing::StrEq("no system!")));
  EXPECT_EQ(made.render(std::vector<ChatMessage>{{"user", ""}}, AddGenerationPrompt::no), "ok");
}

TEST(ChatTemplate, SaysWhatIsNotSupported) {
  expect_parse_error("\n\n{% macro x() %}", "line 3: {% macro %} is not supported");
  expect_parse_error("{{ x | upper }}", "line 1: the filter upper is not supported");
  expect_parse_error("{{ x is string }}", "the test string is not supported");
  expect_parse_error("{{\nf(1) }}", "line 2: the function f is not supported");
  expect_parse_error("{{ x.strip() }}", "'(' is not expected or not supported");
  expect_parse_error("{{ a if b else c }}", "'if' is not expected or not supported");
  expect_parse_error("{{ 1 - 2 }}", "'-' is not expected or not supported");
  expect_parse_error("{{ a < b }}", "'<' is not expected or not supported");
  expect_parse_error("{{ [1] }}", "'[' is not expected or not supported");
  expect_parse_error("{{ m[1:] }}", "':' is not expected or not supported");
  expect_parse_error("{{ 1.5 }}", "numbers other than integers are not supported");
  expect_parse_error("{{ 99999999999999999999 }}", "integer 99999999999999999999 is too large");
  expect_parse_error("{{ '\\x41' }}", "the escape \\x is not supported");
  expect_parse_error("{% for m in x %}{{ loop.previtem }}{% endfor %}",
                     "loop.previtem is not supported");
  expect_parse_error("{% for a, b in x %}{% endfor %}", "','");
  expect_parse_error("{% for m in x %}{% else %}{% endfor %}", "{% else %} is not expected");
}

TEST(ChatTemplate, SaysWhatIsWrong) {
  expect_parse_error("a\n{{ 1", "line 2: {{ has no end");
  expect_parse_error("{% if true", "line 1: {% has no end");
  expect_parse_error("a\n{# b", "line 2: the comment has no end");
  expect_parse_error("{{ 'a }}", "line 1: the string has no end");
  expect_parse_error("{{ 'a\\", "the escape \\ is not supported");
  expect_parse_error("{{ }}", "'}}' is not expected");
  expect_parse_error("{{ 1 2 }}", "'2' is not expected");
  expect_parse_error("{{ (1 }}", "'}}' is not expected");
  expect_parse_error("{{ ! }}", "'!' has no meaning in a tag");
  expect_parse_error("{{ é }}", "has no meaning in a tag");
  expect_parse_error("{% %}", "'%}' is not expected");
  expect_parse_error("{% if x %}\n\n", "line 2: the template ends too early");
  expect_parse_error("{% endif %}", "{% endif %} is not expected");
  expect_parse_error("{% if x %}{% endfor %}", "{% endfor %} is not expected");
  expect_parse_error("{% set x %}", "'%}' is not expected");
  expect_parse_error("{% set 1 = 2 %}", "'1' is not expected");
  expect_parse_error("{{ a.1 }}", "'1' is not expected");
  expect_parse_error("{{ a not b }}", "'b' is not expected");
}

TEST(ChatTemplate, SaysWhatCannotBeDone) {
  expect_render_error("\n{{ u.x }}", "line 2: an item of something undefined is not supported");
  expect_render_error("{{ 'a' + 1 }}", "adding an integer to a string is not supported");
  expect_render_error("{{ messages }}", "writing a list is not supported");
  expect_render_error("{{ messages[0] }}", "writing a map is not supported");
  expect_render_error("{{ messages == messages }}", "comparing a list is not supported");
  expect_render_error("{{ 1 | length }}", "the length of an integer is not supported");
  expect_render_error("{{ 1 in none }}", "looking for an integer in none is not supported");
  expect_render_error("{{ 9223372036854775807 + 1 }}", "a sum so large is not supported");
  expect_render_error("{% for c in 'abc' %}{% endfor %}", "loop over anything but a list");
}

TEST(ChatTemplate, IsNotTooDeep) {
  const auto repeated = [](std::string_view text, int times) {
    std::string result;
    for (int i = 0; i < times; ++i) result += text;
    return result;
  };
  EXPECT_EQ(render("{{ " + repeated("(", 90) + "1" + repeated(")", 90) + " }}"), "1");
  EXPECT_EQ(render("{{ 0" + repeated(" + 1", 5000) + " }}"), "5000");
  const std::string what = "too much lies within each other";
  expect_parse_error("{{ " + repeated("(", 100'000) + " }}", what);
  expect_parse_error("{{ " + repeated("not ", 100'000) + " }}", what);
  expect_parse_error("{{ " + repeated("a[", 100'000) + " }}", what);
  expect_parse_error("{{ a" + repeated(".a", 100'000) + " }}", what);
  expect_parse_error("{{ a" + repeated(" | trim", 100'000) + " }}", what);
  expect_parse_error(repeated("{% if a %}", 100'000), what);
  expect_parse_error(repeated("{% for a in a %}", 100'000), what);
}

TEST(ChatTemplate, DoesNotTakeForever) {
  std::string loops, ends;
  for (int i = 0; i < 50; ++i) loops += "{% for m in messages %}", ends += "{% endfor %}";
  expect_render_error(loops + ends, "it takes too long");
  std::string doubled = "{% set x = 'xxxxxxxx' %}";
  for (int i = 0; i < 60; ++i) doubled += "{% set x = x + x %}";
  expect_render_error(doubled, "it takes too long");
}

}  // namespace
}  // namespace smollm2
