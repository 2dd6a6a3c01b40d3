// SPDX-License-Identifier: MIT
/// \file
/// A Jinja template's pieces.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "format_error.hpp"

namespace smollm2::jinja {

/// A piece of a template.
struct Lexeme {
  /// What it is; `end` stands behind the last one.
  enum class Kind { text, open, close, name, string, integer, symbol, end } kind;
  std::string text;  ///< of a string, without quotes and escapes; of a tag, without signs
  int line;          ///< where it begins, from 1
};

/// An error of a template.
FormatError template_error(int line, const std::string& what);

/// Cuts a template into pieces. Comments are left out, and white space around tags as Hugging Face
/// has it: Jinja's trim_blocks and lstrip_blocks. Also like Jinja, one line end at the end of the
/// template is left out, and all of them become \\n.
///
/// \throws FormatError if a comment or string has no end, a character has no meaning, an escape is
///   none of \\\\ \\' \\" \\n \\r \\t, or a number is no integer.
std::vector<Lexeme> lex(std::string_view source);

}  // namespace smollm2::jinja
