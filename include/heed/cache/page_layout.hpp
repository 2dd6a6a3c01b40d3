// SPDX-License-Identifier: MIT
/// \file
/// Where the elements and scales of a page lie. Layer 4, detail.
#pragma once

#include <cstddef>

#include "heed/base/aligned_array.hpp"
#include "heed/base/element.hpp"
#include "heed/cache/page.hpp"

namespace heed::detail {

/// A page holds its heads one after another: of each, the elements, then the scales, on cache
/// lines.
template <class Entry, class Element>
class PageLayout {
 public:
  explicit PageLayout(const Entry& entry) : entry_(entry) {}

  const Entry& entry() const noexcept { return entry_; }
  /// Bytes of a page, all heads.
  Index page_bytes() const noexcept { return entry_.num_kv_heads * head_bytes(); }
  Element* elements(std::byte* page, Index kv_head) const noexcept {
    return reinterpret_cast<Element*>(page + kv_head * head_bytes());
  }
  /// Null if elements have none.
  float* scales(std::byte* page, Index kv_head) const noexcept {
    if constexpr (!has_scales<Element>) return nullptr;
    return reinterpret_cast<float*>(page + kv_head * head_bytes() + scales_offset());
  }
  PageView<Element> view(std::byte* page, Index kv_head) const noexcept {
    return entry_.template view<Element>(elements(page, kv_head), scales(page, kv_head));
  }

 private:
  Index scales_offset() const noexcept { return entry_.page_elements() * Index{sizeof(Element)}; }
  Index head_bytes() const noexcept {
    constexpr auto line = static_cast<Index>(memory_alignment);
    const Index bytes =
        scales_offset() + (has_scales<Element> ? Entry::page_scales : 0) * Index{sizeof(float)};
    return (bytes + line - 1) / line * line;
  }

  Entry entry_;
};

}  // namespace heed::detail
