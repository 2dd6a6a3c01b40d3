// SPDX-License-Identifier: MIT
#include "jinja_lexer.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

namespace smollm2::jinja {
namespace {

using Kind = Lexeme::Kind;
using std::string_view_literals::operator""sv;

bool is_space(char c) { return (c >= '\t' && c <= '\r') || (c >= '\x1c' && c <= ' '); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || is_digit(c);
}

std::string with_plain_line_ends(std::string_view source) {
  std::string text;
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r')
      text += source[i];
    else if (i + 1 == source.size() || source[i + 1] != '\n')
      text += '\n';
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

/// How much of a template comes before its first tag or comment.
std::size_t text_size(std::string_view source) {
  for (std::size_t place = 0; place + 1 < source.size(); ++place)
    if (source[place] == '{' && "{%#"sv.find(source[place + 1]) != std::string_view::npos)
      return place;
  return source.size();
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(with_plain_line_ends(source)), rest_(source_) {}

  std::vector<Lexeme> run() {
    while (!rest_.empty()) {
      text();
      if (rest_.starts_with("{#"))
        comment();
      else if (!rest_.empty())
        tag();
    }
    add(Kind::end, "");
    return std::move(lexemes_);
  }

 private:
  const std::string source_;
  std::string_view rest_;
  int line_ = 1;
  bool at_line_start_ = true;  // where text begins, other than by a line end in it
  std::vector<Lexeme> lexemes_;

  void add(Kind kind, std::string text) { lexemes_.push_back({kind, std::move(text), line_}); }

  std::string_view take(std::size_t size) {
    const std::string_view taken = rest_.substr(0, size);
    line_ += static_cast<int>(std::count(taken.begin(), taken.end(), '\n'));
    rest_.remove_prefix(size);
    return taken;
  }

  template <class Predicate>
  std::string_view take_while(Predicate predicate) {
    std::size_t size = 0;
    while (size < rest_.size() && predicate(rest_[size])) ++size;
    return take(size);
  }

  /// Text up to the next tag, which says what becomes of the space before it.
  void text() {
    const std::size_t size = text_size(rest_);
    const std::string_view tag = rest_.substr(size);
    std::string_view kept = rest_.substr(0, size);
    const char sign = tag.size() > 2 ? tag[2] : ' ';
    if (sign == '-') {
      while (!kept.empty() && is_space(kept.back())) kept.remove_suffix(1);
    } else if (sign != '+' && !tag.empty() && !tag.starts_with("{{")) {
      const std::size_t line_end = kept.rfind('\n');
      const std::size_t start = line_end == std::string_view::npos ? 0 : line_end + 1;
      const std::string_view indent = kept.substr(start);
      if ((start > 0 || at_line_start_) && std::all_of(indent.begin(), indent.end(), is_space))
        kept = kept.substr(0, start);
    }
    if (!kept.empty()) add(Kind::text, std::string(kept));
    take(size);
  }

  void take_sign() {
    if (rest_.starts_with('-') || rest_.starts_with('+')) take(1);
  }

  /// What a tag's end, already taken, does to the space behind it.
  void trim_behind(char sign, std::string_view end) {
    std::string_view space;
    if (sign == '-')
      space = take_while(is_space);
    else if (sign != '+' && end != "}}" && rest_.starts_with('\n'))
      space = take(1);
    at_line_start_ = space.ends_with('\n');
  }

  void comment() {
    const int line = line_;
    take(2);
    take_sign();
    const std::size_t size = rest_.find("#}");
    if (size == std::string_view::npos) throw template_error(line, "the comment has no end");
    const char sign = size > 0 ? rest_[size - 1] : ' ';
    take(size + 2);
    trim_behind(sign, "#}");
  }

  void tag() {
    const int line = line_;
    const std::string open(rest_.substr(0, 2));
    const std::string_view end = open == "{{" ? "}}"sv : "%}"sv;
    add(Kind::open, open);
    take(2);
    take_sign();
    while (true) {
      take_while(is_space);
      if (rest_.empty()) throw template_error(line, open + " has no end");
      const bool has_sign = rest_[0] == '-' || (rest_[0] == '+' && end == "%}");
      if (rest_.substr(has_sign ? 1 : 0).starts_with(end)) {
        add(Kind::close, std::string(end));
        const char sign = has_sign ? rest_[0] : ' ';
        take(has_sign ? 3 : 2);
        return trim_behind(sign, end);
      }
      lexeme();
    }
  }

  void lexeme() {
    const char first = rest_.front();
    if (first == '\'' || first == '"') return string(first);
    if (is_digit(first)) {
      add(Kind::integer, std::string(take_while(is_digit)));
      if (!rest_.empty() && (is_name(rest_[0]) || rest_[0] == '.'))
        throw template_error(line_, "numbers other than integers are not supported");
      return;
    }
    if (is_name(first)) return add(Kind::name, std::string(take_while(is_name)));
    constexpr std::array two_characters{"=="sv, "!="sv, "<="sv, ">="sv, "//"sv, "**"sv};
    for (const std::string_view symbol : two_characters)
      if (rest_.starts_with(symbol)) return add(Kind::symbol, std::string(take(2)));
    if ("()[]{}.,:|+-*/%~<>="sv.find(first) == std::string_view::npos)
      throw template_error(line_, "'" + std::string(1, first) + "' has no meaning in a tag");
    add(Kind::symbol, std::string(take(1)));
  }

  void string(char quote) {
    Lexeme lexeme{Kind::string, "", line_};
    take(1);
    while (!rest_.starts_with(quote)) {
      if (rest_.empty()) throw template_error(lexeme.line, "the string has no end");
      lexeme.text += rest_.front() == '\\' ? escaped() : rest_.front();
      take(1);
    }
    take(1);
    lexemes_.push_back(std::move(lexeme));
  }

  /// The character that is written by a backslash, which it takes, and the next character.
  char escaped() {
    take(1);
    const std::string_view letter = rest_.substr(0, 1);
    if (letter == "n") return '\n';
    if (letter == "r") return '\r';
    if (letter == "t") return '\t';
    if (letter == "\\" || letter == "'" || letter == "\"") return letter.front();
    throw template_error(line_, "the escape \\" + std::string(letter) + " is not supported");
  }
};

}  // namespace

FormatError template_error(int line, const std::string& what) {
  return FormatError("chat template, line " + std::to_string(line) + ": " + what);
}

std::vector<Lexeme> lex(std::string_view source) { return Lexer(source).run(); }

}  // namespace smollm2::jinja
