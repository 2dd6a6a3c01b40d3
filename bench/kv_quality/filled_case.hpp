// SPDX-License-Identifier: MIT
/// \file
/// A KvCache of any entry and any element as a QualityCase.
#pragma once

#include <limits>
#include <memory>
#include <type_traits>
#include <variant>

#include "heed/attention/attend.hpp"
#include "heed/cache/kv_cache.hpp"
#include "heed/instances/extern_narrow.hpp"
#include "kv_quality/errors.hpp"
#include "kv_quality/quality_case.hpp"
#include "shared/read_keys.hpp"

namespace heed::bench::quality {
namespace detail {

template <class Entry, class Element>
class FilledCase final : public QualityCase {
  using Cache = KvCache<Entry, Element>;
  using T = typename Cache::Scalar;
  using MatrixT = MatrixOf<T>;

 public:
  FilledCase(const Inputs& inputs, const Entry& entry, const AnyExecutor& executor)
      : sizes_(inputs.sizes()), softmax_scale_(inputs.softmax_scale), executor_(executor),
        query_(inputs.query.cast<T>()), key_(inputs.key.cast<T>()), value_(inputs.value.cast<T>()),
        out_(query_.rows(), sizes_.num_heads * sizes_.head_dim_v), cache_(inputs.seqlen(), entry) {
    fill();
  }

  void fill() override {
    cache_.clear();
    const RowsView<const T> key(key_), value(value_);
    if constexpr (is_latent<Entry>) {
      const Entry& entry = cache_.entry();
      cache_.append(key.middle_cols(0, entry.latent_dim),
                    key.middle_cols(entry.latent_dim, entry.rope_dim));
    } else {
      cache_.append(split_heads(key, sizes_.num_kv_heads), split_heads(value, sizes_.num_kv_heads));
    }
  }

  Index bytes_per_token() const override { return static_cast<Index>(cache_.bytes_per_token()); }

  MatrixD read_key(Index kv_head) const override {
    MatrixT key(cache_.seqlen(), sizes_.head_dim);
    read_keys(cache_, kv_head, key);
    return key.template cast<double>();
  }
  MatrixD read_value(Index kv_head) const override {
    if constexpr (is_latent<Entry>) {
      return read_key(kv_head).leftCols(sizes_.head_dim_v);
    } else {
      MatrixT value(cache_.seqlen(), sizes_.head_dim_v);
      cache_.read_value(kv_head, value);
      return value.template cast<double>();
    }
  }

  /// The last row is decode()'s, so that what is timed is held against float64 as well.
  MatrixD attend_all() override {
    attend_rows(query_, out_);
    out_.bottomRows(1).setConstant(std::numeric_limits<T>::quiet_NaN());
    decode();
    return out_.template cast<double>();
  }
  void decode() override { attend_rows(query_.bottomRows(1), out_.bottomRows(1)); }

  bool loses_nothing() const override {
    return std::is_same_v<Element, float> || std::is_same_v<Element, double>;
  }
  double error_of_kernel(const MatrixD& query, const MatrixD& key, const MatrixD& value,
                         const HeadAttention& stored, const MatrixD& out) const override {
    // bf16 has 8 bits. Factors in fixed point have 16 of their row's largest, which is less.
    constexpr double factor_error = is_native<Element> ? 1.0 / (1 << 8) : 0;
    constexpr auto beside =
        has_scales<typename Cache::Element> ? RoundedBeside::row : RoundedBeside::own_column;
    return kernel_error<T>(query, key, value, stored, out, softmax_scale_, factor_error, beside);
  }

 private:
  void attend_rows(RowsView<const T> query, RowsView<T> out) {
    attend(split_heads(query, sizes_.num_heads), cache_, CausalMask{}, softmax_scale_,
           split_heads(out, sizes_.num_heads), {.executor = executor_, .workspace = &workspace_});
  }

  Sizes sizes_;
  double softmax_scale_;
  AnyExecutor executor_;
  MatrixT query_, key_, value_, out_;
  Cache cache_;
  Workspace workspace_;
};

}  // namespace detail

/// A cache of all tokens of `inputs` that stores `Element`, or null if there is no such cache.
template <class Element>
std::unique_ptr<QualityCase> make_quality_case(const Inputs& inputs, const AnyExecutor& executor) {
  return std::visit(
      [&](const auto& shape) -> std::unique_ptr<QualityCase> {
        const auto entry = kv_entry(shape);
        using Entry = std::remove_cvref_t<decltype(entry)>;
        if constexpr (CanStore<Entry, Element>)
          return std::make_unique<detail::FilledCase<Entry, Element>>(inputs, entry, executor);
        else
          return nullptr;
      },
      inputs.shape);
}

}  // namespace heed::bench::quality
