// SPDX-License-Identifier: MIT
/// \file
/// Products of factors in fixed point with a page of codes: those of product.hpp and of
/// dot_product.hpp, exact but for the factors' own rounding and that of the result. Layer 1,
/// detail.
#pragma once

#include "heed/simd/codes.hpp"
#include "heed/simd/dot_product.hpp"

#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__)

namespace heed::simd {
namespace detail {

/// What sums of codes start from, and their units. \tparam Element  of the page
template <class Element>
struct CodedBlock {
  const CodeRow* left;
  template <class Step>
  auto start(Index row) const {
    return Step::template start<Element>(left[row]);
  }
  template <int Vectors>
  void finish(float* out, const Packet<float> (&value)[Vectors], Index row, Index) const {
    const auto unit = broadcast(left[row].unit);
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) store(out + v * lanes<float>, mul(value[v], unit));
  }
};
struct CodedAdd : FromZero {
  const CodeRow* left;
  template <int Vectors>
  void finish(float* out, const Packet<float> (&value)[Vectors], Index row, Index) const {
    const auto unit = broadcast(left[row].unit);
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) {
      float* const to = out + v * lanes<float>;
      store(to, mul_add(value[v], unit, load(to)));
    }
  }
};

/// Operands and result, passed by their address as in product.hpp.
template <class Element, int Codes>
struct CodeDotProduct {
  RowsView<const QueryCode<Codes>> left;
  const CodeRow* units;
  RowsView<const Element> right;
  RowsView<float> out;
};
template <int Codes>
inline constexpr int code_dot_rows = Codes == 2 ? 3 : 2;
inline constexpr int code_dot_tokens = 4;

template <int Rows, class Element, int Codes>
[[gnu::noinline]] void code_dot_tile(const CodeDotProduct<Element, Codes>& of, Index first_row,
                                     Index first_token) {
  using Step = DepthStep<float, QueryCode<Codes>>;
  constexpr int tokens = code_dot_tokens;
  constexpr Index shared = rows_per_element<Element>;
  const RowsView<const QueryCode<Codes>> left = of.left.middle_rows(first_row, Rows);
  const RowsView<const Element> right = of.right.middle_rows(first_token / shared, tokens / shared);
  typename Step::Sum sum[Rows][tokens];
#pragma GCC unroll 4
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int t = 0; t < tokens; ++t) sum[r][t] = Step::zero();
  const auto step = [&](Index k, const auto& load) __attribute__((always_inline)) {
    typename Step::Each query[Rows];
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r) query[r] = Step::factors_along(left.row(r), k);
#pragma GCC unroll 4
    for (int t = 0; t < tokens; ++t) {
      const auto codes = load(right.row(t / shared) + k, t);
#pragma GCC unroll 4
      for (int r = 0; r < Rows; ++r) sum[r][t] = Step::mul_add(query[r], codes, sum[r][t]);
    }
  };
  Index k = 0;
  for (; k + Step::depth <= right.cols; k += Step::depth)
    step(k, [](const Element* row, Index token) { return Step::along(row, token); });
  if (k < right.cols)
    step(k, [rest = right.cols - k](const Element* row, Index token) {
      return Step::along(row, token, rest);
    });
#pragma GCC unroll 4
  for (int r = 0; r < Rows; ++r) {
    const CodeRow row = of.units[first_row + r];
    __m128 value = _mm_setzero_ps();
#pragma GCC unroll 3
    for (int i = Codes - 1; i >= 0; --i) {
      const __m128i sums =
          sums_of_lanes(sum[r][0].code[i], sum[r][1].code[i], sum[r][2].code[i], sum[r][3].code[i]);
      const __m128i start = _mm_set1_epi32(Step::template start<Element>(row.sums[i]));
      value = _mm_fmadd_ps(_mm_cvtepi32_ps(_mm_add_epi32(sums, start)),
                           _mm_set1_ps(Step::place_value(i)), value);
    }
    _mm_storeu_ps(of.out.row(first_row + r) + first_token,
                  _mm_mul_ps(value, _mm_set1_ps(row.unit)));
  }
}

}  // namespace detail

/// out = left . right.
/// \param left   [rows, depth], whole rows, whose last places may be 0 and have no row in `right`
/// \param units  [rows]
/// \param right  [depth, cols] of int8, or [half of it, cols] of int4; cols is a multiple of the
///               vector width
/// \param ahead  as for product.hpp
template <class Element, int Codes>
void product(RowsView<const QueryCode<Codes>> left, const CodeRow* units,
             RowsView<const Element> right, RowsView<float> out, const Element* ahead) {
  detail::compute(detail::Product<float, Element, QueryCode<Codes>, detail::CodedBlock<Element>>{
      left, right, 0, ahead, out, left.cols, {units}});
}

/// out += left . right, otherwise as `product`.
/// \param first  rows of `right` before it are not there, or hold any code; left has a 0 for each
template <class Element, int Codes>
void add_product(RowsView<const ProbCode<Codes>> left, const CodeRow* units,
                 StripsView<const Element> right, RowsView<float> out, Index first,
                 const Element* ahead) {
  detail::compute(detail::Product<float, Element, ProbCode<Codes>, detail::CodedAdd>{
      left, right, first, ahead, out, left.cols, {{}, units}});
}

/// out = left . right^T.
/// \param left   [rows, depth], whole rows, 0 beyond those of `right`
/// \param right  [tokens, depth] of int8, or [half of them, depth] of int4; rows padded to
///               simd::row_padding; tokens in fours
/// \param out    [rows, tokens], overwritten
template <class Element, int Codes>
void dot_product(RowsView<const QueryCode<Codes>> left, const CodeRow* units,
                 RowsView<const Element> right, RowsView<float> out) {
  const detail::CodeDotProduct<Element, Codes> of{left, units, right, out};
  detail::for_dot_tiles<detail::code_dot_rows<Codes>, detail::code_dot_tokens>(
      left.rows, out.cols, [&](Index r, Index t, auto rows, auto) {
        detail::code_dot_tile<decltype(rows)::value>(of, r, t);
      });
}

}  // namespace heed::simd

#endif
