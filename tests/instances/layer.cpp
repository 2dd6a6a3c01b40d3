// SPDX-License-Identifier: MIT
#include "instances/layer.hpp"

template void heed::test::SmallAttention::forward(heed::RowsView<const float>,
                                                  heed::test::SmallCache&, const heed::CausalMask&,
                                                  const double&, heed::RowsView<float>,
                                                  const heed::ForwardOptions&) const;
