// SPDX-License-Identifier: MIT
/// \file
/// Views of rows and of heads: a pointer, its shape and its strides as one value. Layer 0, public.
///
/// Nothing is copied and nothing owned. The last axis is always contiguous. Row-major Eigen
/// matrices, maps and blocks convert to views by themselves.
#pragma once

#include <concepts>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "heed/base/eigen_memory.hpp"
#include "heed/base/error.hpp"
#include "heed/base/index.hpp"
#include "heed/base/page_size.hpp"

namespace heed {
namespace detail {

/// data + offset. A view of no rows may have no memory to point into, where only an offset of 0 is
/// defined.
template <class T>
constexpr T* advanced(T* data, Index offset) noexcept {
  return data == nullptr ? nullptr : data + offset;
}

}  // namespace detail

/// A matrix in somebody's memory: [rows, cols], element (r, c) at data[r * stride + c].
///
/// Any layout whose last axis is contiguous fits: a block of a wider matrix has stride > cols.
template <class T>
struct RowsView {
  T* data = nullptr;
  Index rows = 0;
  Index cols = 0;
  Index stride = 0;  ///< elements from one row to the next

  constexpr RowsView() = default;
  constexpr RowsView(T* data_, Index rows_, Index cols_, Index stride_)
      : data(data_), rows(rows_), cols(cols_), stride(stride_) {}
  /// Rows without gaps.
  constexpr RowsView(T* data_, Index rows_, Index cols_) : RowsView(data_, rows_, cols_, cols_) {}

  /// A writable view serves where a read-only one is asked for.
  template <class U>
    requires std::same_as<const U, T>
  constexpr RowsView(const RowsView<U>& other)  // NOLINT(*-explicit-*)
      : RowsView(other.data, other.rows, other.cols, other.stride) {}

  /// One row: [1, n].
  constexpr RowsView(std::span<T> row)  // NOLINT(*-explicit-*)
      : RowsView(row.data(), 1, static_cast<Index>(row.size())) {}

  /// A row-major Eigen matrix, map or block whose inner stride is 1.
  /// \throws ShapeError if an Eigen map has an inner stride other than 1.
  template <class M>
    requires detail::EigenDense<M>
  RowsView(M&& matrix) {  // NOLINT(*-explicit-*)
    detail::require_row_major<M>();
    // What is refused is not compiled any further: the reason is the only error.
    if constexpr (detail::has_memory<M>) {
      constexpr bool fits =
          std::is_convertible_v<detail::EigenElement<std::remove_reference_t<M>>*, T*>;
      static_assert(
          fits,
          "heed: the matrix has other elements than the view, or is const where heed writes.");
      static_assert(std::is_const_v<T> || std::is_lvalue_reference_v<M> || !detail::EigenPlain<M>,
                    "heed: what is written here would be lost: the matrix is a temporary one.");
      detail::require(
          matrix.cols() <= 1 || matrix.innerStride() == 1, "RowsView",
          "the Eigen map has an inner stride other than 1; copy it to a row-major matrix, "
          "or view a block of columns instead");
      if constexpr (fits)
        *this = RowsView(matrix.data(), matrix.rows(), matrix.cols(),
                         matrix.rows() <= 1 ? matrix.cols() : matrix.outerStride());
    }
  }

  constexpr T* row(Index r) const noexcept { return data + r * stride; }
  constexpr T& operator()(Index r, Index c) const noexcept { return data[r * stride + c]; }

  /// Rows begin .. begin + count, [count, cols].
  [[nodiscard]] constexpr RowsView middle_rows(Index begin, Index count) const noexcept {
    return {detail::advanced(data, begin * stride), count, cols, stride};
  }
  /// Columns begin .. begin + count, [rows, count].
  [[nodiscard]] constexpr RowsView middle_cols(Index begin, Index count) const noexcept {
    return {detail::advanced(data, begin), rows, count, stride};
  }
};

/// Rows cut into strips of strip_width columns, of which each may lie in one piece: [rows, cols],
/// element (r, c) at data[c / strip_width * strip + r * stride + c % strip_width].
template <class T>
struct StripsView {
  T* data;
  Index rows;
  Index cols;
  Index stride;  ///< elements from one row of a strip to the next
  Index strip;   ///< elements from one strip to the next; strip_width if rows lie in one piece

