// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <stdexcept>
#include <utility>

#include "kv_memory/published_figures.hpp"
#include "kv_memory/report.hpp"

namespace heed::bench {
namespace {

/// 131072 as "131,072".
std::string grouped_digits(Index number) {
  const std::string digits = std::to_string(number);
  std::string text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

/// 8192 as "8k"; 1000 as "1000".
std::string tokens_text(Index tokens) {
  constexpr Index mega = 1 << 20, kilo = 1 << 10;
  if (tokens % mega == 0) return std::to_string(tokens / mega) + "m";
  if (tokens % kilo == 0) return std::to_string(tokens / kilo) + "k";
  return std::to_string(tokens);
}

std::string number(double value, int decimals) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", decimals, value);
  return text;
}

/// Three digits that count: "1.50", "15.0", "150".
std::string three_digits(double value) {
  return number(value, value < 9.995 ? 2 : value < 99.95 ? 1 : 0);
}

std::string bytes_text(Index bytes) {
  constexpr const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1023.5 && unit + 1 < std::size(units); ++unit) value /= 1024;
  return (unit == 0 ? std::to_string(bytes) : three_digits(value)) + " " + units[unit];
}

std::string seconds_text(double seconds) {
  return seconds < 1e-3 ? three_digits(1e6 * seconds) + " us" : three_digits(1e3 * seconds) + " ms";
}

/// Rows of cells in columns as wide as they need: the first aligned left, the others right.
class Table {
 public:
  void add(std::vector<std::string> cells) { lines_.push_back({std::move(cells), {}}); }
  /// A line that is no row.
  void add_text(std::string text) { lines_.push_back({{}, std::move(text)}); }

  std::string text() const {
    std::vector<std::size_t> widths;
    for (const Line& line : lines_) {
      widths.resize(std::max(widths.size(), line.cells.size()));
      for (std::size_t i = 0; i < line.cells.size(); ++i)
        widths[i] = std::max(widths[i], line.cells[i].size());
    }
    std::string out;
    for (const Line& line : lines_) {
      std::string row = line.text;
      for (std::size_t i = 0; i < line.cells.size(); ++i) {
        const std::string padding(widths[i] - line.cells[i].size(), ' ');
        row += i == 0 ? line.cells[i] + padding : "  " + padding + line.cells[i];
      }
      out += row.substr(0, row.find_last_not_of(' ') + 1) += '\n';
    }
    return out;
  }

