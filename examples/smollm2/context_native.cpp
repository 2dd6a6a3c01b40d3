// SPDX-License-Identifier: MIT
#include "context_of.hpp"

namespace smollm2 {

template std::unique_ptr<Context> make_context_of<heed::Native<heed::bf16>>(const Model&,
                                                                            const ContextOptions&);
template std::unique_ptr<Context> make_context_of<heed::Native<heed::int8>>(const Model&,
                                                                            const ContextOptions&);
template std::unique_ptr<Context> make_context_of<heed::Native<heed::int4>>(const Model&,
                                                                            const ContextOptions&);

}  // namespace smollm2
