// SPDX-License-Identifier: MIT
#include "options.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <string_view>

#include <getopt.h>

namespace smollm2 {
namespace {

constexpr Index most_threads = 1024;

/// All of the text as a number.
template <class T>
T number(std::string_view option, std::string_view text, T least,
         T most = std::numeric_limits<T>::max()) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || !(value >= least) ||
      !(value <= most))
    throw OptionError(
        "--" + std::string(option) + "=" + std::string(text) + ": expected a number, " +
        std::to_string(least) +
        (most == std::numeric_limits<T>::max() ? " or more" : " to " + std::to_string(most)));
  return value;
}

std::vector<std::string> split(std::string_view list) {
  std::vector<std::string> parts;
  while (true) {
    const std::size_t comma = list.find(',');
    parts.emplace_back(list.substr(0, comma));
    if (comma == std::string_view::npos) return parts;
    list.remove_prefix(comma + 1);
  }
}

/// Names of what caches store.
std::vector<std::string> elements_of(std::string_view list) {
  const auto known = cache_elements();
  std::vector<std::string> elements = split(list);
  for (const std::string& element : elements)
    if (std::ranges::find(known, element) == known.end())
      throw OptionError("--cache=" + element + ": no cache stores that; --help lists what does");
  return elements;
}

/// The value that a word stands for.
template <class T, std::size_t n>
T choice(std::string_view option, std::string_view word,
         const std::array<std::pair<std::string_view, T>, n>& choices) {
  std::string known;
  for (const auto& [name, value] : choices) {
    if (name == word) return value;
    known += (known.empty() ? "" : " or ") + std::string(name);
  }
  throw OptionError("--" + std::string(option) + "=" + std::string(word) + ": expected " + known);
}

void set(Options& options, std::string_view name, std::string_view value) {
  const auto window = [&]() -> heed::CacheWindow& {
    if (!options.window) options.window = {.num_sink_tokens = 4, .window_left = 1020};
    return *options.window;
  };
  if (name == "model") options.model = value;
  if (name == "prompt") options.prompt = value, options.command = Options::Command::generate;
  if (name == "system") options.system = value;
  if (name == "raw") options.prompt_form = Options::Prompt::raw;
  if (name == "tokens") options.num_tokens = number<Index>(name, value, 1);
  if (name == "context") options.context = number<Index>(name, value, 1);
  if (name == "threads") options.threads = number<Index>(name, value, 1, most_threads);
  if (name == "cache")
    options.elements = elements_of(value), options.element = options.elements.front();
  if (name == "placement")
    options.placement =
        choice<Placement, 2>(name, value, {{{"own", Placement::own}, {"pool", Placement::pool}}});
  if (name == "window") window().window_left = number<Index>(name, value, 0);
  if (name == "sinks") window().num_sink_tokens = number<Index>(name, value, 0);
  if (name == "weights")
    options.weights = choice<WeightsKept, 2>(
        name, value, {{{"stored", WeightsKept::as_stored}, {"float", WeightsKept::as_float}}});
  if (name == "temperature") options.sampler.temperature = number<double>(name, value, 0);
  if (name == "top-p") options.sampler.top_p = number<double>(name, value, 0);
  if (name == "seed") options.sampler.seed = number<std::uint32_t>(name, value, 0);
  if (name == "contexts") {
    options.contexts.clear();
    for (const std::string& one : split(value))
      options.contexts.push_back(number<Index>(name, one, 1));
  }
  if (name == "help") options.command = Options::Command::help;
}

}  // namespace

Options parse_options(int argc, char** argv) {
  constexpr auto with_value = [](const char* name) {
    return option{name, required_argument, nullptr, 0};
  };
  const std::array known = {with_value("model"),
                            with_value("prompt"),
                            with_value("system"),
                            with_value("tokens"),
                            with_value("context"),
                            with_value("threads"),
                            with_value("cache"),
                            with_value("placement"),
                            with_value("window"),
                            with_value("sinks"),
                            with_value("weights"),
                            with_value("temperature"),
                            with_value("top-p"),
                            with_value("seed"),
                            with_value("contexts"),
                            option{"raw", no_argument, nullptr, 0},
                            option{"help", no_argument, nullptr, 0},
                            option{}};
  Options options;
  opterr = 0;
  optind = 1;
  for (int index = 0, found; (found = getopt_long(argc, argv, ":", known.data(), &index)) != -1;) {
    if (found != 0)
      throw OptionError(std::string(argv[optind - 1]) +
                        (found == ':' ? " needs a value" : " is no option; --help lists them"));
    set(options, known[static_cast<std::size_t>(index)].name, optarg != nullptr ? optarg : "");
  }
  if (optind == argc || options.command == Options::Command::help) return options;
  const std::string_view command = argv[optind];
  if (command == "perplexity" && optind + 2 == argc) {
    options.command = Options::Command::perplexity;
    options.text = argv[optind + 1];
  } else if (command == "speed" && optind + 1 == argc) {
    options.command = Options::Command::speed;
  } else {
    throw OptionError("expected `perplexity FILE`, `speed` or options alone, found `" +
                      std::string(command) + "`; --help says more");
  }
  return options;
}

std::string help_text() {
  std::string elements;
  for (const std::string_view name : cache_elements()) (elements += ' ') += name;
  return R"(smollm2: runs a Llama-family model from a GGUF file, with heed's attention.

  smollm2 --prompt=TEXT      answers, and tells how long it took and what the caches hold
  smollm2                    a chat: a line is a message, an empty one or the input's end the end
  smollm2 perplexity FILE    how well the model predicts a text, with each cache; a table
  smollm2 speed              tokens per second at some contexts; a table

  --model=FILE         build/models/SmolLM2-135M-Instruct.Q4_1.gguf unless said (get-model)
  --system=TEXT        the system message, in place of the chat template's own
  --raw                the prompt goes on as it stands, without the chat template
  --tokens=N           generates at most so many (256)
  --temperature=T      0, the default, takes the likeliest token
  --top-p=P            draws from the likeliest tokens that have this probability together (1)
  --seed=N             of the draws (1)
  --context=N          tokens that the caches have room for; the model's own length unless said
  --threads=N          one per core unless said
  --cache=ELEMENT      what caches store (f16); of perplexity, a list with commas (all):
                      )" +
         elements + R"(
  --placement=WHERE    own or pool: memory of each cache's own, or a pool's pages
  --window=N           keeps the last N tokens (1020), and
  --sinks=N            the first N (4); all are kept if neither is given
  --weights=HOW        stored or float: widened as they are used, or once
  --contexts=LIST      of speed: 1,128,2048,8000 unless said

The exit code is 0; 1 if something failed; or 2 if an option cannot be understood.
)";
}

}  // namespace smollm2
