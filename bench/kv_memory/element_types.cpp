// SPDX-License-Identifier: MIT
#include "kv_memory/element_types.hpp"

#include "kv_memory/filled_cache.hpp"

std::span<const heed::bench::ElementType> heed::bench::element_types() {
  static constexpr ElementType types[] = {
      {"f32", kv_element<float>, make_decode_case<float>},
      {"f64", kv_element<double>, make_decode_case<double>},
      {"f16", {.bits = 16}, formula_alone},
      {"bf16", {.bits = 16}, formula_alone},
      {"int8", {.bits = 8, .scale_bytes_per_row = 4}, formula_alone},  // a float scale for each row
  };
  return types;
}
