// SPDX-License-Identifier: MIT
#include "jinja_value.hpp"

#include <algorithm>
#include <cstddef>
#include <stdexcept>
#include <string_view>

#include <utf8proc.h>

namespace smollm2::jinja {
namespace {

std::string type_of(const Value& value) {
  if (get<Undefined>(value)) return "something undefined";
  if (get<None>(value)) return "none";
  if (get<bool>(value)) return "a truth value";
  if (get<std::int64_t>(value)) return "an integer";
  if (get<std::string>(value)) return "a string";
  return get_list(value) ? "a list" : "a map";
}

std::invalid_argument unsupported(const std::string& what) {
  return std::invalid_argument(what + " is not supported");
}

/// What Python's str.isspace takes for space.
bool is_space(std::int32_t code) {
  const utf8proc_property_t* property = utf8proc_get_property(code);
  return property->category == UTF8PROC_CATEGORY_ZS ||
         property->bidi_class == UTF8PROC_BIDI_CLASS_WS ||
         property->bidi_class == UTF8PROC_BIDI_CLASS_B ||
         property->bidi_class == UTF8PROC_BIDI_CLASS_S;
}

/// How many bytes the space character at the beginning of a text has; 0 if there is none.
std::size_t space_size(std::string_view text) {
  utf8proc_int32_t code = 0;
  const utf8proc_ssize_t size =
      utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                       static_cast<utf8proc_ssize_t>(text.size()), &code);
  return size > 0 && is_space(code) ? static_cast<std::size_t>(size) : 0;
}

bool goes_on(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

std::string_view trimmed_text(std::string_view text) {
  while (const std::size_t size = space_size(text)) text.remove_prefix(size);
  while (!text.empty()) {
    std::size_t last = text.size() - 1;
    while (last > 0 && goes_on(text[last])) --last;
    const std::string_view character = text.substr(last);
    if (space_size(character) != character.size()) break;
    text.remove_suffix(character.size());
  }
  return text;
}

}  // namespace

bool is_true(const Value& value) {
  if (const auto* truth = get<bool>(value)) return *truth;
  if (const auto* number = get<std::int64_t>(value)) return *number != 0;
  if (const auto* text = get<std::string>(value)) return !text->empty();
  if (const List* list = get_list(value)) return !list->empty();
  if (const Map* map = get_map(value)) return !map->empty();
  return false;
}

std::string to_text(const Value& value) {
  if (get<Undefined>(value)) return "";
  if (get<None>(value)) return "None";
  if (const auto* truth = get<bool>(value)) return *truth ? "True" : "False";
  if (const auto* number = get<std::int64_t>(value)) return std::to_string(*number);
  if (const auto* text = get<std::string>(value)) return *text;
  throw unsupported("writing " + type_of(value));
}

bool equal(const Value& a, const Value& b) {
  const auto number_of = [](const Value& value) {
    const auto* truth = get<bool>(value);
    return truth ? Value(std::int64_t{*truth}) : value;
  };
  const Value left = number_of(a), right = number_of(b);
  if (left.index() != right.index()) return false;
  if (const auto* number = get<std::int64_t>(left)) return *number == *get<std::int64_t>(right);
  if (const auto* text = get<std::string>(left)) return *text == *get<std::string>(right);
  if (get_list(left) || get_map(left)) throw unsupported("comparing " + type_of(left));
  return true;  // both are undefined, or none
}

bool contains(const Value& container, const Value& value) {
  if (get<Undefined>(container)) return false;
  const auto* key = get<std::string>(value);
  if (const auto* text = get<std::string>(container); text && key)
    return text->find(*key) != std::string::npos;
  if (const Map* map = get_map(container); map && key) return map->contains(*key);
  if (const List* list = get_list(container))
    return std::any_of(list->begin(), list->end(),
                       [&](const Value& element) { return equal(element, value); });
  throw unsupported("looking for " + type_of(value) + " in " + type_of(container));
}

Value sum(const Value& a, const Value& b) {
  if (const auto *left = get<std::string>(a), *right = get<std::string>(b); left && right)
    return *left + *right;
  if (const auto *left = get<std::int64_t>(a), *right = get<std::int64_t>(b); left && right) {
    std::int64_t result = 0;
    if (__builtin_add_overflow(*left, *right, &result)) throw unsupported("a sum so large");
    return result;
  }
  throw unsupported("adding " + type_of(b) + " to " + type_of(a));
}

Value item(const Value& container, const Value& key) {
  if (get<Undefined>(container) || get<std::string>(container))
    throw unsupported("an item of " + type_of(container));
  if (const Map* map = get_map(container)) {
    const auto* name = get<std::string>(key);
    const auto found = name ? map->find(*name) : map->end();
    return found != map->end() ? found->second : Undefined{};
  }
  const List* list = get_list(container);
  const auto* number = get<std::int64_t>(key);
  if (!list || !number) return Undefined{};
  const auto size = static_cast<std::int64_t>(list->size());
  const std::int64_t place = *number < 0 ? *number + size : *number;
  return place >= 0 && place < size ? (*list)[static_cast<std::size_t>(place)] : Undefined{};
}

Value trimmed(const Value& value) { return std::string(trimmed_text(to_text(value))); }

Value length(const Value& value) {
  std::int64_t size = 0;
  if (const auto* text = get<std::string>(value))
    size = std::count_if(text->begin(), text->end(), [](char byte) { return !goes_on(byte); });
  else if (const List* list = get_list(value))
    size = static_cast<std::int64_t>(list->size());
  else if (const Map* map = get_map(value))
    size = static_cast<std::int64_t>(map->size());
  else if (!get<Undefined>(value))
    throw unsupported("the length of " + type_of(value));
  return size;
}

}  // namespace smollm2::jinja
