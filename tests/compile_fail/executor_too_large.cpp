// expect: heed: an executor is copied into each call: it must be trivially copyable
#include "heed/base/executor.hpp"

struct LargeExecutor : heed::SerialExecutor {
  double state[100];
};
heed::AnyExecutor executor = LargeExecutor{};
