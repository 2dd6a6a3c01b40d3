// SPDX-License-Identifier: MIT
#include "context_of.hpp"

namespace smollm2 {

template std::unique_ptr<Context> make_context_of<heed::int4>(const Model&, const ContextOptions&);
template std::unique_ptr<Context> make_context_of<heed::Rotated<heed::int4>>(const Model&,
                                                                             const ContextOptions&);

}  // namespace smollm2
