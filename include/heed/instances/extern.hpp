// SPDX-License-Identifier: MIT
/// \file
/// The parts of the kernel that depend on the element type alone, as compiled in another source
/// file. Layer 7, public. Not in the umbrella: for projects with many source files.
///
/// Include it beside heed.hpp wherever heed is used, and `heed/instances/define.hpp` in exactly one
/// source file of the program. Whoever forgets that file is told by the linker:
/// "undefined reference to heed::simd::product<float>".
#pragma once

#include "heed/simd/dot_product.hpp"
#include "heed/simd/product.hpp"
#include "heed/simd/projection.hpp"
#include "heed/simd/row_product.hpp"
#include "heed/simd/transpose.hpp"

namespace heed::simd {

extern template void product(RowsView<const float>, RowsView<const float>, RowsView<float>,
                             const float*);
extern template void add_product(RowsView<const float>, StripsView<const float>, RowsView<float>,
                                 Index, const float*);
extern template void dot_product(RowsView<const float>, RowsView<const float>, RowsView<float>);
extern template void multiply<WeightLayout::out_in>(RowsView<const float>, RowsView<const float>,
                                                    RowsView<float>);
extern template void multiply<WeightLayout::in_out>(RowsView<const float>, RowsView<const float>,
                                                    RowsView<float>);
extern template void row_product(RowsView<const float>, RowsView<const float>, RowsView<float>,
                                 RowsView<const float>);
extern template void transpose(RowsView<const float>, float*, Index);
extern template void transpose_padded(RowsView<const float>, float*, Index);

extern template void product(RowsView<const double>, RowsView<const double>, RowsView<double>,
                             const double*);
extern template void add_product(RowsView<const double>, StripsView<const double>, RowsView<double>,
                                 Index, const double*);
extern template void dot_product(RowsView<const double>, RowsView<const double>, RowsView<double>);
extern template void multiply<WeightLayout::out_in>(RowsView<const double>, RowsView<const double>,
                                                    RowsView<double>);
extern template void multiply<WeightLayout::in_out>(RowsView<const double>, RowsView<const double>,
                                                    RowsView<double>);
extern template void row_product(RowsView<const double>, RowsView<const double>, RowsView<double>,
                                 RowsView<const double>);
extern template void transpose(RowsView<const double>, double*, Index);
extern template void transpose_padded(RowsView<const double>, double*, Index);

}  // namespace heed::simd
