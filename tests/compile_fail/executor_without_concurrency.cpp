// expect: heed: an executor needs `Index concurrency() const`
#include "heed/base/executor.hpp"

struct NoConcurrency {
  template <class Body>
  void parallel_for(heed::Index count, const Body& body) const {
    for (heed::Index task = 0; task < count; ++task) body(task);
  }
};
heed::AnyExecutor executor = NoConcurrency{};
