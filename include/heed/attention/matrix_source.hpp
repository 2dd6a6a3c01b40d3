// SPDX-License-Identifier: MIT
/// \file
/// Plain key and value matrices as a source of pages. Layer 5, public.
#pragma once

#include <algorithm>

#include "heed/base/views.hpp"
#include "heed/cache/page.hpp"
#include "heed/simd/factors.hpp"  // copy_padded
#include "heed/simd/transpose.hpp"

namespace heed {

/// Keys and values in matrices, which must outlive it: what `attend` makes of those it is given,
/// and a sequence of an `attend_batch` whose keys are in no cache.
///
/// A page is packed when it is asked for: keys are transposed to scratch, but for few query rows;
/// values are used where they lie if whole vectors can be read from their rows, and copied
/// otherwise. A class that derives from it and has a `page` of its own needs a `page_in_rows`, too.
template <class T>
class MatrixSource {
 public:
  using Element = T;
  static constexpr KeyLayout key_layout = KeyLayout::transposed;

  /// \param key    [num_kv_heads, seqlen_kv, head_dim]
  /// \param value  [num_kv_heads, seqlen_kv, head_dim_v]
  /// \param dropped  keys that no query may see, of those there are
  /// \throws ShapeError if value has not as many heads and rows as key
  MatrixSource(HeadsView<const T> key, HeadsView<const T> value, KeyRange dropped = {})
      : key_(key), value_(value), dropped_(dropped) {
    detail::require_heads("MatrixSource", "value [num_kv_heads, seqlen_kv, head_dim_v]", value,
                          key.num_heads, key.rows, value.cols);
  }

  Index num_kv_heads() const noexcept { return key_.num_heads; }
  Index head_dim() const noexcept { return key_.cols; }
  Index head_dim_v() const noexcept { return value_.cols; }
  Index seqlen() const noexcept { return key_.rows; }
  KeyRange dropped() const noexcept { return dropped_; }
  Index page_scratch() const noexcept {
    return page_size * (head_dim() + (values_in_place() ? 0 : simd::padded(head_dim_v())));
  }

  PageView<T> page(Index kv_head, Index page, T* scratch) const {
    PageView<T> view = page_in_rows(kv_head, page, scratch + page_size * head_dim());
    // Padded, as whole vectors of tokens are read.
    simd::transpose_padded(RowsView<const T>(view.keys, tokens(page), head_dim(), view.key_stride),
                           scratch, page_size);
    view.keys = scratch, view.key_stride = page_size;
    return view;
  }
  PageView<T> page_in_rows(Index kv_head, Index page, T* scratch) const {
    const Index begin = page * page_size;
    const T* const keys = key_.head(kv_head).middle_rows(begin, tokens(page)).data;
    if (values_in_place())
      return {keys, key_.row_stride, value_.row(kv_head, begin), value_.row_stride};
    const Index width = head_dim_v(), stride = simd::padded(width);
    for (Index i = 0; i < tokens(page); ++i)
      simd::copy_padded(value_.row(kv_head, begin + i), width, scratch + i * stride);
    return {keys, key_.row_stride, scratch, stride};
  }

 private:
  Index tokens(Index page) const noexcept {
    return std::min(page_size, seqlen() - page * page_size);
  }
  bool values_in_place() const noexcept { return value_.cols % simd::lanes<T> == 0; }

  HeadsView<const T> key_;
  HeadsView<const T> value_;
  KeyRange dropped_;
};

}  // namespace heed
