// SPDX-License-Identifier: MIT
/// \file
/// Which layout the pages of an entry have. Layer 4, detail.
#pragma once

#include "heed/cache/full_page.hpp"
#include "heed/cache/kv_entry.hpp"
#include "heed/cache/latent_page.hpp"

namespace heed::detail {

/// \tparam Stored  rotated, native or neither: that does not change where things lie
template <class Entry, class Stored>
using PageLayout = std::conditional_t<is_latent<Entry>, LatentPage<Entry, Unwrapped<Stored>>,
                                      FullPage<Entry, Unwrapped<Stored>>>;

}  // namespace heed::detail
