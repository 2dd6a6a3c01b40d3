#include "heed/base/workspace.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>
#include <optional>
#include <set>
#include <thread>

#include <gtest/gtest.h>

#include "support/allocation_count.hpp"

namespace heed {
namespace {

TEST(Workspace, BlocksStartOnACacheLineAndAreLargeEnough) {
  Workspace workspace;
  for (const std::size_t bytes : {1U, 63U, 64U, 65U, 1000U, 100000U}) {
    const auto block = workspace.borrow(bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block.data()) % 64, 0U);
    std::fill_n(block.data(), bytes, std::byte{1});  // a sanitizer sees an overrun
  }
}

TEST(Workspace, GivesTheSameMemoryAgain) {
  Workspace workspace;
  const std::byte* first = workspace.borrow(1000).data();
  const std::size_t held = workspace.bytes();
  for (const std::size_t bytes : {1000U, 1U, 1024U})
    EXPECT_EQ(workspace.borrow(bytes).data(), first);
  EXPECT_EQ(workspace.bytes(), held);
}

TEST(Workspace, AllocatesOnlyTheFirstTime) {
  Workspace workspace;
  const auto step = [&workspace] {
    const auto scores = workspace.borrow(1000);
    const auto sums = workspace.borrow(100);
  };
  EXPECT_GT(test::count_allocations(step), 0);
  EXPECT_EQ(test::count_allocations(step), 0);
}

TEST(Workspace, GivingBackNeverAllocates) {
  Workspace workspace;
  std::optional<Workspace::Borrowed> a(workspace.borrow(100));
  std::optional<Workspace::Borrowed> b(workspace.borrow(100));
  EXPECT_EQ(test::count_allocations([&] {
              a.reset();
              b.reset();
            }),
            0);
}

TEST(Workspace, BorrowedBlocksAreApart) {
  Workspace workspace;
  const auto a = workspace.borrow(100);
  const auto b = workspace.borrow(100);
  EXPECT_NE(a.data(), b.data());
}

TEST(Workspace, LendsTheSmallestThatIsLargeEnough) {
  Workspace workspace;
  const std::byte* small = nullptr;
  const std::byte* large = nullptr;
  {
    const auto small_block = workspace.borrow(100);
    const auto large_block = workspace.borrow(100000);  // goes back first
    large = large_block.data();
    small = small_block.data();
  }
  const auto again = workspace.borrow(80);
  EXPECT_EQ(again.data(), small);
  EXPECT_EQ(workspace.borrow(5000).data(), large);
}

TEST(Workspace, ReservedBlocksAreThereForAsManyTasks) {
  Workspace workspace;
  workspace.reserve(3, 1000);
  const std::size_t held = workspace.bytes();
  EXPECT_EQ(test::count_allocations([&] {
              const auto a = workspace.borrow(1000);
              const auto b = workspace.borrow(1000);
              const auto c = workspace.borrow(1000);
            }),
            0);
  {
    const auto a = workspace.borrow(1000);
    const auto b = workspace.borrow(1000);
    const auto c = workspace.borrow(1000);
    EXPECT_EQ((std::set{a.data(), b.data(), c.data()}.size()), 3U);
  }
  workspace.reserve(3, 1000);  // they are ready already
  EXPECT_EQ(workspace.bytes(), held);
}

TEST(Workspace, ReplacesABlockThatANeedOutgrows) {
  Workspace workspace;
  std::set<std::size_t> sizes;
  for (std::size_t bytes = 1; bytes <= 100000; bytes += 64) {  // as a decode step's need grows
    (void)workspace.borrow(bytes);
    sizes.insert(workspace.bytes());
  }
  EXPECT_EQ(workspace.bytes(), 131072U);
  EXPECT_LE(sizes.size(), 12U);  // an allocation at each doubling from 64 to 131072
}

TEST(Workspace, ClearFreesAllThatIsNotBorrowed) {
  Workspace workspace;
  {
    const auto held = workspace.borrow(1000);
    (void)workspace.borrow(5000);
    workspace.clear();
    EXPECT_EQ(workspace.bytes(), 1024U);
    std::fill_n(held.data(), 1000, std::byte{1});
  }
  EXPECT_EQ(workspace.bytes(), 1024U);  // given back, and kept
  workspace.clear();
  EXPECT_EQ(workspace.bytes(), 0U);
  EXPECT_NE(workspace.borrow(1000).data(), nullptr);
}

TEST(Workspace, HasNoBlockOfAllMemory) {
  Workspace workspace;
  EXPECT_THROW((void)workspace.borrow(std::numeric_limits<std::size_t>::max()), std::bad_alloc);
  EXPECT_EQ(workspace.bytes(), 0U);
}

TEST(Workspace, MovesWithItsMemoryAndCopiesWithout) {
  Workspace workspace;
  const std::byte* block = workspace.borrow(1000).data();
  const Workspace copy(workspace);
  EXPECT_EQ(copy.bytes(), 0U);

  const std::size_t held = workspace.bytes();
  Workspace moved(std::move(workspace));
  EXPECT_EQ(moved.bytes(), held);
  EXPECT_EQ(workspace.bytes(), 0U);  // NOLINT(bugprone-use-after-move): it is an empty one
  EXPECT_EQ(moved.borrow(1000).data(), block);
}

TEST(Workspace, ServesThreadsAtOnce) {
  Workspace workspace;
  const auto work = [&workspace](std::byte mark) {
    for (int repeat = 0; repeat < 1000; ++repeat) {
      const auto block = workspace.borrow(256);
      std::fill_n(block.data(), 256, mark);
      ASSERT_EQ(std::count(block.data(), block.data() + 256, mark), 256);
    }
  };
  std::thread a(work, std::byte{1});
  std::thread b(work, std::byte{2});
  a.join();
  b.join();
  EXPECT_LE(workspace.bytes(), 2U * 256U);
}

}  // namespace
}  // namespace heed
