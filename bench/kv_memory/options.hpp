// SPDX-License-Identifier: MIT
/// \file
/// The command line of kv_memory.
#pragma once

#include <algorithm>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "heed/base/executor.hpp"
#include "kv_memory/element_types.hpp"
#include "shared/quantities.hpp"

namespace heed::bench {

enum class Format { table, csv, json };

struct Options {
  std::vector<std::filesystem::path> configs{};  ///< in the order given
  std::vector<Index> contexts{1 << 10, 8 << 10, 32 << 10, 128 << 10};
  std::vector<Index> measured_contexts{8 << 10, 32 << 10};
  Index memory = Index{64} << 30;     ///< in which sequences are to fit, bytes
  Index most_cache = Index{4} << 30;  ///< a layer's caches above are not filled, bytes
  const ElementType* element = nullptr;
  Placement placement = Placement::own;
  Index num_threads = DefaultExecutor{}.concurrency();
  Format format = Format::table;
  std::optional<std::filesystem::path> out_json{};
  bool help = false;
};

/// What is there to choose from.
struct Choices {
  std::filesystem::path models;  ///< the folder in which --model=NAME looks for NAME.json
  std::span<const ElementType> elements;
};

namespace detail {

inline std::vector<std::filesystem::path> all_models(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  std::error_code error;  // a folder that is not there has none
  for (const auto& entry : std::filesystem::directory_iterator(folder, error))
    if (entry.path().extension() == ".json") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

inline std::filesystem::path find_model(const std::string& name,
                                        const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / (name + ".json");
  if (std::filesystem::is_regular_file(file)) return file;
  std::string text = "--model=" + name + ": no such model in " + folder.string() + ", which has";
  for (const auto& known : all_models(folder)) text.append(" ").append(known.stem().string());
  throw OptionError(text);
}

/// "f32, f64"
inline std::string element_names(std::span<const ElementType> elements) {
  std::string names;
  for (const ElementType& element : elements)
    names.append(names.empty() ? "" : ", ").append(element.name);
  return names;
}

inline const ElementType* find_element(const std::string& name,
                                       std::span<const ElementType> elements) {
  for (const ElementType& element : elements)
    if (element.name == name) return &element;
  throw OptionError("--element=" + name + ": expected one of " + element_names(elements));
}

inline constexpr std::pair<std::string_view, Placement> placements[] = {
    {"own", Placement::own}, {"pool", Placement::pool}, {"window", Placement::window}};

inline Placement find_placement(const std::string& text) {
  for (const auto& [name, placement] : placements)
    if (name == text) return placement;
  throw OptionError("--placement=" + text + ": expected own, pool or window");
}

inline Format find_format(const std::string& name) {
  if (name == "table") return Format::table;
  if (name == "csv") return Format::csv;
  if (name == "json") return Format::json;
  throw OptionError("--format=" + name + ": expected table, csv or json");
}

/// Sets what one --name=value says.
inline void apply(const std::string& name, const std::string& value, const Choices& choices,
                  Options& options) {
  if (name == "--model")
    options.configs.push_back(find_model(value, choices.models));
  else if (name == "--config")
    options.configs.emplace_back(value);
  else if (name == "--contexts")
    options.contexts = parse_list(name, value, parse_tokens);
  else if (name == "--measure")
    options.measured_contexts =
        value == "none" ? std::vector<Index>{} : parse_list(name, value, parse_tokens);
  else if (name == "--memory")
    options.memory = parse_bytes(name, value);
  else if (name == "--most-cache")
    options.most_cache = parse_bytes(name, value);
  else if (name == "--element")
    options.element = find_element(value, choices.elements);
  else if (name == "--placement")
    options.placement = find_placement(value);
  else if (name == "--threads")
    options.num_threads = parse_threads(name, value);
  else if (name == "--format")
    options.format = find_format(value);
  else if (name == "--out-json")
    options.out_json = value;
  else
    throw OptionError(name + ": no such option; see --help");
  if (value.empty()) throw OptionError(name + ": expected " + name + "=VALUE; see --help");
}

}  // namespace detail

/// As it is written on the command line.
inline std::string_view placement_name(Placement placement) {
  for (const auto& [name, one] : detail::placements)
    if (one == placement) return name;
  return {};
}

/// What --help prints.
inline std::string help_text(std::span<const ElementType> elements) {
  return R"(kv_memory: the KV cache of real models, as published and under other attention variants.

For each model and variant: bytes a token by formula and as allocated by a filled cache, totals at
several contexts, how many sequences fit in a memory, and the time of a decode step over the cache.

  --model=NAME        a model of bench/models, such as Llama-3-8B; may be repeated
  --config=PATH       a config.json as hubs publish it, or the folder that holds it; may be repeated
                      (without --model and --config: all of bench/models)
  --contexts=LIST     tokens for which totals are given: 1k,8k,32k,128k unless said
  --measure=LIST      contexts at which caches are filled and decode is timed: 8k,32k unless said,
                      or none
  --memory=BYTES      in which sequences are to fit, such as 80GB: 64GiB unless said
  --most-cache=BYTES  a layer's caches above this are not filled: 4GiB unless said
  --element=TYPE      what a cache stores, the first of )" +
         detail::element_names(elements) + R"(
                      unless said; a type that the library does not store yet is reckoned by
                      formula alone
  --placement=WHERE   own|pool|window, own unless said. own: a cache with memory for all tokens that
                      queries still see. pool: all tokens pass through a cache in a page pool, and
                      a layer with a window gives pages back. window: the same in its own memory
  --threads=N         of a decode step: all of OpenMP's unless said
  --format=FORMAT     table|csv|json, on the standard output
  --out-json=FILE     writes JSON to a file too; bench/plot.py draws it
  --benchmark_...     options of Google Benchmark, such as --benchmark_out=FILE for its own report
  --help

The exit code is 0; 1 if a result or an allocation is not what it must be; or 2 if an option or a
config cannot be understood.
)";
}

/// \throws OptionError
inline Options parse_options(const std::vector<std::string>& arguments, const Choices& choices) {
  Options options;
  options.element = &choices.elements.front();
  for (const std::string& argument : arguments) {
    if (argument == "--help" || argument == "-h") {
      options.help = true;
      continue;
    }
    const auto equals = argument.find('=');
    const std::string value = equals == std::string::npos ? "" : argument.substr(equals + 1);
    detail::apply(argument.substr(0, equals), value, choices, options);
  }
  if (options.configs.empty()) options.configs = detail::all_models(choices.models);
  if (options.configs.empty() && !options.help)
    throw OptionError("no models in " + choices.models.string() + "; give one with --config=PATH");
  return options;
}

}  // namespace heed::bench
