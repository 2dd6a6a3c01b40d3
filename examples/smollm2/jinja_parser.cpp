// SPDX-License-Identifier: MIT
#include "jinja_parser.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "jinja_lexer.hpp"

namespace smollm2::jinja {
namespace {

using Kind = Lexeme::Kind;
using std::string_view_literals::operator""sv;

// Whoever goes through a tree does so by recursion, so a file should not decide on its depth.
constexpr int most_depth = 200;

/// Counts how deep the parser is.
class Depth {
 public:
  Depth(int& depth, int line) : depth_(depth) {
    if (++depth_ <= most_depth) return;
    --depth_;
    throw template_error(line, "too much lies within each other");
  }
  ~Depth() { --depth_; }
  Depth(const Depth&) = delete;
  Depth& operator=(const Depth&) = delete;

 private:
  int& depth_;
};

class Parser {
 public:
  explicit Parser(std::string_view source) : lexemes_(lex(source)) {}

  std::vector<Statement> run() {
    std::vector<Statement> statements = body();
    if (next().kind != Kind::end) throw not_understood();
    return statements;
  }

 private:
  std::vector<Lexeme> lexemes_;
  std::size_t place_ = 0;
  int depth_ = 0;

  const Lexeme& next() const { return lexemes_[place_]; }

  FormatError not_understood() const {
    if (next().kind == Kind::end) return template_error(next().line, "the template ends too early");
    if (next().kind == Kind::open && lexemes_[place_ + 1].kind == Kind::name)
      return template_error(next().line, "{% " + lexemes_[place_ + 1].text + " %} is not expected");
    return template_error(next().line, "'" + next().text + "' is not expected or not supported");
  }

  bool is(Kind kind, std::string_view text) const {
    return next().kind == kind && next().text == text;
  }
  bool accept(Kind kind, std::string_view text) {
    const bool accepted = is(kind, text);
    if (accepted) ++place_;
    return accepted;
  }
  void expect(Kind kind, std::string_view text) {
    if (!accept(kind, text)) throw not_understood();
  }
  std::string expect_name() {
    if (next().kind != Kind::name) throw not_understood();
    return lexemes_[place_++].text;
  }

  bool at_tag(std::string_view name) const {
    return is(Kind::open, "{%") && lexemes_[place_ + 1].kind == Kind::name &&
           lexemes_[place_ + 1].text == name;
  }
  bool accept_tag(std::string_view name) {
    const bool accepted = at_tag(name);
    if (accepted) place_ += 2;
    return accepted;
  }
  void expect_tag(std::string_view name) {
    if (!accept_tag(name)) throw not_understood();
    expect(Kind::close, "%}");
  }

  /// Statements up to a tag that ends or divides one around them.
  std::vector<Statement> body() {
    const Depth depth(depth_, next().line);
    std::vector<Statement> statements;
    while (next().kind != Kind::end && !at_tag("endfor") && !at_tag("endif") && !at_tag("elif") &&
           !at_tag("else"))
      statements.push_back(statement());
    return statements;
  }

  Statement statement() {
    const int line = next().line;
    if (next().kind == Kind::text) return {Action::text, line, lexemes_[place_++].text};
    if (accept(Kind::open, "{{")) {
      Statement print{Action::print, line, "", {expression()}};
      expect(Kind::close, "}}");
      return print;
    }
    expect(Kind::open, "{%");
    const std::string name = expect_name();
    if (name == "set") return set(line);
    if (name == "for") return loop(line);
    if (name == "if") return choose(line);
    throw template_error(line, "{% " + name + " %} is not supported");
  }

  Statement set(int line) {
    Statement statement{Action::set, line, expect_name()};
    expect(Kind::symbol, "=");
    statement.expressions.push_back(expression());
    expect(Kind::close, "%}");
    return statement;
  }

  Statement loop(int line) {
    Statement statement{Action::loop, line, expect_name()};
    expect(Kind::name, "in");
    statement.expressions.push_back(expression());
    expect(Kind::close, "%}");
    statement.bodies.push_back(body());
    expect_tag("endfor");
    return statement;
  }

  Statement choose(int line) {
    Statement statement{Action::choose, line};
    do {
      statement.expressions.push_back(expression());
      expect(Kind::close, "%}");
      statement.bodies.push_back(body());
    } while (accept_tag("elif"));
    if (accept_tag("else")) {
      expect(Kind::close, "%}");
      statement.bodies.push_back(body());
    }
    expect_tag("endif");
    return statement;
  }

  static Expression constant(int line, Value value) {
    return {Operation::constant, line, std::move(value)};
  }

  static Expression make(Operation operation, int line, std::vector<Expression> operands) {
    Expression made{operation, line, {}, std::move(operands)};
    for (const Expression& operand : made.operands)
      made.depth = std::max(made.depth, operand.depth + 1);
    if (made.depth > most_depth) throw template_error(line, "too much lies within each other");
    return made;
  }

