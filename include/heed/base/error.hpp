// SPDX-License-Identifier: MIT
/// \file
/// The exceptions heed throws, and the checks that word them. Layer 0, public.
#pragma once

#include <algorithm>
#include <charconv>
#include <initializer_list>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

#include "heed/base/index.hpp"

namespace heed {

/// An argument has a shape that does not fit the others, or a number is out of its range. The
/// message names the function, the argument with its axes, what was found and what was expected.
/// Nothing has been written when it is thrown.
class ShapeError : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

/// A cache has no room for the tokens it was given, or is asked to be larger than is possible. It
/// is as it was before the call.
class CapacityError : public std::length_error {
 public:
  using std::length_error::length_error;
};

/// A page pool has too few free pages. The cache is as it was before the call, which may succeed
/// once other sequences have given pages back.
class PoolExhaustedError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A cache cannot be forked, saved, loaded or share a prefix: it was moved from, or belongs to
/// another pool. Nothing has changed.
class StateError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

/// A number that the cache's elements cannot stand for: among int8 or int4 a NaN, an inf, or one
/// that would be given back as inf, as at the end of float's range or, rotated, where sums of a
/// row's numbers are. The cache is as it was before the call.
class ElementError : public std::domain_error {
 public:
  using std::domain_error::domain_error;
};

/// A file is not what was asked for: cut off, altered, of something else, or it cannot be written.
/// The message names what is wrong, with what was found and expected. The cache is as it was before
/// the call.
class FileError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

namespace detail {

/// "[3, 4]"
inline std::string shape_text(std::initializer_list<Index> shape) {
  std::string text = "[";
  for (const Index size : shape) {
    if (text.size() > 1) text += ", ";
    text += std::to_string(size);
  }
  return text + "]";
}

/// What every message is made of. \param where  the public function that was called
inline std::string message(std::string_view where, std::string_view sentence) {
  std::string text = "heed::";
  text.append(where).append(": ").append(sentence);
  return text;
}

/// "3.5": a number as it is written in messages.
template <class Number>
std::string number_text(Number number) {
  char text[64];
  return {text, std::to_chars(text, text + sizeof text, number).ptr};
}

[[noreturn]] inline void throw_shape_error(std::string_view where, std::string_view argument,
                                           std::string_view found, std::string_view expected) {
  std::string text(argument);
  text.append(" has shape ").append(found).append(", expected ").append(expected);
  throw ShapeError(message(where, text));
}

/// Throws ShapeError unless `found` equals `expected`.
/// \param argument  the argument and its axes, as in "key [num_kv_heads, seqlen_kv, head_dim]"
inline void require_shape(std::string_view where, std::string_view argument,
                          std::initializer_list<Index> found,
                          std::initializer_list<Index> expected) {
  if (!std::equal(found.begin(), found.end(), expected.begin(), expected.end()))
    throw_shape_error(where, argument, shape_text(found), shape_text(expected));
}

/// Throws ShapeError with a sentence of its own where a shape alone does not say what is wrong.
/// \param sentence  text, or a function that makes it: called only when it is needed, since a check
///                  that passes must not allocate
template <class Sentence>
void require(bool condition, std::string_view where, const Sentence& sentence) {
  if (condition) return;
  if constexpr (std::is_invocable_v<const Sentence&>)
    throw ShapeError(message(where, sentence()));
  else
    throw ShapeError(message(where, sentence));
}

/// Throws ShapeError unless a number is as it must be.
/// \param name      of the argument or field
/// \param expected  what it must be, as in "a positive even number"
template <class Number>
void require_number(bool holds, std::string_view where, std::string_view name, Number found,
                    std::string_view expected) {
  require(holds, where, [&] {
    return std::string(name) + " is " + number_text(found) + ", expected " + std::string(expected);
  });
}

template <class Number>
void require_positive(std::string_view where, std::string_view name, Number found) {
  require_number(found > 0 && found <= std::numeric_limits<Number>::max(), where, name, found,
                 "a positive number");
}
/// The same for a size of a shape. \param least  that it must have: 0 or 1
inline void require_size(std::string_view where, std::string_view name, Index found, Index least) {
  require_number(found >= least, where, name, found,
                 least > 0 ? "a positive size, given at run time where it is dynamic"
                           : "a size of 0 or more, given at run time where it is dynamic");
}

/// Does something for one sequence of a batch; the message of what it throws then names it.
template <class Do>
void for_sequence(std::string_view where, std::size_t index, const Do& something) {
  const auto named = [&](std::string_view text) {
    for (const auto prefix : {std::string_view("heed::"), where, std::string_view(": ")})
      if (text.starts_with(prefix)) text.remove_prefix(prefix.size());
    return message(where, "sequence " + std::to_string(index) + ": " + std::string(text));
  };
  try {
    something();
  } catch (const ShapeError& error) {
    throw ShapeError(named(error.what()));
  } catch (const CapacityError& error) {
    throw CapacityError(named(error.what()));
  } catch (const PoolExhaustedError& error) {
    throw PoolExhaustedError(named(error.what()));
  } catch (const ElementError& error) {
    throw ElementError(named(error.what()));
  }
}

}  // namespace detail
}  // namespace heed
