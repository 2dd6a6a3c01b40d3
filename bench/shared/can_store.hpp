// SPDX-License-Identifier: MIT
/// \file
/// Which caches there are to measure.
#pragma once

#include <concepts>

#include "heed/cache/kv_entry.hpp"

namespace heed::bench {

/// Whether a KvCache<Entry, Element> exists: a latent is a value too, so it has no scales per
/// channel.
template <class Entry, StoredElement Element>
inline constexpr bool can_store =
    !(heed::detail::is_latent<Entry> &&
      std::same_as<heed::detail::Unwrapped<Element>, PerChannel<int8>>);

}  // namespace heed::bench
