// SPDX-License-Identifier: MIT
#include "chat_template.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <utility>

#include "jinja_lexer.hpp"

namespace smollm2 {
namespace {

using namespace jinja;

// Loops within loops and strings that double could go on forever. A chat needs a fraction of this.
constexpr std::size_t most_work = std::size_t{1} << 28;  // in bytes that are copied
constexpr std::size_t work_per_step = 1024, work_per_round = 4 * work_per_step;

class Renderer {
 public:
  explicit Renderer(Map variables) { scopes_.push_back(std::move(variables)); }

  std::string run(const std::vector<Statement>& statements) {
    perform(statements);
    return std::move(text_);
  }

 private:
  std::vector<Map> scopes_;  // the innermost is last
  std::string text_;
  std::size_t work_ = 0;

  void spend(std::size_t work, int line) {
    work_ += work;
    if (work_ > most_work) throw template_error(line, "it takes too long");
  }

  void perform(const std::vector<Statement>& statements) {
    for (const Statement& statement : statements) perform(statement);
  }

  void perform(const Statement& statement) {
    spend(work_per_step + statement.text.size(), statement.line);
    try {
      perform_action(statement);
    } catch (const std::invalid_argument& error) {  // of an operation, which knows no lines
      throw template_error(statement.line, error.what());
    }
  }

  void perform_action(const Statement& statement) {
    switch (statement.action) {
      case Action::text: text_ += statement.text; return;
      case Action::print: text_ += to_text(evaluate(statement.expressions.front())); return;
      case Action::set:
        scopes_.back().insert_or_assign(statement.text, evaluate(statement.expressions.front()));
        return;
      case Action::loop: return loop(statement);
      case Action::choose: return choose(statement);
    }
  }

  void loop(const Statement& statement) {
    const Value value = evaluate(statement.expressions.front());
    if (get<Undefined>(value)) return;
    const List* list = get_list(value);
    if (!list) throw std::invalid_argument("a loop over anything but a list is not supported");
    const auto size = static_cast<std::int64_t>(list->size());
    for (std::int64_t index = 0; index < size; ++index) {
      spend(work_per_round, statement.line);
      Map loop{{"first", index == 0},
               {"last", index == size - 1},
               {"index", index + 1},
               {"index0", index},
               {"length", size}};
      Map scope{{"loop", std::make_shared<const Map>(std::move(loop))}};
      scope.insert_or_assign(statement.text, (*list)[static_cast<std::size_t>(index)]);
      scopes_.push_back(std::move(scope));
      perform(statement.bodies.front());
      scopes_.pop_back();
    }
  }

  void choose(const Statement& statement) {
    std::size_t body = 0;
    while (body < statement.expressions.size() && !is_true(evaluate(statement.expressions[body])))
      ++body;
    if (body < statement.bodies.size()) perform(statement.bodies[body]);
  }

  Value variable(const std::string& name) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope)
      if (const auto found = scope->find(name); found != scope->end()) return found->second;
    return Undefined{};
  }

  Value evaluate(const Expression& expression) {
    Value value = apply(expression);
    const auto* text = get<std::string>(value);
    spend(work_per_step + (text ? text->size() : 0), expression.line);
    return value;
  }

  Value apply(const Expression& expression) {
    const auto operand = [&](std::size_t place) { return evaluate(expression.operands[place]); };
    switch (expression.operation) {
      case Operation::constant: return expression.value;
      case Operation::variable: return variable(std::get<std::string>(expression.value));
      case Operation::item: return item(operand(0), operand(1));
      case Operation::equal: return equal(operand(0), operand(1));
      case Operation::not_equal: return !equal(operand(0), operand(1));
      case Operation::in: return contains(operand(1), operand(0));
      case Operation::sum: return sum_of(expression);
      case Operation::all:
      case Operation::any: return decide(expression);
      case Operation::negation: return !is_true(operand(0));
      case Operation::is_defined: return get<Undefined>(operand(0)) == nullptr;
      case Operation::trim: return trimmed(operand(0));
      case Operation::length: return length(operand(0));
      case Operation::raise: throw FormatError(to_text(operand(0)));
    }
    return Undefined{};
  }

  Value sum_of(const Expression& expression) {
    Value total = evaluate(expression.operands.front());
    for (std::size_t i = 1; i < expression.operands.size(); ++i) {
      total = sum(total, evaluate(expression.operands[i]));
      const auto* text = get<std::string>(total);
      spend(text ? text->size() : 0, expression.line);
    }
    return total;
  }

  /// `and` and `or` give the operand that decides, and do not look at those behind it.
  Value decide(const Expression& expression) {
    const bool decisive = expression.operation == Operation::any;
    Value value;
    for (const Expression& operand : expression.operands) {
      value = evaluate(operand);
      if (is_true(value) == decisive) break;
    }
    return value;
  }
};

}  // namespace

ChatTemplate::ChatTemplate(std::string_view jinja, std::string bos_text, std::string eos_text)
    : statements_(jinja::parse(jinja)), bos_text_(std::move(bos_text)),
      eos_text_(std::move(eos_text)) {}

std::string ChatTemplate::render(std::span<const ChatMessage> messages,
                                 AddGenerationPrompt add_generation_prompt) const {
  List list;
  for (const ChatMessage& message : messages)
    list.push_back(
        std::make_shared<const Map>(Map{{"role", message.role}, {"content", message.content}}));
  return Renderer(Map{{"messages", std::make_shared<const List>(std::move(list))},
                      {"add_generation_prompt", add_generation_prompt == AddGenerationPrompt::yes},
                      {"bos_token", bos_text_},
                      {"eos_token", eos_text_}})
      .run(statements_);
}

}  // namespace smollm2