 private:
  struct Line {
    std::vector<std::string> cells;
    std::string text;
  };
  std::vector<Line> lines_;
};

std::string layers_text(const ModelConfig& config) {
  std::string text = std::to_string(config.num_layers) + " layers";
  Index num_cached = 0;
  for (const LayerGroup& group : config.layers) {
    num_cached += group.num_layers;
    if (group.window) {
      const bool all = group.num_layers == config.num_layers;
      text += ", " + (all ? "each" : std::to_string(group.num_layers) + " of them") +
              " with a window of " + grouped_digits(*group.window);
    }
  }
  if (num_cached != config.num_layers)
    text += ", " + std::to_string(num_cached) + " of them with a cache";
  return text;
}

/// "32 heads of 128"; of MLA, whose keys have two parts, "128 heads of 128 + 64".
std::string heads_text(const AttentionShape& shape) {
  const std::string heads = std::to_string(num_heads(shape)) + " heads of ";
  if (const auto* latent = std::get_if<LatentShape>(&shape))
    return heads + std::to_string(latent->nope_dim) + " + " + std::to_string(latent->rope_dim);
  return heads + std::to_string(std::get<GroupedShape>(shape).head_dim);
}

std::string heading(const ModelConfig& config) {
  std::string text = config.name + ": " + layers_text(config) + "; " + heads_text(config.attention);
  if (config.max_context) text += "; made for " + grouped_digits(*config.max_context) + " tokens";
  return text;
}

const ContextReport& at(const VariantReport& row, Index context) {
  for (const ContextReport& one : row.contexts)
    if (one.context == context) return one;
  throw std::logic_error("a context that was not reported");
}

/// "* GQA, 8 groups" where that is how the model was published.
std::string marked_label(const Variant& variant) {
  std::string text = variant.origin == Origin::published ? "* " : "  ";
  return text += variant.label();
}

/// Memory: what is reckoned.
std::string memory_table(const std::vector<ModelReport>& reports, const Options& options) {
  Table table;
  std::vector<std::string> head{"", "a token", "a token"};
  std::vector<std::string> names{"", "16-bit", std::string(options.element->name)};
  for (const auto* what : {"total at", "fit at"})
    for (const Index context : options.contexts) {
      head.emplace_back(what);
      names.push_back(tokens_text(context));
    }
  table.add(head);
  table.add(names);
  for (const ModelReport& report : reports) {
    table.add_text("");
    table.add_text(heading(report.config));
    for (const VariantReport& row : report.variants) {
      std::vector<std::string> cells{marked_label(row.variant),
                                     grouped_digits(row.bytes_per_token_16_bit),
                                     grouped_digits(row.bytes_per_token)};
      for (const Index context : options.contexts)
        cells.push_back(bytes_text(at(row, context).bytes));
      for (const Index context : options.contexts)
        cells.push_back(grouped_digits(at(row, context).num_sequences));
      table.add(cells);
      if (row.variant.origin == Origin::published && row.expanded_per_token_16_bit)
        table.add({"    if expanded", grouped_digits(*row.expanded_per_token_16_bit)});
    }
  }
  std::string text = "By formula, all layers: bytes a token; the cache of one sequence in ";
  text.append(options.element->name).append(";\nand how many sequences fit in ");
  return text += bytes_text(options.memory) + ". A * marks what was published.\n\n" + table.text();
}

/// The columns that filled caches give, at one context.
std::vector<std::string> measured_cells(const VariantReport& row, const ContextReport& at_context) {
  const auto& measured = at_context.measured;
  std::vector<std::string> cells{marked_label(row.variant), grouped_digits(row.bytes_per_token)};
  if (!measured) {
    cells.insert(cells.end(), 7, "-");
    return cells;
  }
  const double exact = static_cast<double>(row.bytes_per_token);
  cells.push_back(grouped_digits(std::llround(measured->bytes_per_token)));
  cells.push_back(number(100 * (measured->bytes_per_token / exact - 1), 1) + "%");
  cells.push_back(seconds_text(measured->median_layer_seconds));
  cells.push_back(seconds_text(measured->best_layer_seconds));
  cells.push_back(number(measured->bytes_per_second / 1e9, 1) + " GB/s");
  cells.push_back(bytes_text(measured->held_bytes));
  cells.push_back(bytes_text(at_context.bytes_without_windows));
  return cells;
}

std::string_view placement_text(Placement placement) {
  switch (placement) {
    case Placement::pool: return "in a pool";
    case Placement::window: return "sliding where there is a window";
    default: return "in their own memory";
  }
}

/// What filled caches showed.
std::string measured_table(const std::vector<ModelReport>& reports, const Options& options) {
  std::string text = "\n";
  if (options.measured_contexts.empty()) return text;
  if (options.element->make_case == formula_alone)
    return text.append("Nothing was measured: no cache stores ").append(options.element->name) +
           " yet.\n\n";
  text.append("As filled ").append(options.element->name).append(" caches show, ");
  text.append(placement_text(options.placement)).append(", on ");
  text += std::to_string(options.num_threads) + (options.num_threads == 1 ? " thread" : " threads");
  text +=
      ": bytes a token, all layers, by formula and\nas allocated in whole pages; and the "
      "attention of a decode step in one layer, the mean of all layers. Last, what the\nsequence "
      "holds, and what it would by formula without windows.\n";
  for (const Index context : options.measured_contexts) {
    Table table;
    table.add_text("");
    table.add({std::string("at ") + grouped_digits(context) + " tokens", "formula", "allocated",
               "rounding", "median", "best", "reads", "sequence", "if all kept"});
    for (const ModelReport& report : reports) {
      table.add_text(report.config.name);
      for (const VariantReport& row : report.variants)
        table.add(measured_cells(row, at(row, context)));
    }
    text += table.text();
  }
  if (text.find("  -  ") != std::string::npos)
    text += "\n- was not measured: a layer's cache above " + bytes_text(options.most_cache) +
            " (--most-cache), latents with\n  scales per channel, left out by --benchmark_filter, "
            "or wrong, as the standard error "
            "then says.\n";
  return text + "\n";
}

std::string saving_line(const char* what, const Saving& saving) {
  std::string text = "  ";
  return text += number(saving.percent(), 1) + "% less, " + what + ": " +
                 grouped_digits(saving.latent) + " against " + grouped_digits(saving.dense) +
                 " bytes per token\n";
}

}  // namespace

std::string table_text(const std::vector<ModelReport>& reports, const Options& options) {
  return memory_table(reports, options) + measured_table(reports, options) +
         "DeepSeek-V2 (MLA) against DeepSeek-67B (GQA), two figures for one saving:\n" +
         saving_line("as published, DeepSeek-V2's elements at 6 bits, DeepSeek-67B's at 16",
                     saving_as_published) +
         saving_line("both at 16 bits", saving_at_equal_bits);
}

}  // namespace heed::bench