  constexpr StripsView(T* data_, Index rows_, Index cols_, Index stride_, Index strip_)
      : data(data_), rows(rows_), cols(cols_), stride(stride_), strip(strip_) {}
  constexpr StripsView(const RowsView<T>& whole)  // NOLINT(*-explicit-*)
      : StripsView(whole.data, whole.rows, whole.cols, whole.stride, strip_width) {}

  /// The address of (r, c), which the columns behind it in the same strip follow. Without rows
  /// there may be no memory, and it is `data`.
  constexpr T* at(Index r, Index c) const noexcept {
    return rows == 0 ? data : data + c / strip_width * strip + r * stride + c % strip_width;
  }
};

/// A stack of matrices of one shape: [num_heads, rows, cols], element (h, r, c) at
/// data[h * head_stride + r * row_stride + c].
///
/// Both usual layouts fit: [seqlen, num_heads * head_dim], as projections write it (see
/// `split_heads`), and [num_heads, seqlen, head_dim].
template <class T>
struct HeadsView {
  T* data = nullptr;
  Index num_heads = 0;
  Index rows = 0;
  Index cols = 0;
  Index head_stride = 0;  ///< elements from one head to the next
  Index row_stride = 0;   ///< elements from one row of a head to the next

  constexpr HeadsView() = default;
  constexpr HeadsView(T* data_, Index num_heads_, Index rows_, Index cols_, Index head_stride_,
                      Index row_stride_)
      : data(data_), num_heads(num_heads_), rows(rows_), cols(cols_), head_stride(head_stride_),
        row_stride(row_stride_) {}
  /// [num_heads, rows, cols] without gaps.
  constexpr HeadsView(T* data_, Index num_heads_, Index rows_, Index cols_)
      : HeadsView(data_, num_heads_, rows_, cols_, rows_ * cols_, cols_) {}

  /// A writable view serves where a read-only one is asked for.
  template <class U>
    requires std::same_as<const U, T>
  constexpr HeadsView(const HeadsView<U>& other)  // NOLINT(*-explicit-*)
      : HeadsView(other.data, other.num_heads, other.rows, other.cols, other.head_stride,
                  other.row_stride) {}

  /// One head: [1, rows, cols].
  constexpr HeadsView(const RowsView<T>& one)  // NOLINT(*-explicit-*)
      : HeadsView(one.data, 1, one.rows, one.cols, 0, one.stride) {}
  template <class U>
    requires std::same_as<const U, T>
  constexpr HeadsView(const RowsView<U>& one)  // NOLINT(*-explicit-*)
      : HeadsView(RowsView<T>(one)) {}

  /// One head in a row-major Eigen matrix.
  template <class M>
    requires detail::EigenDense<M>
  HeadsView(M&& matrix)  // NOLINT(*-explicit-*)
      : HeadsView(RowsView<T>(std::forward<M>(matrix))) {}

  [[nodiscard]] constexpr RowsView<T> head(Index h) const noexcept {
    return {detail::advanced(data, h * head_stride), rows, cols, row_stride};
  }
  constexpr T* row(Index h, Index r) const noexcept {
    return data + h * head_stride + r * row_stride;
  }
  constexpr T& operator()(Index h, Index r, Index c) const noexcept { return row(h, r)[c]; }

