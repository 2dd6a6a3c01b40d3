// SPDX-License-Identifier: MIT
/// \file
/// Things with names that differ, found by name and walked through in the order of their adding.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace smollm2 {

/// A list of values, each under a name of its own.
///
///     for (const auto& [name, value] : list) ...
template <class Value>
class NamedList {
 public:
  struct Entry {
    std::string name;
    Value value;
  };

  /// Appends a value. Returns false, and leaves the list as it is, if the name is taken.
  bool add(std::string name, Value value) {
    if (!places_.try_emplace(name, entries_.size()).second) return false;
    entries_.push_back({std::move(name), std::move(value)});
    return true;
  }

  /// The value of that name, or null. Valid until the list is changed or destroyed.
  const Value* find(std::string_view name) const {
    const auto found = places_.find(name);
    return found == places_.end() ? nullptr : &entries_[found->second].value;
  }

  auto begin() const { return entries_.begin(); }
  auto end() const { return entries_.end(); }
  std::size_t size() const { return entries_.size(); }

 private:
  std::vector<Entry> entries_;
  std::map<std::string, std::size_t, std::less<>> places_;  // among the entries
};

}  // namespace smollm2
