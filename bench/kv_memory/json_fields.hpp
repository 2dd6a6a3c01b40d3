// SPDX-License-Identifier: MIT
/// \file
/// Fields of a model's config.json, under any of their names, with errors that say what is wrong.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include "heed/base/index.hpp"

namespace heed::bench {

/// A config that cannot be read or understood. The message names the file and the field.
class ConfigError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// `text` with null for the numbers that Python writes and JSON does not have: Infinity, -Infinity
/// and NaN, outside of strings.
inline std::string without_infinities(std::string_view text) {
  std::string json;
  while (!text.empty()) {
    std::size_t length = 1;
    if (text.front() == '"') {
      while (length < text.size() && text[length] != '"') length += text[length] == '\\' ? 2 : 1;
      ++length;
    } else {
      for (const std::string_view number : {"Infinity", "-Infinity", "NaN"})
        if (text.starts_with(number)) length = number.size();
    }
    length = std::min(length, text.size());
    const bool is_text = length == 1 || text.front() == '"';
    json += is_text ? text.substr(0, length) : "null";
    text.remove_prefix(length);
  }
  return json;
}

/// \throws ConfigError unless the text is a JSON object
inline nlohmann::json parse_object(const std::string& text, const std::string& file) {
  try {
    auto json = nlohmann::json::parse(without_infinities(text));
    if (!json.is_object()) throw ConfigError(file + ": not a JSON object");
    return json;
  } catch (const nlohmann::json::parse_error& error) {
    throw ConfigError(file + ": not valid JSON from byte " + std::to_string(error.byte) + " on");
  }
}

/// One JSON object of a config and the file that it stands in. A field that is null counts as
/// absent: hubs write both.
class Fields {
 public:
  using Names = std::initializer_list<std::string_view>;

  /// \param file  how errors begin: the file, and where in it the object is
  Fields(const nlohmann::json& object, std::string file)
      : object_(&object), file_(std::move(file)) {}

  [[noreturn]] void fail(const std::string& sentence) const {
    throw ConfigError(file_ + ": " + sentence);
  }

  bool has(std::string_view name) const { return find({name}) != nullptr; }

  /// Whether it is there and null, where that means something else than its absence.
  bool says_null(std::string_view name) const {
    const auto field = object_->find(name);
    return field != object_->end() && field->is_null();
  }

  /// The first of the names that is there, or a null pointer.
  const nlohmann::json* find(Names names) const {
    for (const std::string_view name : names)
      if (const auto field = object_->find(name); field != object_->end() && !field->is_null())
        return &*field;
    return nullptr;
  }

  /// A whole number from `least` to 2^31 - 1, if one of the names is there.
  std::optional<Index> count(Names names, Index least = 1) const {
    const nlohmann::json* field = find(names);
    if (field == nullptr) return std::nullopt;
    constexpr std::int64_t most = 0x7FFFFFFF;
    if (!field->is_number_integer() || *field < least || *field > most)
      fail(std::string(present(names)) + " is " + field->dump() +
           ", expected a whole number from " + std::to_string(least) + " to " +
           std::to_string(most));
    return field->get<Index>();
  }

  Index required_count(Names names) const {
    if (const auto value = count(names)) return *value;
    std::string text = "no field " + std::string(*names.begin());
    for (auto name = names.begin() + 1; name != names.end(); ++name)
      text += " or " + std::string(*name);
    fail(text);
  }

  /// true or false; `absent` if the field is not there.
  bool flag(std::string_view name, bool absent) const {
    const nlohmann::json* field = find({name});
    if (field == nullptr) return absent;
    if (!field->is_boolean())
      fail(std::string(name) + " is " + field->dump() + ", expected true or false");
    return field->get<bool>();
  }

  /// The object within, if there is one of that name.
  std::optional<Fields> object(const std::string& name) const {
    const nlohmann::json* field = find({name});
    if (field == nullptr || !field->is_object()) return std::nullopt;
    return Fields(*field, file_ + ": " + name);
  }
  /// Calls f(name) for each field that is there.
  template <class F>
  void for_each_name(const F& f) const {
    for (const auto& [name, value] : object_->items())
      if (!value.is_null()) f(name);
  }

  /// The field as text; empty if it is not there.
  std::string text(std::string_view name) const {
    const nlohmann::json* field = find({name});
    if (field == nullptr) return {};
    if (!field->is_string()) fail(std::string(name) + " is " + field->dump() + ", expected a text");
    return field->get<std::string>();
  }

 private:
  std::string_view present(Names names) const {
    for (const std::string_view name : names)
      if (has(name)) return name;
    return {};
  }

  const nlohmann::json* object_;
  std::string file_;
};

}  // namespace heed::bench