  /// Heads begin .. begin + count.
  [[nodiscard]] constexpr HeadsView middle_heads(Index begin, Index count) const noexcept {
    return {
        detail::advanced(data, begin * head_stride), count, rows, cols, head_stride, row_stride};
  }
  /// Rows begin .. begin + count of every head.
  [[nodiscard]] constexpr HeadsView middle_rows(Index begin, Index count) const noexcept {
    return {detail::advanced(data, begin * row_stride),
            num_heads,
            count,
            cols,
            head_stride,
            row_stride};
  }
  /// Columns begin .. begin + count of every head.
  [[nodiscard]] constexpr HeadsView middle_cols(Index begin, Index count) const noexcept {
    return {detail::advanced(data, begin), num_heads, rows, count, head_stride, row_stride};
  }
};

template <detail::EigenDense M>
RowsView(M&&) -> RowsView<detail::EigenElement<std::remove_reference_t<M>>>;

/// [seqlen, num_heads * head_dim] seen as [num_heads, seqlen, head_dim], without a copy.
/// \throws ShapeError if num_heads is not positive or does not divide the columns.
template <class T>
[[nodiscard]] HeadsView<T> split_heads(RowsView<T> rows, Index num_heads) {
  detail::require(num_heads > 0 && rows.cols % num_heads == 0, "split_heads", [&] {
    return "num_heads, " + std::to_string(num_heads) + ", must be positive and divide the " +
           std::to_string(rows.cols) + " columns";
  });
  const Index head_dim = rows.cols / num_heads;
  return {rows.data, num_heads, rows.rows, head_dim, head_dim, rows.stride};
}

/// The same for a row-major Eigen matrix, map or block; of a temporary matrix, to be read only.
template <class M>
  requires detail::EigenDense<M>
[[nodiscard]] auto split_heads(M&& matrix, Index num_heads) {
  using Element = detail::EigenElement<std::remove_reference_t<M>>;
  constexpr bool is_lost = !std::is_lvalue_reference_v<M> && detail::EigenPlain<M>;
  using View = RowsView<std::conditional_t<is_lost, const Element, Element>>;
  return split_heads(View(std::forward<M>(matrix)), num_heads);
}

namespace detail {

/// What `attend` and the layers take as query, key, value or out.
template <class X>
struct ViewElementOf;
template <class T>
struct ViewElementOf<RowsView<T>> {
  using type = T;
};
template <class T>
struct ViewElementOf<HeadsView<T>> {
  using type = T;
};
template <EigenDense M>
struct ViewElementOf<M> {
  using type = EigenElement<M>;
};
/// The element of a view or an Eigen object, without const.
template <class X>
using ViewElement = std::remove_const_t<typename ViewElementOf<std::remove_cvref_t<X>>::type>;

/// Throws ShapeError for a negative number of rows or heads, which callers that take any number
/// would let pass.
inline void require_not_negative(std::string_view where, std::string_view argument,
                                 std::string_view axis, Index size) {
  require(size >= 0, where, [&] {
    return std::string(argument) + " has " + std::to_string(size) + " " + std::string(axis) +
           ", expected 0 or more";
  });
}
template <class T>
void require_not_negative(std::string_view where, std::string_view argument,
                          const HeadsView<T>& found) {
  require_not_negative(where, argument, "heads", found.num_heads);
  require_not_negative(where, argument, "rows", found.rows);
  require_not_negative(where, argument, "columns", found.cols);
}
/// Throws ShapeError unless a view is [rows, cols]. \param argument  as for require_shape
template <class T>
void require_rows(std::string_view where, std::string_view argument, const RowsView<T>& found,
                  Index rows, Index cols) {
  require_not_negative(where, argument, "rows", found.rows);
  require_not_negative(where, argument, "columns", found.cols);
  require_shape(where, argument, {found.rows, found.cols}, {rows, cols});
}
/// Throws ShapeError unless a view is [num_heads, rows, cols].
template <class T>
void require_heads(std::string_view where, std::string_view argument, const HeadsView<T>& found,
                   Index num_heads, Index rows, Index cols) {
  require_not_negative(where, argument, found);
  require_shape(where, argument, {found.num_heads, found.rows, found.cols},
                {num_heads, rows, cols});
}

}  // namespace detail
}  // namespace heed
