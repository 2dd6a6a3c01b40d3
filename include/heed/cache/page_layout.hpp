// SPDX-License-Identifier: MIT
/// \file
/// Which layout the pages of an entry have. Layer 4, detail.
#pragma once

#include <memory>
#include <type_traits>

#include "heed/cache/full_page.hpp"
#include "heed/cache/kv_entry.hpp"
#include "heed/cache/latent_page.hpp"
#include "heed/cache/page_store.hpp"

namespace heed::detail {

/// \tparam Stored  rotated, native or neither: that does not change where things lie
template <class Entry, class Stored>
using PageLayout = std::conditional_t<is_latent<Entry>, LatentPage<Entry, Unwrapped<Stored>>,
                                      FullPage<Entry, Unwrapped<Stored>>>;

/// A store of pages of a layout.
template <class Layout>
std::shared_ptr<PageStore> make_store(const Layout& layout, Index num_pages) {
  return std::make_shared<PageStore>(num_pages, layout.entry().num_kv_heads, layout.head_bytes());
}

}  // namespace heed::detail
