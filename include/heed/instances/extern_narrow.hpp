// SPDX-License-Identifier: MIT
/// \file
/// The same as `heed/instances/extern.hpp` for caches and weights whose elements are narrower than
/// float. Layer 7, public. Not in the umbrella: for projects with many source files that use them.
///
/// `heed/instances/define_narrow.hpp` goes into exactly one source file of the program.
#pragma once

#include "heed/base/element.hpp"
#include "heed/simd/code_product.hpp"
#include "heed/simd/dot_product.hpp"
#include "heed/simd/product.hpp"
#include "heed/simd/projection.hpp"

namespace heed::simd {

extern template void product(RowsView<const float>, RowsView<const f16>, RowsView<float>,
                             const f16*);
extern template void add_product(RowsView<const float>, StripsView<const f16>, RowsView<float>,
                                 Index, const f16*);
extern template void dot_product(RowsView<const float>, RowsView<const f16>, RowsView<float>);
extern template void multiply<WeightLayout::out_in>(RowsView<const float>, RowsView<const f16>,
                                                    RowsView<float>);
extern template void multiply<WeightLayout::in_out>(RowsView<const float>, RowsView<const f16>,
                                                    RowsView<float>);

extern template void product(RowsView<const float>, RowsView<const bf16>, RowsView<float>,
                             const bf16*);
extern template void add_product(RowsView<const float>, StripsView<const bf16>, RowsView<float>,
                                 Index, const bf16*);
extern template void dot_product(RowsView<const float>, RowsView<const bf16>, RowsView<float>);
extern template void multiply<WeightLayout::out_in>(RowsView<const float>, RowsView<const bf16>,
                                                    RowsView<float>);
extern template void multiply<WeightLayout::in_out>(RowsView<const float>, RowsView<const bf16>,
                                                    RowsView<float>);

#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
extern template void product(RowsView<const QueryCode<exact_codes>>, const CodeRow*,
                             RowsView<const int8>, RowsView<float>, const int8*);
extern template void add_product(RowsView<const ProbCode<exact_codes>>, const CodeRow*,
                                 StripsView<const int8>, RowsView<float>, Index, const int8*);
extern template void dot_product(RowsView<const QueryCode<exact_codes>>, const CodeRow*,
                                 RowsView<const int8>, RowsView<float>);
extern template void product(RowsView<const QueryCode<exact_codes>>, const CodeRow*,
                             RowsView<const int4>, RowsView<float>, const int4*);
extern template void add_product(RowsView<const ProbCode<exact_codes>>, const CodeRow*,
                                 StripsView<const int4>, RowsView<float>, Index, const int4*);
extern template void dot_product(RowsView<const QueryCode<exact_codes>>, const CodeRow*,
                                 RowsView<const int4>, RowsView<float>);
#else
extern template void product(RowsView<const float>, RowsView<const int8>, RowsView<float>,
                             const int8*);
extern template void add_product(RowsView<const float>, StripsView<const int8>, RowsView<float>,
                                 Index, const int8*);
extern template void dot_product(RowsView<const float>, RowsView<const int8>, RowsView<float>);
#endif

}  // namespace heed::simd
