// SPDX-License-Identifier: MIT
/// \file
/// Compiles what `heed/instances/extern_narrow.hpp` declares. Layer 7, public. Not in the umbrella:
/// include it in exactly one source file of a program.
#pragma once

#include "heed/instances/extern_narrow.hpp"

namespace heed::simd {

template void product(RowsView<const float>, RowsView<const f16>, RowsView<float>, const f16*);
template void add_product(RowsView<const float>, StripsView<const f16>, RowsView<float>, Index,
                          const f16*);
template void dot_product(RowsView<const float>, RowsView<const f16>, RowsView<float>);
template void multiply<WeightLayout::out_in>(RowsView<const float>, RowsView<const f16>,
                                             RowsView<float>);
template void multiply<WeightLayout::in_out>(RowsView<const float>, RowsView<const f16>,
                                             RowsView<float>);

template void product(RowsView<const float>, RowsView<const bf16>, RowsView<float>, const bf16*);
template void add_product(RowsView<const float>, StripsView<const bf16>, RowsView<float>, Index,
                          const bf16*);
template void dot_product(RowsView<const float>, RowsView<const bf16>, RowsView<float>);
template void multiply<WeightLayout::out_in>(RowsView<const float>, RowsView<const bf16>,
                                             RowsView<float>);
template void multiply<WeightLayout::in_out>(RowsView<const float>, RowsView<const bf16>,
                                             RowsView<float>);

#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
template void product(RowsView<const QueryCode<exact_codes>>, const CodeRow*, RowsView<const int8>,
                      RowsView<float>, const int8*);
template void add_product(RowsView<const ProbCode<exact_codes>>, const CodeRow*,
                          StripsView<const int8>, RowsView<float>, Index, const int8*);
template void dot_product(RowsView<const QueryCode<exact_codes>>, const CodeRow*,
                          RowsView<const int8>, RowsView<float>);
template void product(RowsView<const QueryCode<exact_codes>>, const CodeRow*, RowsView<const int4>,
                      RowsView<float>, const int4*);
template void add_product(RowsView<const ProbCode<exact_codes>>, const CodeRow*,
                          StripsView<const int4>, RowsView<float>, Index, const int4*);
template void dot_product(RowsView<const QueryCode<exact_codes>>, const CodeRow*,
                          RowsView<const int4>, RowsView<float>);
#else
template void product(RowsView<const float>, RowsView<const int8>, RowsView<float>, const int8*);
template void add_product(RowsView<const float>, StripsView<const int8>, RowsView<float>, Index,
                          const int8*);
template void dot_product(RowsView<const float>, RowsView<const int8>, RowsView<float>);
#endif

}  // namespace heed::simd
