// SPDX-License-Identifier: MIT
/// \file
/// A Jinja template as a tree.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "jinja_value.hpp"

namespace smollm2::jinja {

/// What an expression does with its operands.
enum class Operation {
  constant,  ///< gives `value`
  variable,  ///< gives the value of the variable whose name is `value`
  item,      ///< a[b] and a.b
  equal,
  not_equal,
  in,
  sum,
  all,  ///< and
  any,  ///< or
  negation,
  is_defined,
  trim,
  length,
  raise,  ///< raise_exception(a)
};

/// An expression.
struct Expression {
  Operation operation;
  int line;
  Value value = {};
  std::vector<Expression> operands = {};
  int depth = 1;  ///< how many expressions lie within each other
};

/// What a statement does.
enum class Action {
  text,   ///< writes `text`
  print,  ///< writes the value of the expression
  set,    ///< gives the variable `text` the value of the expression
  loop,   ///< does the body for each item of the expression, which the variable `text` gets
  choose  ///< does the body whose expression is true; a further body stands for else
};

/// A statement.
struct Statement {
  Action action;
  int line;
  std::string text = {};
  std::vector<Expression> expressions = {};
  std::vector<std::vector<Statement>> bodies = {};
};

/// Parses a template.
///
/// \throws FormatError if it has an error, or something that is not supported; the text says what
///   and where. Expressions and statements lie within each other at most 200 deep.
std::vector<Statement> parse(std::string_view source);

}  // namespace smollm2::jinja
