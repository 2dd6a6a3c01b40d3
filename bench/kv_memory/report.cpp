// SPDX-License-Identifier: MIT
#include "kv_memory/report.hpp"

#include <algorithm>
#include <set>

namespace heed::bench {
namespace {

/// Whether such a cache is to be filled.
bool is_measured(const MeasuredCase& one, const Options& options) {
  return options.element->make_case != formula_alone && options.element->can_store(one.shape) &&
         kv_bytes_per_token(one.shape, options.element->storage) *
                 round_up_to_pages(one.tokens_seen()) <=
             options.most_cache;
}

/// Calls f(case) for each kind of layer of each variant at each measured context.
template <class F>
void for_each_cache(const ModelConfig& config, const Options& options, const F& f) {
  for (const Variant& variant : variants_of(config))
    for (const Index context : options.measured_contexts)
      for (const KvLayers& layers : kv_layers(config, variant.shape, options.element->storage))
        f(measured_case(variant.shape, layers, context, options.placement));
}

std::optional<MeasuredContext> measured_context(
    const std::vector<KvLayers>& model, const AttentionShape& shape, Index context,
    Placement placement, const std::vector<MeasuredCase>& cases,
    const std::vector<std::optional<Measurement>>& measurements) {
  MeasuredContext sum;
  Index num_layers = 0;
  for (const KvLayers& layers : model) {
    const Index tokens = layers.tokens_held(context);
    const auto found =
        std::find(cases.begin(), cases.end(), measured_case(shape, layers, context, placement));
    if (found == cases.end()) return std::nullopt;
    const auto& measurement = measurements[static_cast<std::size_t>(found - cases.begin())];
    if (!measurement || measurement->median_seconds == 0) return std::nullopt;
    const double count = static_cast<double>(layers.num_layers);
    const double allocated = static_cast<double>(measurement->allocated_bytes);
    sum.allocated_bytes += layers.num_layers * measurement->allocated_bytes;
    sum.held_bytes += layers.num_layers * measurement->held_bytes;
    sum.bytes_per_token += count * allocated / static_cast<double>(tokens);
    sum.median_layer_seconds += count * measurement->median_seconds;
    sum.best_layer_seconds += count * measurement->best_seconds;
    sum.largest_error = std::max(sum.largest_error, measurement->error.largest);
    num_layers += layers.num_layers;
  }
  sum.bytes_per_second = static_cast<double>(kv_bytes(model, context)) / sum.median_layer_seconds;
  sum.median_layer_seconds /= static_cast<double>(num_layers);
  sum.best_layer_seconds /= static_cast<double>(num_layers);
  return sum;
}

}  // namespace

std::vector<MeasuredCase> cases_of(const std::vector<ModelConfig>& configs,
                                   const Options& options) {
  std::vector<MeasuredCase> cases;
  for (const ModelConfig& config : configs)
    for_each_cache(config, options, [&](const MeasuredCase& one) {
      if (is_measured(one, options) && std::find(cases.begin(), cases.end(), one) == cases.end())
        cases.push_back(one);
    });
  return cases;
}

std::vector<ModelReport> make_reports(const std::vector<ModelConfig>& configs,
                                      const Options& options,
                                      const std::vector<MeasuredCase>& cases,
                                      const std::vector<std::optional<Measurement>>& measurements) {
  std::set<Index> contexts(options.contexts.begin(), options.contexts.end());
  contexts.insert(options.measured_contexts.begin(), options.measured_contexts.end());
  std::vector<ModelReport> reports;
  for (const ModelConfig& config : configs) {
    ModelReport& report = reports.emplace_back(ModelReport{config, {}});
    for (const Variant& variant : variants_of(config)) {
      const auto model = kv_layers(config, variant.shape, options.element->storage);
      auto keeping_all = model;
      for (KvLayers& layers : keeping_all) layers.window_left.reset();
      const auto model_16_bit = kv_layers(config, variant.shape, {.bits = 16});
      VariantReport row{.variant = variant,
                        .bytes_per_token_16_bit = heed::kv_bytes_per_token(model_16_bit),
                        .bytes_per_token = heed::kv_bytes_per_token(model)};
      if (const auto* latent = std::get_if<LatentShape>(&variant.shape)) {
        row.expanded_per_token_16_bit = 0;
        for (const LayerGroup& group : config.layers)
          *row.expanded_per_token_16_bit +=
              group.num_layers * expanded_kv_bytes_per_token(*latent, {.bits = 16});
      }
      for (const Index context : contexts)
        row.contexts.push_back(
            {.context = context,
             .bytes = kv_bytes(model, context),
             .bytes_in_pages = kv_bytes_in_pages(model, context),
             .bytes_without_windows = kv_bytes_in_pages(keeping_all, context),
             .num_sequences = sequences_that_fit(model, context, options.memory),
             .measured = measured_context(model, variant.shape, context, options.placement, cases,
                                          measurements)});
      for (Index context = *contexts.begin(); context <= *contexts.rbegin(); context *= 2)
        row.curve.push_back({context, kv_bytes(model, context)});
      report.variants.push_back(std::move(row));
    }
  }
  return reports;
}

}  // namespace heed::bench
