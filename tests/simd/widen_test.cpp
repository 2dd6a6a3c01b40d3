// SPDX-License-Identifier: MIT
/// \file
/// Narrow elements in registers are the numbers they stand for.

#include "heed/simd/widen.hpp"

#if defined(__SSE3__)
#include <pmmintrin.h>
#endif

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

namespace heed {
namespace {

/// Every pattern of bits that an element can have.
template <class Element>
std::vector<Element> all_elements() {
  using Bits = std::conditional_t<sizeof(Element) == 1, std::uint8_t, std::uint16_t>;
  std::vector<Element> elements;
  for (std::uint32_t bits = 0; bits <= std::numeric_limits<Bits>::max(); ++bits)
    elements.push_back(std::bit_cast<Element>(static_cast<Bits>(bits)));
  return elements;
}

template <class Case>
class Widen : public testing::Test {};
template <class T, class Element>
struct Case {
  using Wide = T;
  using Narrow = Element;
};
using Cases = testing::Types<Case<float, f16>, Case<float, bf16>, Case<float, int8>,
                             Case<double, float>, Case<double, f16>, Case<double, int8>>;
TYPED_TEST_SUITE(Widen, Cases);

/// Holds every element against what a cast makes of it.
template <class TypeParam>
void expect_exact() {
  using T = typename TypeParam::Wide;
  using Element = typename TypeParam::Narrow;
  std::vector<Element> elements;
  if constexpr (sizeof(Element) < 4)
    elements = all_elements<Element>();
  else
    elements.assign({0.0F, -0.0F, 1.5F, -3e38F, 1e-40F, std::numeric_limits<float>::infinity(),
                     std::numeric_limits<float>::quiet_NaN(), 7.25F});
  constexpr Index n = simd::lanes<T>;
  for (Index i = 0; i + n <= std::ssize(elements); i += n) {
    const Element* const from = elements.data() + i;
    for (const auto& loaded : {simd::load_as<T>(from), simd::load_as_without_constants<T>(from)}) {
      T found[n];
      simd::store(found, loaded);
      for (Index lane = 0; lane < n; ++lane) {
        const auto expected = static_cast<T>(from[lane]);
        if (std::isnan(expected))
          EXPECT_TRUE(std::isnan(found[lane])) << i + lane;
        else
          EXPECT_EQ(found[lane], expected) << i + lane;
      }
    }
  }
}

TYPED_TEST(Widen, IsExact) { expect_exact<TypeParam>(); }

#if defined(__SSE3__)
// A caller may have the processor take subnormal floats as 0, as all programs do of which a part
// was compiled with -ffast-math. A subnormal f16 is none as float.
TEST(WidenOfF16, IsExactWhereSubnormalsCountAsZero) {
  const unsigned before = _MM_GET_DENORMALS_ZERO_MODE();
  _MM_SET_DENORMALS_ZERO_MODE(_MM_DENORMALS_ZERO_ON);
  expect_exact<Case<float, f16>>();
  _MM_SET_DENORMALS_ZERO_MODE(before);
}
#endif

}  // namespace
}  // namespace heed
