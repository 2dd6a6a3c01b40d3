#include "heed/base/executor.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <future>
#include <stdexcept>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "heed/base/thread_pool.hpp"
#include "support/executors.hpp"  // BackwardExecutor

namespace heed {
namespace {

using test::BackwardExecutor;

struct NamedExecutor {
  const char* name;
  AnyExecutor executor;
};

std::vector<NamedExecutor> executors() {
  static Eigen::ThreadPool pool(2);
  static Eigen::ThreadPool single(1);
  return {
      {"Serial", SerialExecutor{}},
      {"Default", AnyExecutor{}},
#ifdef _OPENMP
      {"OpenMp1", OpenMpExecutor{.num_threads = 1}},
      {"OpenMpNone", OpenMpExecutor{.num_threads = -1}},
      {"OpenMp3", OpenMpExecutor{.num_threads = 3}},
#endif
      {"ThreadPool1", ThreadPoolExecutor{&single}},
      {"ThreadPool2", ThreadPoolExecutor{&pool}},
      {"Backward", BackwardExecutor{}},
  };
}

class ExecutorTest : public testing::TestWithParam<NamedExecutor> {};

TEST_P(ExecutorTest, RunsEachTaskOnce) {
  const AnyExecutor executor = GetParam().executor;
  for (const Index count : {0, 1, 2, 3, 1000}) {
    std::vector<std::atomic<int>> runs(static_cast<std::size_t>(count));
    executor.parallel_for(count, [&](Index task) { ++runs[static_cast<std::size_t>(task)]; });
    EXPECT_TRUE(std::all_of(runs.begin(), runs.end(), [](const auto& n) { return n == 1; }));
  }
}

TEST_P(ExecutorTest, NeverRunsMoreThanItsConcurrency) {
  const AnyExecutor executor = GetParam().executor;
  std::atomic<Index> running = 0;
  std::atomic<Index> most = 0;
  executor.parallel_for(50, [&](Index) {
    const Index now = ++running;
    for (Index seen = most; seen < now && !most.compare_exchange_weak(seen, now);) {
    }
    std::this_thread::sleep_for(std::chrono::microseconds(100));
    --running;
  });
  EXPECT_GE(most, 1);
  EXPECT_LE(most, executor.concurrency());
}

// Else an executor that leaves all to the calling thread would pass every test.
TEST_P(ExecutorTest, RunsAsManyAtATimeAsItsConcurrency) {
  const AnyExecutor executor = GetParam().executor;
  const Index count = executor.concurrency();
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  std::atomic<Index> arrived = 0, met = 0;
  executor.parallel_for(count, [&](Index) {
    ++arrived;
    while (arrived < count && std::chrono::steady_clock::now() < deadline)
      std::this_thread::yield();
    if (arrived == count) ++met;
  });
  EXPECT_EQ(met, count);
}

TEST_P(ExecutorTest, RethrowsAnExceptionWhenAllTasksAreDone) {
  const AnyExecutor executor = GetParam().executor;
  std::atomic<int> done = 0;
  const auto body = [&](Index task) {
    if (task % 7 == 3) throw std::runtime_error("task failed");
    ++done;
  };
  EXPECT_THROW(executor.parallel_for(70, body), std::runtime_error);
  EXPECT_EQ(done, 60);
  executor.parallel_for(3, body);  // and works on
  EXPECT_EQ(done, 63);
}

struct Failure {
  Index task;
};

// Others may be its consequences. Of these two executors the order is known.
TEST(AnyExecutor, RethrowsTheFirstOfSeveralExceptions) {
  const auto rethrown_by = [](const AnyExecutor& executor) -> Index {
    try {
      executor.parallel_for(3, [](Index task) { throw Failure{task}; });
    } catch (const Failure& failure) {
      return failure.task;
    }
    return -1;
  };
  EXPECT_EQ(rethrown_by(SerialExecutor{}), 0);
  EXPECT_EQ(rethrown_by(BackwardExecutor{}), 2);
}

INSTANTIATE_TEST_SUITE_P(All, ExecutorTest, testing::ValuesIn(executors()),
                         [](const auto& test) { return test.param.name; });

TEST(ThreadPoolExecutor, UsesTheCallingThreadToo) {
  Eigen::ThreadPool pool(2);
  EXPECT_EQ(ThreadPoolExecutor{&pool}.concurrency(), 3);
}

// As all of the pool's threads may do at the same time, none may wait for another.
TEST(ThreadPoolExecutor, RunsAloneOnItsOwnPoolsThread) {
  Eigen::ThreadPool pool(1);
  std::promise<Index> sum;
  pool.Schedule([&] {
    Index tasks = 0;
    ThreadPoolExecutor{&pool}.parallel_for(40, [&](Index) { ++tasks; });
    sum.set_value(tasks);
  });
  auto result = sum.get_future();
  ASSERT_EQ(result.wait_for(std::chrono::seconds(60)), std::future_status::ready);
  EXPECT_EQ(result.get(), 40);
}

struct NoParallelFor {
  Index concurrency() const { return 1; }
};
static_assert(Executor<SerialExecutor> && Executor<DefaultExecutor>);
static_assert(Executor<ThreadPoolExecutor> && Executor<BackwardExecutor>);
static_assert(!Executor<NoParallelFor>);

}  // namespace
}  // namespace heed
