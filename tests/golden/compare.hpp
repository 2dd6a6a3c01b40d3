// SPDX-License-Identifier: MIT
/// \file
/// Computes what a golden file describes in one element type, and compares.
#pragma once

#include "golden/case.hpp"         // Case
#include "golden/comparison.hpp"   // Report
#include "golden/dot_product.hpp"  // DotProduct
#include "golden/grouped.hpp"      // Grouped
#include "golden/latent.hpp"       // Latent

namespace heed::golden {

/// Compiled in compare_float.cpp and compare_double.cpp.
template <class T>
Report compare(const Case& golden) {
  Report report;
  switch (golden.kind) {
    case Kind::dot_product: DotProduct<T>(golden, report).run(); break;
    case Kind::mha:
    case Kind::self_attention: Grouped<T>(golden, report).run(); break;
    case Kind::mla: Latent<T>(golden, report).run(); break;
  }
  return report;
}

extern template Report compare<float>(const Case& golden);
extern template Report compare<double>(const Case& golden);

}  // namespace heed::golden
