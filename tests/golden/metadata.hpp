// SPDX-License-Identifier: MIT
/// \file
/// Reads the configuration of a golden file: every value is a string, and one that is not
/// understood is an error. Fields that nobody asks for are notes: if one of them mattered, the
/// numbers differ.
#pragma once

#include <charconv>
#include <initializer_list>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "heed/base/index.hpp"  // Index

namespace heed::golden {

/// The file asks for something that this program does not know how to build.
class NotUnderstood : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Metadata {
 public:
  explicit Metadata(std::map<std::string, std::string> fields) : fields_(std::move(fields)) {}

  bool has(const std::string& name) const { return fields_.contains(name); }

  const std::string& text(const std::string& name) const {
    const auto found = fields_.find(name);
    if (found == fields_.end()) throw NotUnderstood("metadata field " + name + " is missing");
    return found->second;
  }

  /// A size or position.
  Index integer(const std::string& name) const {
    const Index value = number<Index>(name);
    if (value < 0 || value > Index{1} << 40) throw unknown(name);
    return value;
  }
  double real(const std::string& name) const { return number<double>(name); }

  /// One of a few words.
  template <class Word>
  Word choice(const std::string& name,
              std::initializer_list<std::pair<std::string_view, Word>> words) const {
    for (const auto& [word, meaning] : words)
      if (text(name) == word) return meaning;
    throw unknown(name);
  }

  /// The meaning of the first phrase that occurs in a field written as a sentence.
  template <class Word>
  Word sentence(const std::string& name,
                std::initializer_list<std::pair<std::string_view, Word>> phrases) const {
    for (const auto& [phrase, meaning] : phrases)
      if (text(name).find(phrase) != std::string::npos) return meaning;
    throw unknown(name);
  }

  NotUnderstood unknown(const std::string& name) const {
    return NotUnderstood("metadata field " + name + " has the unknown value \"" + text(name) +
                         "\"");
  }

 private:
  template <class Number>
  Number number(const std::string& name) const {
    const std::string& value = text(name);
    Number result{};
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), result);
    if (error != std::errc{} || end != value.data() + value.size()) throw unknown(name);
    return result;
  }

  std::map<std::string, std::string> fields_;
};

}  // namespace heed::golden
