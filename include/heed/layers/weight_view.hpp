// SPDX-License-Identifier: MIT
/// \file
/// The matrix of a projection, of float or of 16 bits. Layer 6, public.
#pragma once

#include <cstddef>
#include <type_traits>

#include "heed/base/element.hpp"
#include "heed/base/views.hpp"
#include "heed/simd/projection.hpp"

namespace heed {

namespace detail {

/// Whether a view of a temporary M would outlive what it looks at: of a matrix, or of the copy that
/// a Ref of const may hold.
template <class M>
inline constexpr bool holds_memory = EigenPlain<M>;
template <class P, int options, class Stride>
inline constexpr bool holds_memory<Eigen::Ref<const P, options, Stride>> = true;

}  // namespace detail

/// What the numbers of a weight may be where a layer computes in T.
template <class E, class T>
concept WeightElement = detail::OneOf<E, T, bf16, f16>;

/// A weight W [out, in] in somebody's memory, as checkpoints store it: of T, bf16 or f16, which is
/// no part of the view's type. Numbers of 16 bits are widened in registers, which is exact: a
/// result has the bits that it has with the weight widened beforehand. Except `apply` to more than
/// 64 rows with AVX2 or SSE, where Eigen multiplies weights of T.
template <class T>
class WeightView {
 public:
  WeightView() : WeightView(RowsView<const T>()) {}
  template <class E>
  WeightView(RowsView<E> matrix)  // NOLINT(*-explicit-*)
      : WeightView(matrix.data, matrix.rows, matrix.cols, matrix.stride) {}
  /// A row-major Eigen matrix, map or block. \throws ShapeError as RowsView does
  template <detail::EigenDense M>
  WeightView(M&& matrix)  // NOLINT(*-explicit-*)
      : WeightView(RowsView<const typename std::remove_cvref_t<M>::Scalar>(matrix)) {
    static_assert(
        std::is_lvalue_reference_v<M> || !detail::holds_memory<std::remove_cv_t<M>>,
        "heed: the weight is a temporary matrix, which the layer would look at when it is "
        "gone: give it a name.");
  }
  /// W(o, i) is data[o * stride + i].
  template <class E>
  WeightView(const E* data, Index out, Index in, Index stride)
      : data_(reinterpret_cast<const std::byte*>(data)), out_(out), in_(in), stride_(stride),
        element_(&element_of<E>) {
    static_assert(WeightElement<E, T>,
                  "heed: a weight has other elements than the layer: give it T, bf16 or f16.");
  }
  template <class E>
  WeightView(const E* data, Index out, Index in) : WeightView(data, out, in, in) {}

  Index out() const noexcept { return out_; }
  Index in() const noexcept { return in_; }
  /// Outputs begin .. begin + count, [count, in].
  [[nodiscard]] WeightView middle_rows(Index begin, Index count) const noexcept {
    WeightView part = *this;
    part.data_ = detail::advanced(data_, begin * stride_ * element_->bytes);
    part.out_ = count;
    return part;
  }

  /// y = x W^T, on the calling thread. \param x  [rows, in]; \param y  [rows, out], overwritten
  /// \throws ShapeError before anything is written
  void apply(RowsView<const T> x, RowsView<T> y) const {
    detail::require_rows("WeightView::apply", "x [rows, in]", x, x.rows, in_);
    detail::require_rows("WeightView::apply", "y [rows, out]", y, x.rows, out_);
    element_->apply(x, *this, y);
  }
  /// y = x W, likewise. \param x  [rows, out]; \param y  [rows, in], overwritten
  void apply_transposed(RowsView<const T> x, RowsView<T> y) const {
    detail::require_rows("WeightView::apply_transposed", "x [rows, out]", x, x.rows, out_);
    detail::require_rows("WeightView::apply_transposed", "y [rows, in]", y, x.rows, in_);
    element_->apply_transposed(x, *this, y);
  }

 private:
  /// What there is to know of an element. Found by address, so that only products with elements
  /// that a program has weights of are compiled.
  struct Element {
    Index bytes;
    void (*apply)(RowsView<const T> x, const WeightView& weight, RowsView<T> y);
    void (*apply_transposed)(RowsView<const T> x, const WeightView& weight, RowsView<T> y);
  };
  template <class E, simd::WeightLayout layout>
  static void multiply(RowsView<const T> x, const WeightView& weight, RowsView<T> y) {
    const RowsView<const E> rows(reinterpret_cast<const E*>(weight.data_), weight.out_, weight.in_,
                                 weight.stride_);
    simd::multiply<layout>(x, rows, y);
  }
  template <class E>
  static constexpr Element element_of{sizeof(E), multiply<E, simd::WeightLayout::out_in>,
                                      multiply<E, simd::WeightLayout::in_out>};

  const std::byte* data_;
  Index out_, in_, stride_;
  const Element* element_;
};

}  // namespace heed
