#include "heed/base/shape.hpp"

#include <cstddef>
#include <limits>

#include <Eigen/Core>
#include <gtest/gtest.h>

namespace heed {
namespace {

// Shapes are template arguments, so all of this must hold while compiling.
template <GroupedShape shape>
constexpr Index group_size = shape.num_heads / shape.num_kv_heads;
static_assert(group_size<multi_head(64, 8, 16)> == 1);
static_assert(group_size<multi_query(64, 8, 16)> == 8);

static_assert(dynamic == Eigen::Dynamic);
static_assert(fixed_or(3, 5) == 3 && fixed_or(dynamic, 5) == 5);

constexpr Index largest = std::numeric_limits<Index>::max();
static_assert(ceil_div(0, 64) == 0 && ceil_div(1, 64) == 1 && ceil_div(64, 64) == 1);
static_assert(ceil_div(largest, 64) == (Index{1} << 57) && ceil_div(largest, largest) == 1);
static_assert(round_up(0, 16) == 0 && round_up(17, 16) == 32 &&
              round_up(std::size_t{64}, 64) == 64);

TEST(GroupedShape, ValuesAreAsWideAsKeysUnlessSaid) {
  constexpr GroupedShape usual{
      .model_dim = 4096, .num_heads = 32, .num_kv_heads = 8, .head_dim = 128};
  EXPECT_EQ(usual.head_dim_v, 128);
  constexpr GroupedShape wide{.head_dim = 128, .head_dim_v = 256};
  EXPECT_EQ(wide.head_dim_v, 256);
}

TEST(GroupedShape, FieldsNotGivenAreDynamic) {
  constexpr GroupedShape shape{.num_heads = 4};
  EXPECT_EQ(shape.model_dim, dynamic);
  EXPECT_EQ(shape.num_kv_heads, dynamic);
  EXPECT_EQ(shape.head_dim, dynamic);
  EXPECT_EQ(shape.head_dim_v, dynamic);
}

TEST(GroupedShape, MultiHeadAndMultiQueryAreTheEndsOfOneRange) {
  EXPECT_EQ(multi_head(512, 8, 64), (GroupedShape{512, 8, 8, 64, 64}));
  EXPECT_EQ(multi_query(512, 8, 64), (GroupedShape{512, 8, 1, 64, 64}));
}

TEST(LatentShape, HeadIsTheUnrotatedAndTheRotatedPart) {
  constexpr LatentShape v2_lite{.model_dim = 2048,
                                .num_heads = 16,
                                .latent_dim = 512,
                                .rope_dim = 64,
                                .nope_dim = 128,
                                .head_dim_v = 128};
  EXPECT_EQ(v2_lite.head_dim(), 192);
  EXPECT_EQ(v2_lite.query_latent_dim, no_query_latent);
}

}  // namespace
}  // namespace heed
