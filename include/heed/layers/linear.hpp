// SPDX-License-Identifier: MIT
/// \file
/// A linear projection, on weights that somebody else holds. Layer 6, extension.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <string_view>

#include "heed/base/executor.hpp"
#include "heed/base/views.hpp"
#include "heed/layers/weight_view.hpp"

namespace heed {

/// y = x W^T by code of your own, for weights that a WeightView cannot look at: quantized, sparse,
/// on another device. examples/smollm2/stored_projection.hpp is one.
template <class T>
class Projection {
 public:
  virtual ~Projection() = default;
  virtual Index in() const noexcept = 0;   ///< columns of x
  virtual Index out() const noexcept = 0;  ///< columns of y
  /// \param x  [seqlen, in]; \param y  [seqlen, out], overwritten; they fit
  virtual void apply(RowsView<const T> x, RowsView<T> y, const AnyExecutor& executor) const = 0;
};

/// y = x: in place of a layer's last projection, it gives the results of all heads side by side,
/// for models that do more to them than project them (gates, norms).
template <class T>
class Identity final : public Projection<T> {
 public:
  explicit Identity(Index width) noexcept : width_(width) {}
  Index in() const noexcept override { return width_; }
  Index out() const noexcept override { return width_; }
  void apply(RowsView<const T> x, RowsView<T> y, const AnyExecutor&) const override {
    for (Index r = 0; r < x.rows; ++r) std::copy_n(x.row(r), width_, y.row(r));
  }

 private:
  Index width_;
};

/// y = x W^T + b, with W [out, in] as checkpoints store it, of T, bf16 or f16, or a projection of
/// your own in its place. Holds views only: what they look at must outlive it.
template <class T>
struct Linear {
  WeightView<T> weight = {};                  ///< [out, in]
  std::span<const T> bias = {};               ///< [out], or empty if there is none
  const Projection<T>* projection = nullptr;  ///< computes x W^T if given, and weight is not used

  Index in() const noexcept { return projection != nullptr ? projection->in() : weight.in(); }
  Index out() const noexcept { return out_or(weight.out()); }
  /// Of a projection of your own its width, else what is given.
  Index out_or(Index given) const noexcept {
    return projection != nullptr ? projection->out() : given;
  }

  /// \param x  [seqlen, in]; \param y  [seqlen, out], overwritten; must not overlap x
  /// Outputs are cut into tasks by their number alone. A row's bits do not depend on the rows
  /// beside it; with AVX2 or SSE, whose registers are 16, up to 64 rows: more may be rounded
  /// differently.
  /// \throws ShapeError before anything is written.
  void apply(RowsView<const T> x, RowsView<T> y, const AnyExecutor& executor = {}) const {
    detail::require_rows("Linear::apply", "x [seqlen, in]", x, x.rows, in());
    detail::require_rows("Linear::apply", "y [seqlen, out]", y, x.rows, out());
    check_bias("Linear::apply", "bias [out]", out());
    if (projection != nullptr) {
      projection->apply(x, y, executor);
      return add_bias(y, 0);
    }
    // Outputs per task: wide enough that packing x again for each costs little.
    constexpr Index task_outputs = 256;
    executor.parallel_for(ceil_div(out(), task_outputs), [&](Index task) {
      const Index begin = task * task_outputs;
      const Index count = std::min(task_outputs, out() - begin);
      const RowsView<T> target = y.middle_cols(begin, count);
      weight.middle_rows(begin, count).apply(x, target);
      add_bias(target, begin);
    });
  }

  /// Throws ShapeError unless the weight is [out, in] and the bias, if any, [out].
  void check(std::string_view where, std::string_view name, Index expected_out,
             Index expected_in) const {
    detail::require_shape(where, std::string(name) + ".weight [out, in]", {out(), in()},
                          {expected_out, expected_in});
    check_bias(where, std::string(name) + ".bias [out]", expected_out);
  }

 private:
  void check_bias(std::string_view where, std::string_view name, Index expected_out) const {
    if (!bias.empty()) detail::require_shape(where, name, {std::ssize(bias)}, {expected_out});
  }
  /// To the outputs from `begin` on.
  void add_bias(RowsView<T> y, Index begin) const {
    if (bias.empty()) return;
    for (Index r = 0; r < y.rows; ++r)
      for (Index c = 0; c < y.cols; ++c) y(r, c) += bias[static_cast<std::size_t>(begin + c)];
  }
};

}  // namespace heed
