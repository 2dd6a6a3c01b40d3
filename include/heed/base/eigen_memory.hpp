// SPDX-License-Identifier: MIT
/// \file
/// What an Eigen object says of the memory behind it. Layer 0, detail.
#pragma once

#include <concepts>
#include <type_traits>
#include <utility>

#include <Eigen/Core>

namespace heed::detail {

// What can be passed to these derives from the one class or the other, directly or not.
template <class Derived>
void take_dense(const Eigen::DenseBase<Derived>&);
template <class Derived>
void take_plain(const Eigen::PlainObjectBase<Derived>&);

/// A matrix, a block, a map or an expression, or what inherits from one.
template <class M>
concept EigenDense = requires(const std::remove_cvref_t<M>& matrix) { take_dense(matrix); };

/// A matrix with memory of its own, not a block or a map of another's.
template <class M>
concept EigenPlain = requires(const std::remove_cvref_t<M>& matrix) { take_plain(matrix); };

/// Whether there is memory to look at, as behind no expression.
template <class M>
inline constexpr bool has_memory = bool(std::remove_cvref_t<M>::Flags & Eigen::DirectAccessBit) &&
                                   requires(std::remove_reference_t<M>& matrix) { matrix.data(); };

/// Of its first element, or a null pointer.
template <class M>
auto address_of(M& matrix) {
  if constexpr (has_memory<M>)
    return matrix.data();
  else
    return static_cast<const typename M::Scalar*>(nullptr);
}
/// The element a view of `M` points at: const if M, or what M maps, is const. Of an expression,
/// which is refused, that of what it would be written to.
template <EigenDense M>
using EigenElement = std::remove_pointer_t<decltype(address_of(std::declval<M&>()))>;

template <class M>
consteval void require_row_major() {
  static_assert(
      has_memory<M>,
      "heed: a view needs an Eigen object with memory behind it. Write the expression to a "
      "matrix first: Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>.");
  static_assert(
      bool(std::remove_cvref_t<M>::IsRowMajor) || !has_memory<M>,
      "heed: tokens are rows, so the matrix must be row-major. Write Eigen::Matrix<float, "
      "Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> (a column-major one would need a "
      "copy, which heed does not make behind your back).");
}

}  // namespace heed::detail
