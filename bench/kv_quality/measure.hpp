// SPDX-License-Identifier: MIT
/// \file
/// Fills a cache of each element type, and measures errors and times.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kv_quality/element_types.hpp"
#include "kv_quality/errors.hpp"

namespace heed::bench::quality {

struct QualityRow {
  std::string element;
  Index bytes_per_token = 0;
  Errors errors;
  double kernel_error = 0;    ///< as a part of what rounding may do
  double append_seconds = 0;  ///< of a token, among all in one call; median
  double decode_seconds = 0;  ///< median

  bool is_right() const { return kernel_error <= 1; }
};

struct QualityTable {
  std::vector<QualityRow> rows;
  double entropy_bits = 0;  ///< mean of the exact probabilities
};

namespace detail {

/// The median time of a step of each case, all in turns, so that what else the machine does hits
/// all. \param step  (case)
template <class Step>
std::vector<double> median_seconds(std::span<const std::unique_ptr<QualityCase>> cases,
                                   double seconds_per_case, const Step& step) {
  using Clock = std::chrono::steady_clock;
  constexpr std::size_t least_rounds = 5, most_rounds = 200;
  std::vector<std::vector<double>> samples(cases.size());
  for (const auto& one : cases) step(*one);
  const auto enough = seconds_per_case * static_cast<double>(cases.size());
  double spent = 0;
  for (std::size_t round = 0; round < most_rounds && (round < least_rounds || spent < enough);
       ++round)
    for (std::size_t i = 0; i < cases.size(); ++i) {
      const auto begin = Clock::now();
      step(*cases[i]);
      samples[i].push_back(std::chrono::duration<double>(Clock::now() - begin).count());
      spent += samples[i].back();
    }
  std::vector<double> medians;
  for (auto& of_case : samples) {
    const auto middle = of_case.begin() + std::ssize(of_case) / 2;
    std::nth_element(of_case.begin(), middle, of_case.end());
    medians.push_back(*middle);
  }
  return medians;
}

}  // namespace detail

/// \param seconds_per_case  about how long steps of each are timed; at least five are
inline QualityTable measure_quality(const Inputs& inputs, std::span<const QualityElement> elements,
                                    const AnyExecutor& executor, double seconds_per_case) {
  QualityTable table;
  std::vector<std::unique_ptr<QualityCase>> cases;
  std::vector<MatrixD> outs;
  for (const QualityElement& element : elements) {
    auto made = element.make_case(inputs, executor);
    if (made == nullptr) continue;
    cases.push_back(std::move(made));
    outs.push_back(cases.back()->attend_all());
    table.rows.push_back({.element = std::string(element.name),
                          .bytes_per_token = cases.back()->bytes_per_token(),
                          .errors = {}});
  }
  const Sizes sizes = inputs.sizes();
  std::vector<ErrorSums> sums(cases.size());
  for (Index kv_head = 0; kv_head < sizes.num_kv_heads; ++kv_head) {
    std::vector<HeadAttention> exact;
    const MatrixD key = inputs.key_of(kv_head), value = inputs.value_of(kv_head);
    const Index first = kv_head * sizes.group_size();
    for (Index i = 0; i < sizes.group_size(); ++i) {
      exact.push_back(attend_head(inputs.query_of(first + i), key, value, inputs.softmax_scale));
      for (Index q_row = 0; q_row < inputs.num_queries(); ++q_row)
        table.entropy_bits += entropy_bits(exact.back(), q_row);
    }
    for (std::size_t c = 0; c < cases.size(); ++c) {
      const MatrixD stored_key = cases[c]->read_key(kv_head);
      const MatrixD stored_value = cases[c]->read_value(kv_head);
      for (Index i = 0; i < sizes.group_size(); ++i) {
        const Index head = first + i;
        const MatrixD query = inputs.query_of(head);
        const HeadAttention stored =
            attend_head(query, stored_key, stored_value, inputs.softmax_scale);
        const MatrixD out = outs[c].middleCols(head * sizes.head_dim_v, sizes.head_dim_v);
        const HeadAttention& head_exact = exact[static_cast<std::size_t>(i)];
        sums[c].add(head_exact, stored, out);
        table.rows[c].kernel_error = std::max(
            table.rows[c].kernel_error,
            cases[c]->error_of_kernel(query, stored_key, stored_value,
                                      cases[c]->loses_nothing() ? head_exact : stored, out));
      }
    }
  }
  table.entropy_bits /= static_cast<double>(sizes.num_heads * inputs.num_queries());
  for (std::size_t c = 0; c < cases.size(); ++c) table.rows[c].errors = sums[c].errors();
  // What is wrong is not timed.
  if (std::ranges::all_of(table.rows, &QualityRow::is_right)) {
    const auto append =
        detail::median_seconds(cases, seconds_per_case, std::mem_fn(&QualityCase::fill));
    const auto decode =
        detail::median_seconds(cases, seconds_per_case, std::mem_fn(&QualityCase::decode));
    for (std::size_t c = 0; c < cases.size(); ++c) {
      table.rows[c].append_seconds = append[c] / static_cast<double>(inputs.seqlen());
      table.rows[c].decode_seconds = decode[c];
    }
  }
  return table;
}

}  // namespace heed::bench::quality
