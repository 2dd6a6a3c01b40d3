// SPDX-License-Identifier: MIT
/// \file
/// The element types whose quality is measured, by name.
#pragma once

#include <span>
#include <string_view>

#include "kv_quality/quality_case.hpp"

namespace heed::bench::quality {

struct QualityElement {
  std::string_view name;
  MakeQualityCase make_case;
};

/// All of them.
std::span<const QualityElement> quality_elements();

}  // namespace heed::bench::quality
