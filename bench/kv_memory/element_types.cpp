// SPDX-License-Identifier: MIT
#include "kv_memory/element_types.hpp"

#include "kv_memory/filled_cache.hpp"

std::span<const heed::bench::ElementType> heed::bench::element_types() {
  static constexpr ElementType types[] = {
      {"f32", kv_element<float>, make_decode_case<float>},
      {"f64", kv_element<double>, make_decode_case<double>},
      {"f16", kv_element<f16>, make_decode_case<f16>},
      {"bf16", kv_element<bf16>, make_decode_case<bf16>},
      {"int8", kv_element<int8>, make_decode_case<int8>},
  };
  return types;
}
