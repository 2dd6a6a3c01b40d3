#include "heed/base/error.hpp"

#include <gmock/gmock.h>

namespace heed {
namespace {

using testing::ThrowsMessage;

TEST(RequireShape, NamesFunctionArgumentFoundAndExpected) {
  EXPECT_THAT(
      [] { detail::require_shape("attend", "key [num_kv_heads, head_dim]", {3, 4}, {3, 8}); },
      ThrowsMessage<ShapeError>(
          "heed::attend: key [num_kv_heads, head_dim] has shape [3, 4], expected [3, 8]"));
}

TEST(RequireShape, ComparesTheNumberOfAxes) {
  EXPECT_THROW(detail::require_shape("attend", "lse", {3}, {3, 1}), ShapeError);
  EXPECT_THROW(detail::require_shape("attend", "lse", {3, 1}, {3}), ShapeError);
}

TEST(RequireShape, PassesEqualShapes) {
  EXPECT_NO_THROW(detail::require_shape("attend", "key", {2, 0, 5}, {2, 0, 5}));
  EXPECT_NO_THROW(detail::require_shape("attend", "key", {}, {}));
}

TEST(Require, SaysTheSentence) {
  EXPECT_NO_THROW(detail::require(true, "Rope", "rope_dim must be even"));
  EXPECT_THAT([] { detail::require(false, "Rope", "rope_dim must be even"); },
              ThrowsMessage<ShapeError>("heed::Rope: rope_dim must be even"));
}

TEST(Errors, AreStandardExceptions) {
  EXPECT_THROW(throw ShapeError("shape"), std::invalid_argument);
  EXPECT_THROW(throw CapacityError("capacity"), std::length_error);
}

}  // namespace
}  // namespace heed
