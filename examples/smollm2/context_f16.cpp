// SPDX-License-Identifier: MIT
#include "context_of.hpp"

namespace smollm2 {

template std::unique_ptr<Context> make_context_of<heed::f16>(const Model&, const ContextOptions&);

}  // namespace smollm2
