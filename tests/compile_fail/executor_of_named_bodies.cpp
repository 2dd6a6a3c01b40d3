// expect: heed: an executor needs `Index concurrency() const`
#include "heed/base/executor.hpp"

/// Takes bodies that have a name alone; heed's have none.
struct Named {
  heed::Index concurrency() const { return 1; }
  template <class Body>
  void parallel_for(heed::Index count, Body& body) const {
    for (heed::Index task = 0; task < count; ++task) body(task);
  }
};
heed::AnyExecutor executor = Named{};
