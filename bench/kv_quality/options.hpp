// SPDX-License-Identifier: MIT
/// \file
/// The command line of kv_quality.
#pragma once

#include <charconv>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "heed/base/executor.hpp"
#include "kv_quality/weights.hpp"
#include "shared/quantities.hpp"

namespace heed::bench::quality {

/// Sizes are Llama-3-8B's, and of the latent DeepSeek-V2-Lite's, unless said.
struct QualityOptions {
  Sequence sequence{};
  Index num_heads = 32, num_kv_heads = 8, head_dim = 128;
  Index num_latent_heads = 16, latent_dim = 512, rope_dim = 64;
  Index entropy_bits = 5;
  std::optional<std::filesystem::path> weights{};
  Index layer = 0;
  Index num_threads = DefaultExecutor{}.concurrency();
  bool help = false;
  std::set<std::string> given{};  ///< names of the options

  GroupedShape grouped_shape() const {
    return {.model_dim = 0,
            .num_heads = num_heads,
            .num_kv_heads = num_kv_heads,
            .head_dim = head_dim,
            .head_dim_v = head_dim};
  }
  LatentShape latent_shape() const {
    return {.model_dim = 0,
            .num_heads = num_latent_heads,
            .latent_dim = latent_dim,
            .rope_dim = rope_dim,
            .nope_dim = 0,
            .head_dim_v = 0};
  }
};

namespace detail {

/// A whole number from `least` to `most`.
inline Index parse_count(const std::string& option, const std::string& text, Index least,
                         Index most) {
  Index number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error == std::errc{} && rest == end && least <= number && number <= most) return number;
  throw OptionError(option + "=" + text + ": expected a whole number from " +
                    std::to_string(least) + " to " + std::to_string(most));
}

/// Sets what one --name=value says.
inline void apply(const std::string& name, const std::string& value, QualityOptions& options) {
  constexpr Index most_heads = 1024, most_width = 4096;
  Sequence& sequence = options.sequence;
  if (name == "--tokens")
    sequence.seqlen = parse_tokens(name, value);
  else if (name == "--queries")
    sequence.num_queries = parse_count(name, value, 1, 4096);
  else if (name == "--theta")
    sequence.theta = static_cast<double>(parse_count(name, value, 2, 1'000'000'000));
  else if (name == "--seed")
    sequence.seed =
        static_cast<unsigned>(parse_count(name, value, 0, std::numeric_limits<unsigned>::max()));
  else if (name == "--entropy")
    options.entropy_bits = parse_count(name, value, 1, 31);
  else if (name == "--heads")
    options.num_heads = parse_count(name, value, 1, most_heads);
  else if (name == "--kv-heads")
    options.num_kv_heads = parse_count(name, value, 1, most_heads);
  else if (name == "--head-dim")
    options.head_dim = parse_count(name, value, 2, most_width);
  else if (name == "--latent-heads")
    options.num_latent_heads = parse_count(name, value, 1, most_heads);
  else if (name == "--latent-dim")
    options.latent_dim = parse_count(name, value, 1, most_width);
  else if (name == "--rope-dim")
    options.rope_dim = parse_count(name, value, 2, most_width);
  else if (name == "--threads")
    options.num_threads = parse_threads(name, value);
  else if (name == "--layer")
    options.layer = parse_count(name, value, 0, 9999);
  else if (name == "--weights")
    options.weights = value;
  else
    throw OptionError(name + ": no such option; see --help");
  if (value.empty()) throw OptionError(name + ": expected " + name + "=VALUE; see --help");
}

/// What one option alone does not show.
inline void check(const QualityOptions& options) {
  const auto require = [](bool holds, const std::string& sentence) {
    if (!holds) throw OptionError(sentence);
  };
  require(options.num_heads % options.num_kv_heads == 0,
          "--heads must be a multiple of --kv-heads");
  require(options.head_dim % 2 == 0 && options.rope_dim % 2 == 0,
          "--head-dim and --rope-dim must be even: RoPE rotates pairs");
  const auto is_given = [&](const char* name) { return options.given.contains(name); };
  for (const char* name :
       {"--head-dim", "--latent-heads", "--latent-dim", "--rope-dim", "--entropy"})
    require(!options.weights || !is_given(name), name + std::string(" does not go with --weights"));
  require(options.weights || !is_given("--layer"), "--layer is one of a model: give --weights");
  require(options.sequence.num_queries <= options.sequence.seqlen,
          "--queries must be at most --tokens: they are the last of the tokens");
}

}  // namespace detail

/// What --help prints.
inline std::string help_text() {
  return R"(kv_quality: what narrower elements in the cache cost in accuracy, and save in time.

For each element type: bytes per token, the error of attention's output, scores and probabilities
against float64 attention on the numbers before they were stored, and the time of a decode step. One
table of heads, one of latents.

  --tokens=N          in the cache: 4k unless said
  --queries=N         of the last tokens, by which errors are measured: 16 unless said
  --heads=N           query heads: 32 unless said
  --kv-heads=N        key/value heads: 8 unless said
  --head-dim=N        width of a head: 128 unless said
  --latent-heads=N    query heads of the latent table: 16 unless said
  --latent-dim=N      width of a latent: 512 unless said
  --rope-dim=N        width of the rotated key beside it: 64 unless said
  --entropy=BITS      of a query's probabilities: 5 unless said
  --weights=FILE      keys, values and queries come from a model's weights in a safetensors file,
                      fed with random hidden states, in place of drawn ones; then --heads and
                      --kv-heads are the model's, widths and entropy come from the weights, and
                      there is no table of latents
  --layer=N           of the model: 0 unless said
  --theta=N           base of RoPE: 10000 unless said
  --seed=N            of the random numbers: 1 unless said
  --threads=N         all of OpenMP's unless said
  --help

The exit code is 0; 1 if a result is not what it must be; or 2 if an option or the weights cannot be
understood.
)";
}

/// \throws OptionError
inline QualityOptions parse_options(const std::vector<std::string>& arguments) {
  QualityOptions options;
  for (const std::string& argument : arguments) {
    if (argument == "--help" || argument == "-h") {
      options.help = true;
      continue;
    }
    const auto equals = argument.find('=');
    const std::string value = equals == std::string::npos ? "" : argument.substr(equals + 1);
    const std::string name = argument.substr(0, equals);
    detail::apply(name, value, options);
    options.given.insert(name);
  }
  detail::check(options);
  return options;
}

}  // namespace heed::bench::quality
