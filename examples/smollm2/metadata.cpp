// SPDX-License-Identifier: MIT
/// \file
/// The types of metadata values.

#include "metadata.hpp"

#include <array>
#include <bit>
#include <cstddef>
#include <string_view>
#include <utility>

namespace smollm2 {
namespace {

struct NamedType {
  ValueType type;
  std::string_view name;
};

/// The types of single values, in the order in which MetadataValue lists them.
constexpr std::array<NamedType, 12> element_types{{
    {ValueType::uint8, "uint8"},
    {ValueType::int8, "int8"},
    {ValueType::uint16, "uint16"},
    {ValueType::int16, "int16"},
    {ValueType::uint32, "uint32"},
    {ValueType::int32, "int32"},
    {ValueType::float32, "float32"},
    {ValueType::boolean, "bool"},
    {ValueType::string, "string"},
    {ValueType::uint64, "uint64"},
    {ValueType::int64, "int64"},
    {ValueType::float64, "float64"},
}};
static_assert(std::variant_size_v<MetadataValue> == 2 * element_types.size());

const NamedType& named_type(const MetadataValue& value) {
  return element_types[value.index() % element_types.size()];
}

}  // namespace

Multiplicity multiplicity(const MetadataValue& value) {
  return value.index() < element_types.size() ? Multiplicity::one : Multiplicity::many;
}

ValueType element_type(const MetadataValue& value) { return named_type(value).type; }

std::string type_text(const MetadataValue& value) {
  const std::string name(named_type(value).name);
  return multiplicity(value) == Multiplicity::one ? name : "array of " + name;
}

std::optional<std::uint64_t> alignment_of(const Metadata& metadata) {
  const MetadataValue* value = metadata.find("general.alignment");
  if (!value) return 32;
  const auto* alignment = std::get_if<std::uint32_t>(value);
  if (!alignment || *alignment < 8 || !std::has_single_bit(*alignment)) return std::nullopt;
  return *alignment;
}

}  // namespace smollm2
