// expect: heed: an executor needs `Index concurrency() const` and `void parallel_for(
#include "heed/base/executor.hpp"

struct NoParallelFor {
  heed::Index concurrency() const { return 1; }
};
heed::AnyExecutor executor = NoParallelFor{};
