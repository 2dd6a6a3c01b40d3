// SPDX-License-Identifier: MIT
/// \file
/// Compiles what `heed/instances/extern.hpp` declares. Layer 7, public. Not in the umbrella:
/// include it in exactly one source file of a program.
#pragma once

#include "heed/instances/extern.hpp"

namespace heed::simd {

template void product(RowsView<const float>, RowsView<const float>, RowsView<float>, const float*);
template void add_product(RowsView<const float>, StripsView<const float>, RowsView<float>, Index,
                          const float*);
template void dot_product(RowsView<const float>, RowsView<const float>, RowsView<float>);
template void multiply<WeightLayout::out_in>(RowsView<const float>, RowsView<const float>,
                                             RowsView<float>);
template void multiply<WeightLayout::in_out>(RowsView<const float>, RowsView<const float>,
                                             RowsView<float>);
template void row_product(RowsView<const float>, RowsView<const float>, RowsView<float>,
                          RowsView<const float>);
template void transpose(RowsView<const float>, float*, Index);
template void transpose_padded(RowsView<const float>, float*, Index);

template void product(RowsView<const double>, RowsView<const double>, RowsView<double>,
                      const double*);
template void add_product(RowsView<const double>, StripsView<const double>, RowsView<double>, Index,
                          const double*);
template void dot_product(RowsView<const double>, RowsView<const double>, RowsView<double>);
template void multiply<WeightLayout::out_in>(RowsView<const double>, RowsView<const double>,
                                             RowsView<double>);
template void multiply<WeightLayout::in_out>(RowsView<const double>, RowsView<const double>,
                                             RowsView<double>);
template void row_product(RowsView<const double>, RowsView<const double>, RowsView<double>,
                          RowsView<const double>);
template void transpose(RowsView<const double>, double*, Index);
template void transpose_padded(RowsView<const double>, double*, Index);

}  // namespace heed::simd
