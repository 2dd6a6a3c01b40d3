// SPDX-License-Identifier: MIT
/// \file
/// A layer that is compiled in one source file and used in another, as the README shows it.
#pragma once

#include "heed/heed.hpp"
#include "heed/instances/extern.hpp"

namespace heed::test {

inline constexpr GroupedShape small{
    .model_dim = 32, .num_heads = 4, .num_kv_heads = 2, .head_dim = 8};
using SmallAttention = GroupedQueryAttention<float, small>;
using SmallCache = KvCache<FullKv<2, 8>>;

}  // namespace heed::test

extern template void heed::test::SmallAttention::forward(heed::RowsView<const float>,
                                                         heed::test::SmallCache&,
                                                         const heed::CausalMask&, const double&,
                                                         heed::RowsView<float>,
                                                         const heed::ForwardOptions&) const;
