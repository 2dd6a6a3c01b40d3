// SPDX-License-Identifier: MIT
/// \file
/// The values of Jinja's expressions, and what can be done with them.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

namespace smollm2::jinja {

struct Undefined {};  ///< what a name without a value has
struct None {};       ///< none

struct Value;
using List = std::vector<Value>;
using Map = std::map<std::string, Value, std::less<>>;

/// A value of any type. Lists and maps are never changed, so copies share them.
struct Value : std::variant<Undefined, None, bool, std::int64_t, std::string,
                            std::shared_ptr<const List>, std::shared_ptr<const Map>> {
  using variant::variant;
};

/// The value as `type` if that is what it is, else nullptr.
template <class Type>
const Type* get(const Value& value) {
  return std::get_if<Type>(&value);
}

/// Its list, or nullptr.
inline const List* get_list(const Value& value) {
  const auto* list = get<std::shared_ptr<const List>>(value);
  return list ? list->get() : nullptr;
}

/// Its map, or nullptr.
inline const Map* get_map(const Value& value) {
  const auto* map = get<std::shared_ptr<const Map>>(value);
  return map ? map->get() : nullptr;
}

/// Whether a condition counts it as true: not if it is undefined, none, zero or empty.
bool is_true(const Value& value);

/// \name Operations
/// As Python has them.
///
/// \throws std::invalid_argument if they are not supported for such values; the text says which.
/// @{
std::string to_text(const Value& value);  ///< as {{ }} writes it
bool equal(const Value& a, const Value& b);
bool contains(const Value& container, const Value& value);
Value sum(const Value& a, const Value& b);
Value item(const Value& container, const Value& key);  ///< undefined if there is none
Value trimmed(const Value& value);                     ///< `trim`: without space around it
Value length(const Value& value);                      ///< `length`, of a string in characters
/// @}

}  // namespace smollm2::jinja
