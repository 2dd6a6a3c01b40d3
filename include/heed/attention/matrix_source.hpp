// SPDX-License-Identifier: MIT
/// \file
/// Plain key and value matrices as a source of pages. Layer 5, public.
#pragma once

#include <algorithm>

#include "heed/base/views.hpp"
#include "heed/cache/page.hpp"
#include "heed/simd/transpose.hpp"

namespace heed {

/// Keys and values in matrices, which must outlive it: what `attend` makes of those it is given,
/// and a sequence of an `attend_batch` whose keys are in no cache.
///
/// A page is packed when it is asked for: keys are transposed to scratch; values are used where
/// they lie if whole vectors can be read from their rows, and copied otherwise.
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
    const Index begin = page * page_size;
    const Index count = std::min(page_size, seqlen() - begin);
    simd::transpose(key_.head(kv_head).middle_rows(begin, count), scratch, page_size);
    if (count < page_size)  // columns beyond the end are read, though never used
      for (Index d = 0; d < head_dim(); ++d)
        std::fill(scratch + d * page_size + count, scratch + (d + 1) * page_size, T{0});
    if (values_in_place())
      return {scratch, page_size, value_.row(kv_head, begin), value_.row_stride};
    T* const values = scratch + page_size * head_dim();
    const Index stride = simd::padded(head_dim_v());
    for (Index i = 0; i < count; ++i) {
      T* const row = values + i * stride;
      std::copy_n(value_.row(kv_head, begin + i), head_dim_v(), row);
      std::fill(row + head_dim_v(), row + stride, T{0});
    }
    return {scratch, page_size, values, stride};
  }

 private:
  bool values_in_place() const noexcept { return value_.cols % simd::lanes<T> == 0; }

  HeadsView<const T> key_;
  HeadsView<const T> value_;
  KeyRange dropped_;
};

}  // namespace heed
