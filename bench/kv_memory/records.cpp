// SPDX-License-Identifier: MIT
// CSV and JSON.
#include <sstream>

#include <nlohmann/json.hpp>

#include "kv_memory/published_figures.hpp"
#include "kv_memory/report.hpp"

namespace heed::bench {
namespace {

using Json = nlohmann::ordered_json;

/// Names come from files, and may hold commas or quotes.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char letter : text)
    out += letter == '"' ? std::string("\"\"") : std::string(1, letter);
  return out + '"';
}

Json to_json(const ContextReport& report) {
  Json json{{"context", report.context},
            {"bytes", report.bytes},
            {"bytes_in_pages", report.bytes_in_pages},
            {"bytes_without_windows", report.bytes_without_windows},
            {"num_sequences", report.num_sequences}};
  if (const auto& measured = report.measured)
    json["measured"] = {{"allocated_bytes", measured->allocated_bytes},
                        {"held_bytes", measured->held_bytes},
                        {"bytes_per_token", measured->bytes_per_token},
                        {"median_layer_seconds", measured->median_layer_seconds},
                        {"best_layer_seconds", measured->best_layer_seconds},
                        {"bytes_per_second", measured->bytes_per_second},
                        {"largest_error", measured->largest_error}};
  return json;
}

Json to_json(const VariantReport& report) {
  Json json{{"label", report.variant.label()},
            {"kind", report.variant.kind},
            {"published", report.variant.origin == Origin::published},
            {"bytes_per_token_16_bit", report.bytes_per_token_16_bit},
            {"bytes_per_token", report.bytes_per_token}};
  if (report.expanded_per_token_16_bit)
    json["expanded_bytes_per_token_16_bit"] = *report.expanded_per_token_16_bit;
  for (const ContextReport& context : report.contexts) json["contexts"].push_back(to_json(context));
  for (const auto& [context, bytes] : report.curve) json["curve"].push_back({context, bytes});
  return json;
}

Json to_json(const ModelReport& report) {
  const ModelConfig& config = report.config;
  Json json{{"name", config.name},
            {"model_type", config.model_type},
            {"num_layers", config.num_layers},
            {"num_heads", num_heads(config.attention)}};
  if (config.max_context) json["max_context"] = *config.max_context;
  for (const LayerGroup& group : config.layers) {
    Json layers{{"num_layers", group.num_layers}};
    if (group.window) layers["window"] = *group.window;
    json["layers"].push_back(layers);
  }
  for (const VariantReport& variant : report.variants) json["variants"].push_back(to_json(variant));
  return json;
}

Json to_json(const Saving& saving) {
  return {{"percent", saving.percent()}, {"dense", saving.dense}, {"latent", saving.latent}};
}

}  // namespace

std::string csv_text(const std::vector<ModelReport>& reports, const Options& options) {
  std::ostringstream text;
  text << "model,variant,published,element,placement,context,bytes_per_token_16_bit,bytes_per_"
          "token,bytes,"
          "bytes_in_pages,memory_bytes,num_sequences,threads,allocated_bytes,held_bytes,"
          "allocated_bytes_per_token,median_layer_us,best_layer_us,gb_per_second,largest_error\n";
  for (const ModelReport& report : reports)
    for (const VariantReport& row : report.variants)
      for (const ContextReport& at : row.contexts) {
        text << quoted(report.config.name) << ',' << quoted(row.variant.label()) << ','
             << (row.variant.origin == Origin::published ? "yes" : "no") << ','
             << options.element->name << ',' << placement_name(options.placement) << ','
             << at.context << ',' << row.bytes_per_token_16_bit << ',' << row.bytes_per_token << ','
             << at.bytes << ',' << at.bytes_in_pages << ',' << options.memory << ','
             << at.num_sequences << ',' << options.num_threads << ',';
        if (const auto& measured = at.measured)
          text << measured->allocated_bytes << ',' << measured->held_bytes << ','
               << measured->bytes_per_token << ',' << 1e6 * measured->median_layer_seconds << ','
               << 1e6 * measured->best_layer_seconds << ',' << measured->bytes_per_second / 1e9
               << ',' << measured->largest_error << '\n';
        else
          text << ",,,,,,\n";
      }
  return text.str();
}

std::string json_text(const std::vector<ModelReport>& reports, const Options& options) {
  Json json{{"element", options.element->name},
            {"placement", placement_name(options.placement)},
            {"threads", options.num_threads},
            {"memory_bytes", options.memory},
            {"contexts", options.contexts},
            {"measured_contexts", options.measured_contexts},
            {"deepseek_v2_against_67b",
             {{"as_published_6_bit", to_json(saving_as_published)},
              {"equal_16_bit", to_json(saving_at_equal_bits)}}},
            {"models", Json::array()}};
  for (const ModelReport& report : reports) json["models"].push_back(to_json(report));
  return json.dump(2) + '\n';
}

}  // namespace heed::bench
