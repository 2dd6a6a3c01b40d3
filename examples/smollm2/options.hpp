// SPDX-License-Identifier: MIT
/// \file
/// What the command line says.
#pragma once

#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "context.hpp"
#include "sampler.hpp"

namespace smollm2 {

/// A command line that cannot be understood.
struct OptionError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Options {
  enum class Command { generate, chat, perplexity, speed, help } command = Command::chat;
  enum class Prompt { chat, raw } prompt_form = Prompt::chat;  ///< whether the template is used

  std::filesystem::path model = "build/models/SmolLM2-135M-Instruct.Q4_1.gguf";
  std::string prompt, system;
  std::filesystem::path text;  ///< of `perplexity`
  Index num_tokens = 256;      ///< to generate at most
  Index context = 0;           ///< tokens; 0 is the model's
  Index threads = 0;           ///< 0 is one per core
  std::string element = "f16";
  std::vector<std::string> elements;  ///< of `perplexity`; empty is all
  Placement placement = Placement::own;
  std::optional<heed::CacheWindow> window;
  WeightsKept weights = WeightsKept::as_stored;
  SamplerOptions sampler;
  std::vector<Index> contexts = {1, 128, 2048, 8000};  ///< of `speed`
};

/// \throws OptionError that says what to type
Options parse_options(int argc, char** argv);

/// What --help prints.
std::string help_text();

}  // namespace smollm2
