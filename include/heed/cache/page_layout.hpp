// SPDX-License-Identifier: MIT
/// \file
/// Which layout the pages of an entry have. Layer 4, detail.
#pragma once

#include <memory>
#include <string_view>
#include <type_traits>

#include "heed/cache/full_page.hpp"
#include "heed/cache/kv_entry.hpp"
#include "heed/cache/latent_page.hpp"
#include "heed/cache/page_store.hpp"
#include "heed/simd/split_code.hpp"

namespace heed::detail {

template <class Entry, class Stored>
struct PageLayoutOf {
  static_assert(StoredElement<Stored>,
                "heed: the cache's elements must be one of those in heed/base/element.hpp: float, "
                "double, heed::f16, heed::bf16, heed::int8, heed::int4, Rotated of int8, int4 or "
                "PerChannel<int8>, PerChannel<int8>, or Native of bf16 or of any with scales.");
  static_assert(CanStore<Entry, Stored>,
                "heed: a latent is key and value at once, so its scales are per token: store it as "
                "int8, int4 or Rotated<...> of these. PerChannel is for FullKv.");
  using Type = std::conditional_t<is_latent<Entry>, LatentPage<Entry, Unwrapped<Stored>>,
                                  FullPage<Entry, Unwrapped<Stored>>>;
};
/// \tparam Stored  rotated, native or neither: that does not change where things lie
template <class Entry, class Stored>
using PageLayout = typename PageLayoutOf<Entry, Stored>::Type;

/// What the kernel loads of a cache: codes of int4 unpacked, unless products take them as they lie.
template <class Stored>
using LoadedElement =
    std::conditional_t<simd::takes_nibbles, PageElement<Stored>, KernelElement<Stored>>;

/// A store of pages of a layout.
/// \param where  the class that is made
/// \throws CapacityError for more pages or bytes than can be
template <class Layout>
std::shared_ptr<PageStore> make_store(std::string_view where, const Layout& layout,
                                      Index num_pages) {
  const Index num_heads = layout.entry().num_kv_heads;
  PageStore::require_possible(where, num_pages, num_heads * layout.head_bytes());
  return std::make_shared<PageStore>(num_pages, num_heads, layout.head_bytes());
}

}  // namespace heed::detail
