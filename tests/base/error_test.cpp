#include "heed/base/error.hpp"

#include <type_traits>

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

TEST(RequireNumber, SaysTheNumberAndWhatItMustBe) {
  EXPECT_NO_THROW(detail::require_number(true, "Rope", "theta", 2.0, "above 1"));
  EXPECT_THAT([] { detail::require_number(false, "Rope", "theta", 0.99999999, "above 1"); },
              ThrowsMessage<ShapeError>("heed::Rope: theta is 0.99999999, expected above 1"));
  EXPECT_THAT(
      [] { detail::require_positive("KvLayers", "count", Index{-16777217}); },
      ThrowsMessage<ShapeError>("heed::KvLayers: count is -16777217, expected a positive number"));
  EXPECT_NO_THROW(detail::require_size("FullKv", "head_dim", 0, 0));
  EXPECT_THROW(detail::require_size("FullKv", "head_dim", 0, 1), ShapeError);
  EXPECT_THROW(detail::require_size("FullKv", "head_dim", -1, 0), ShapeError);
}

// Whatever a sequence of a batch throws keeps its type, and says which sequence it was.
TEST(ForSequence, NamesTheSequence) {
  const auto expect_named = [](const auto& error, const char* words) {
    using Error = std::remove_cvref_t<decltype(error)>;
    EXPECT_THAT([&] { detail::for_sequence("attend_batch", 3, [&] { throw error; }); },
                ThrowsMessage<Error>(words));
  };
  expect_named(ShapeError("heed::attend_batch: out is wrong"),
               "heed::attend_batch: sequence 3: out is wrong");
  expect_named(CapacityError("heed::KvCache: full"),
               "heed::attend_batch: sequence 3: KvCache: full");
  expect_named(PoolExhaustedError("heed::PagePool: empty"),
               "heed::attend_batch: sequence 3: PagePool: empty");
  expect_named(ElementError("heed::KvCache::append: NaN"),
               "heed::attend_batch: sequence 3: KvCache::append: NaN");
  EXPECT_NO_THROW(detail::for_sequence("attend_batch", 0, [] {}));
}

TEST(Errors, AreStandardExceptions) {
  EXPECT_THROW(throw ShapeError("shape"), std::invalid_argument);
  EXPECT_THROW(throw CapacityError("capacity"), std::length_error);
}

}  // namespace
}  // namespace heed