  template <class... Operands>
  static Expression make(Operation operation, int line, Expression first, Operands... others) {
    std::vector<Expression> operands;
    operands.push_back(std::move(first));
    (operands.push_back(std::move(others)), ...);
    return make(operation, line, std::move(operands));
  }

  /// Operands of one kind with the same operator between them.
  template <class Operand>
  Expression joined(Operation operation, Kind kind, std::string_view symbol, Operand operand) {
    const int line = next().line;
    std::vector<Expression> operands;
    do {
      operands.push_back(operand());
    } while (accept(kind, symbol));
    return operands.size() == 1 ? std::move(operands.front())
                                : make(operation, line, std::move(operands));
  }

  Expression expression() {
    const Depth depth(depth_, next().line);
    return joined(Operation::any, Kind::name, "or", [this] {
      return joined(Operation::all, Kind::name, "and", [this] { return negation(); });
    });
  }

  Expression negation() {
    const Depth depth(depth_, next().line);
    const int line = next().line;
    if (accept(Kind::name, "not")) return make(Operation::negation, line, negation());
    return comparison();
  }

  Expression comparison() {
    Expression left = sum();
    const int line = next().line;
    if (accept(Kind::symbol, "==")) return make(Operation::equal, line, std::move(left), sum());
    if (accept(Kind::symbol, "!=")) return make(Operation::not_equal, line, std::move(left), sum());
    if (accept(Kind::name, "in")) return make(Operation::in, line, std::move(left), sum());
    if (!accept(Kind::name, "not")) return left;
    expect(Kind::name, "in");
    return make(Operation::negation, line, make(Operation::in, line, std::move(left), sum()));
  }

  Expression sum() {
    return joined(Operation::sum, Kind::symbol, "+", [this] { return filtered(); });
  }

  /// Filters and tests bind more tightly than any operator.
  Expression filtered() {
    Expression left = item();
    while (true) {
      const int line = next().line;
      if (accept(Kind::symbol, "|")) {
        const std::string name = expect_name();
        if (name != "trim" && name != "length")
          throw template_error(line, "the filter " + name + " is not supported");
        left = make(name == "trim" ? Operation::trim : Operation::length, line, std::move(left));
      } else if (accept(Kind::name, "is")) {
        const bool negated = accept(Kind::name, "not");
        const std::string name = expect_name();
        if (name != "defined") throw template_error(line, "the test " + name + " is not supported");
        left = make(Operation::is_defined, line, std::move(left));
        if (negated) left = make(Operation::negation, line, std::move(left));
      } else {
        return left;
      }
    }
  }

  Expression item() {
    Expression left = primary();
    while (true) {
      const int line = next().line;
      if (accept(Kind::symbol, ".")) {
        left = item_of(line, std::move(left), constant(line, expect_name()));
      } else if (accept(Kind::symbol, "[")) {
        left = item_of(line, std::move(left), expression());
        expect(Kind::symbol, "]");
      } else {
        return left;
      }
    }
  }

  static Expression item_of(int line, Expression container, Expression key) {
    constexpr std::array loop_items{"first"sv, "last"sv, "index"sv, "index0"sv, "length"sv};
    const auto* variable = get<std::string>(container.value);
    const auto* name = get<std::string>(key.value);
    if (container.operation == Operation::variable && *variable == "loop" && name &&
        std::find(loop_items.begin(), loop_items.end(), *name) == loop_items.end())
      throw template_error(line, "loop." + *name + " is not supported");
    return make(Operation::item, line, std::move(container), std::move(key));
  }

  Expression primary() {
    const int line = next().line;
    if (accept(Kind::symbol, "(")) {
      Expression inner = expression();
      expect(Kind::symbol, ")");
      return inner;
    }
    if (next().kind == Kind::string) return constant(line, lexemes_[place_++].text);
    if (next().kind == Kind::integer || is(Kind::symbol, "-")) return constant(line, integer());
    const std::string name = expect_name();
    if (name == "true" || name == "True") return constant(line, true);
    if (name == "false" || name == "False") return constant(line, false);
    if (name == "none" || name == "None") return constant(line, None{});
    if (!accept(Kind::symbol, "(")) return {Operation::variable, line, name};
    if (name != "raise_exception")
      throw template_error(line, "the function " + name + " is not supported");
    Expression raise = make(Operation::raise, line, expression());
    expect(Kind::symbol, ")");
    return raise;
  }

  std::int64_t integer() {
    std::string digits;
    if (accept(Kind::symbol, "-")) digits = "-";
    if (next().kind != Kind::integer) throw not_understood();
    digits += next().text;
    std::int64_t number = 0;
    if (std::from_chars(digits.data(), digits.data() + digits.size(), number).ec != std::errc{})
      throw template_error(next().line, "the integer " + digits + " is too large");
    ++place_;
    return number;
  }
};

}  // namespace

std::vector<Statement> parse(std::string_view source) { return Parser(source).run(); }

}  // namespace smollm2::jinja
