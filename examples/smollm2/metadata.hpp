// SPDX-License-Identifier: MIT
/// \file
/// What a GGUF file says of its model: values under keys such as `llama.block_count`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "named_list.hpp"

namespace smollm2 {

/// GGUF's numbers for the types of values.
enum class ValueType : std::uint32_t {
  uint8 = 0,
  int8 = 1,
  uint16 = 2,
  int16 = 3,
  uint32 = 4,
  int32 = 5,
  float32 = 6,
  boolean = 7,
  string = 8,
  array = 9,  ///< of any of the others; arrays of arrays are refused
  uint64 = 10,
  int64 = 11,
  float64 = 12,
};

template <class... T>
using OneOrMany = std::variant<T..., std::vector<T>...>;

/// A value or an array of values, in the very type that the file gives it: so it can be written as
/// it was, and other readers insist on it.
using MetadataValue =
    OneOrMany<std::uint8_t, std::int8_t, std::uint16_t, std::int16_t, std::uint32_t, std::int32_t,
              float, bool, std::string, std::uint64_t, std::int64_t, double>;

using Metadata = NamedList<MetadataValue>;

enum class Multiplicity { one, many };

/// Whether it is one value or an array.
Multiplicity multiplicity(const MetadataValue& value);
/// Its type; of an array, that of its elements.
ValueType element_type(const MetadataValue& value);
/// "uint32" or "array of string", for messages.
std::string type_text(const MetadataValue& value);

/// The multiples at which a file's tensors begin, in bytes: `general.alignment`, or 32 if there is
/// none. Nothing if that is not a uint32, or not a power of two from 8 on.
std::optional<std::uint64_t> alignment_of(const Metadata& metadata);

}  // namespace smollm2
