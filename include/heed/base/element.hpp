// SPDX-License-Identifier: MIT
/// \file
/// What the elements of a cache may be stored as. Layer 0, public.
///
/// | element            | bits | what is kept of a number                                        |
/// | ------------------ | ---- | --------------------------------------------------------------- |
/// | `double`           | 64   | all, for checks                                                 |
/// | `float`            | 32   | all                                                             |
/// | `f16`              | 16   | 11 bits; from 65520 on it is inf                                |
/// | `bf16`             | 16   | 8 bits, float's range; from 3.4e38 on it is inf                 |
/// | `int8`             | 8    | steps of a 127th of its row's largest number                    |
/// | `PerChannel<int8>` | 8    | of keys, a 254th of the channel's range in its page; else int8  |
/// | `int4`             | 4    | of keys, a 15th of that range; else 2/15 of the row's largest   |
/// | `Rotated<E>`       |      | as E, of rows that were turned by a Walsh-Hadamard transform    |
/// | `Native<E>`        |      | as E, which is bf16 or has scales, in faster products           |
///
/// A row is one token's key or value of one head, or its latent; a channel is one column of the
/// keys of a head. Keys have channels that outweigh the others, values have not: so keys lose less
/// with a scale per channel, or after a rotation that spreads such channels over all (and that the
/// kernel gives queries too, and takes back from the result). A transform mixes blocks of as many
/// columns as the largest power of two that divides the width: all 128 or 64 of a head, 32 of 96,
/// 16 of 80 or 112. The rope part of a latent stays bf16 beside int8 and int4.
///
/// The kernel computes in float (double for double), to which elements are widened in registers.
/// Scales multiply queries, scores and probabilities, never elements.
///
/// With AVX-512's VNNI and VBMI, codes are not widened: queries and probabilities become integers
/// of 24 bits, at 4/3 of the rate of float, and sums of products are exact. A factor is then off by
/// less than a 4-millionth of the largest among
///   - the numbers of its scaled query; with scales per channel, each times that of its page;
///   - the probabilities of its row and page, each times the scale of its value.
/// All may be 0 if that is below 5e-32.
/// So a result is as exact as float's, unless those numbers differ by far: a factor of 100 costs a
/// digit.
///
/// `Native` asks for faster products that round more, at up to twice the rate of float.
///
///     Native<bf16>  `vdpbf16ps`: queries and probabilities are rounded to bf16, by at most a 256th
///                   each; sums stay float, subnormal ones are 0
///     the others    `vpdpbusd` (VNNI): as above, but of 16 bits, each query off by at most a
///                   65278th of the largest, each probability by half of that (all may be 0 if
///                   that is below 2e-34). The rope part of a latent is multiplied as
///                   Native<bf16> is, and a page that is in float while it is being filled, in
///                   float
///
/// Where the processor has no such products the kernel widens, and gains nothing. Queries and
/// probabilities for bf16 are rounded all the same, so that results differ by roundings of float
/// alone; those for codes stay float, so that results differ by the rounding above.
/// Sources: Liu et al. 2024 (KIVI), arXiv:2402.02750, for channels; Ashkboos et al. 2024 (QuaRot),
/// arXiv:2404.00456, for the rotation.
#pragma once

#include <concepts>
#include <cstdint>
#include <type_traits>

#include <Eigen/Core>

#include "heed/base/index.hpp"

namespace heed {

using f16 = Eigen::half;       ///< IEEE 754 binary16
using bf16 = Eigen::bfloat16;  ///< the upper half of a float
using int8 = std::int8_t;      ///< a code from -127 to 127, beside its scale
/// Two elements of 4 bits: of one column, in rows 2 r and 2 r + 1.
struct int4 {
  std::uint8_t pair;
};
/// Names the element whose keys have a scale and an offset per channel and page.
template <class E>
struct PerChannel {};
/// Names the element whose rows go through a Walsh-Hadamard transform before they are stored.
template <class E>
struct Rotated {};
/// Names the element that is multiplied as the processor does so fastest, for which queries and
/// probabilities are rounded.
template <class E>
struct Native {};

/// Whether products are asked for that round more, and are faster.
template <class E>
inline constexpr bool is_native = false;
template <class E>
inline constexpr bool is_native<Native<E>> = true;

namespace detail {

template <class E, class... Others>
concept OneOf = (std::same_as<E, Others> || ...);

template <class E>
concept Quantized = OneOf<E, int8, int4, PerChannel<int8>>;

template <class E>
struct AsStored {
  using Type = E;
};
template <Quantized E>
struct AsStored<Rotated<E>> {
  using Type = E;
};
/// E of Rotated<E> and Native<E>, any other element itself.
template <class E>
using Unwrapped = typename AsStored<E>::Type;

template <class E>
  requires(std::same_as<E, bf16> || (!is_native<E> && Quantized<Unwrapped<E>>))
struct AsStored<Native<E>> : AsStored<E> {};

}  // namespace detail

/// A type that a cache can store.
template <class E>
concept StoredElement = detail::OneOf<E, float, double, f16, bf16, Native<bf16>> ||
                        detail::Quantized<detail::Unwrapped<E>>;

/// Whether elements are whole numbers that have a scale.
template <class E>
inline constexpr bool has_scales = detail::Quantized<detail::Unwrapped<E>>;

/// Whether keys have their scales per channel, which takes the whole page: the page being filled is
/// kept in float meanwhile. (Latents have scales per row.)
template <class E>
inline constexpr bool keys_per_channel =
    detail::OneOf<detail::Unwrapped<E>, int4, PerChannel<int8>>;

/// Whether rows go through that transform before they are stored.
template <class E>
inline constexpr bool is_rotated = false;
template <class E>
inline constexpr bool is_rotated<Rotated<E>> = true;
template <class E>
inline constexpr bool is_rotated<Native<E>> = is_rotated<E>;

/// What the kernel loads of a cache that stores E, where the processor multiplies no codes: int4
/// comes to it unpacked.
template <class E>
using KernelElement = std::conditional_t<has_scales<E>, int8, detail::Unwrapped<E>>;

/// What lies in a page that stores E.
template <class E>
using PageElement =
    std::conditional_t<std::same_as<detail::Unwrapped<E>, int4>, int4, KernelElement<E>>;

/// Rows of a page that share an element there.
template <class E>
inline constexpr Index rows_per_element = std::same_as<PageElement<E>, int4> ? 2 : 1;

/// What the kernel computes in when a cache stores E, and what is appended to it.
template <class E>
using ComputeType = std::conditional_t<std::is_same_v<E, double>, double, float>;

/// Bits that an element takes, scales apart.
template <class E>
inline constexpr Index element_bits =
    8 * static_cast<Index>(sizeof(PageElement<E>)) / rows_per_element<E>;

}  // namespace heed
