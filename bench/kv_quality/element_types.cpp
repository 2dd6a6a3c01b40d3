// SPDX-License-Identifier: MIT
#include "kv_quality/element_types.hpp"

#include "kv_quality/filled_case.hpp"

std::span<const heed::bench::quality::QualityElement> heed::bench::quality::quality_elements() {
  static constexpr QualityElement elements[] = {
      {"f32", make_quality_case<float>},
      {"f16", make_quality_case<f16>},
      {"bf16", make_quality_case<bf16>},
      {"bf16n", make_quality_case<Native<bf16>>},
      {"int8", make_quality_case<int8>},
      {"int8n", make_quality_case<Native<int8>>},
      {"int8rn", make_quality_case<Native<Rotated<int8>>>},
      {"int8c", make_quality_case<PerChannel<int8>>},
      {"int8cn", make_quality_case<Native<PerChannel<int8>>>},
      {"int8r", make_quality_case<Rotated<int8>>},
      {"int8cr", make_quality_case<Rotated<PerChannel<int8>>>},
      {"int4", make_quality_case<int4>},
      {"int4n", make_quality_case<Native<int4>>},
      {"int4r", make_quality_case<Rotated<int4>>},
      {"int4rn", make_quality_case<Native<Rotated<int4>>>},
  };
  return elements;
}
