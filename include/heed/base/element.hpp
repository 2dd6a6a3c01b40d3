// SPDX-License-Identifier: MIT
/// \file
/// What the elements of a cache may be stored as. Layer 0, public.
///
/// | element  | bytes | what is kept of a number                                              |
/// | -------- | ----- | --------------------------------------------------------------------- |
/// | `double` | 8     | all, for checks                                                       |
/// | `float`  | 4     | all                                                                   |
/// | `f16`    | 2     | 11 bits; above 65504 it becomes inf                                   |
/// | `bf16`   | 2     | 8 bits, float's whole range                                           |
/// | `int8`   | 1     | a 127th of its row's largest, and a float for the row that says which |
///
/// A row is one token's key or value of one head, or its latent. The kernel widens elements in
/// registers and computes in float (double for double); scales multiply scores and probabilities,
/// never elements.
#pragma once

#include <concepts>
#include <cstdint>
#include <type_traits>

#include <Eigen/Core>

namespace heed {

using f16 = Eigen::half;       ///< IEEE 754 binary16
using bf16 = Eigen::bfloat16;  ///< the upper half of a float
using int8 = std::int8_t;

/// A type that a cache can store.
template <class E>
concept StoredElement = std::same_as<E, float> || std::same_as<E, double> || std::same_as<E, f16> ||
                        std::same_as<E, bf16> || std::same_as<E, int8>;

/// What the kernel computes in when a cache stores E, and what is appended to it.
template <class E>
using ComputeType = std::conditional_t<std::is_same_v<E, double>, double, float>;

/// Whether a row of such elements has a scale.
template <class E>
inline constexpr bool has_scales = std::is_same_v<E, int8>;

}  // namespace heed
