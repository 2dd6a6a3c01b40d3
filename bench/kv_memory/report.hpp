// SPDX-License-Identifier: MIT
/// \file
/// The figures of each model and variant, and their three forms: table, CSV and JSON.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kv_memory/measure.hpp"
#include "kv_memory/options.hpp"
#include "kv_memory/variants.hpp"

namespace heed::bench {

/// What filled caches at one context showed. A model's layers are of one or two kinds (with a
/// window or without); one cache of each kind was measured, and counts for all layers of its kind.
struct MeasuredContext {
  Index allocated_bytes = 0;        ///< by the caches of all layers
  Index held_bytes = 0;             ///< of those, by the sequence
  double bytes_per_token = 0;       ///< of those, per token held, summed over the layers
  double median_layer_seconds = 0;  ///< of a decode step, averaged over the layers
  double best_layer_seconds = 0;
  double bytes_per_second = 0;  ///< of keys and values by formula, at the median
  double largest_error = 0;
};

struct ContextReport {
  Index context = 0;
  Index bytes = 0;                  ///< of a sequence, by formula
  Index bytes_in_pages = 0;         ///< the same in whole pages
  Index bytes_without_windows = 0;  ///< if no layer let tokens go
  Index num_sequences = 0;          ///< that fit in the memory
  std::optional<MeasuredContext> measured{};
};

/// A point of the curve that plot.py draws.
struct CurvePoint {
  Index context = 0, bytes = 0;
};

struct VariantReport {
  Variant variant;
  Index bytes_per_token_16_bit = 0;                  ///< all layers
  Index bytes_per_token = 0;                         ///< all layers, in the element chosen
  std::optional<Index> expanded_per_token_16_bit{};  ///< of MLA with keys and values cached in full
  std::vector<ContextReport> contexts{};  ///< ascending; those asked for and those measured
  std::vector<CurvePoint> curve{};        ///< each doubling from the first context to the last
};

struct ModelReport {
  ModelConfig config;
  std::vector<VariantReport> variants;
};

/// The caches that have to be filled for these models, each once.
std::vector<MeasuredCase> cases_of(const std::vector<ModelConfig>& configs, const Options& options);

/// \param measurements  of `cases`, in their order; those that are missing leave gaps in the report
std::vector<ModelReport> make_reports(const std::vector<ModelConfig>& configs,
                                      const Options& options,
                                      const std::vector<MeasuredCase>& cases,
                                      const std::vector<std::optional<Measurement>>& measurements);

std::string table_text(const std::vector<ModelReport>& reports, const Options& options);
/// One line per model, variant and context.
std::string csv_text(const std::vector<ModelReport>& reports, const Options& options);
std::string json_text(const std::vector<ModelReport>& reports, const Options& options);

}  // namespace heed::bench
