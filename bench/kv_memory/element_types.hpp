// SPDX-License-Identifier: MIT
/// \file
/// The element types that the benchmark knows, by name.
#pragma once

#include <span>
#include <string_view>

#include "heed/cache/kv_bytes.hpp"
#include "kv_memory/decode_case.hpp"

namespace heed::bench {

/// The type has a formula, but no cache of it can be filled.
inline constexpr MakeDecodeCase formula_alone = nullptr;

/// Of which shapes there are caches of an element.
enum class StoredShapes {
  all,
  grouped,  ///< not latents: these have no scales per channel
};

struct ElementType {
  std::string_view name;
  KvElement storage;
  MakeDecodeCase make_case;
  StoredShapes shapes = StoredShapes::all;

  bool can_store(const AttentionShape& shape) const {
    return shapes == StoredShapes::all || std::holds_alternative<GroupedShape>(shape);
  }
};

/// All of them; the first is what is measured unless another is asked for.
std::span<const ElementType> element_types();

}  // namespace heed::bench
