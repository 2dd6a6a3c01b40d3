// SPDX-License-Identifier: MIT
/// \file
/// A chat as the text that a model knows chats by.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "jinja_parser.hpp"

namespace smollm2 {

/// What somebody says in a chat.
struct ChatMessage {
  std::string role;  ///< "system", "user" or "assistant"
  std::string content;
};

/// Whether a chat's text goes on to where the assistant begins to speak.
enum class AddGenerationPrompt { no, yes };

/// A model's chat template, in the part of Jinja that those of the Llama family need, as Hugging
/// Face renders them:
///
///     {{ .. }} {# .. #} {% set x = .. %} {% for x in .. %} {% if .. %} {% elif .. %} {% else %}
///     '..'  ".."  1  true  none  (..)  a.b  a['b']  a[-1]  ==  !=  in  not in  and  or  not  +
///     | trim  | length  is defined  raise_exception(..)  loop.index, index0, first, last, length
///
/// It knows the variables messages, add_generation_prompt, bos_token and eos_token.
class ChatTemplate {
 public:
  /// \param jinja the template
  /// \param bos_text what bos_token is
  /// \param eos_text what eos_token is
  /// \throws FormatError if the template has an error or something else of Jinja; the text says
  ///   what in which line.
  explicit ChatTemplate(std::string_view jinja, std::string bos_text = "",
                        std::string eos_text = "");

  /// The text of a chat.
  ///
  /// \throws FormatError if the template raises an exception, with its text, does what is not
  ///   supported, or takes too long.
  std::string render(std::span<const ChatMessage> messages,
                     AddGenerationPrompt add_generation_prompt) const;

 private:
  std::vector<jinja::Statement> statements_;
  std::string bos_text_, eos_text_;
};

}  // namespace smollm2
