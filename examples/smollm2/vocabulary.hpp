// SPDX-License-Identifier: MIT
/// \file
/// What a model file says of its tokens.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace smollm2 {

using Token = std::int32_t;  ///< an index into the vocabulary

/// What a token is for, numbered as in GGUF's `tokenizer.ggml.token_type`.
enum class TokenKind : std::int32_t {
  normal = 1,
  unknown = 2,
  control = 3,  ///< begins or ends something, such as <|im_end|>
  user_defined = 4,
  unused = 5,
  byte = 6,
};

/// GGUF's `tokenizer.ggml.*`, as they stand in the file.
struct Vocabulary {
  std::string model;                 ///< "gpt2" is byte-level byte-pair encoding
  std::string pre_tokenizer;         ///< "smollm", "gpt-2", "llama-bpe", ...
  std::vector<std::string> tokens;   ///< byte-level text: each byte as a printable character
  std::vector<TokenKind> kinds;      ///< of each token
  std::vector<std::string> merges;   ///< "left right", the first is made first
  std::optional<Token> begin, end;   ///< of a text: `bos_token_id`, `eos_token_id`
  std::optional<Token> end_of_turn;  ///< `eot_token_id`
  /// Whether a text begins with `begin`, as `add_bos_token` says.
  enum class Begin { left_out, added } add_begin = Begin::left_out;
  std::string chat_template;  ///< Jinja; empty if the file has none
};

}  // namespace smollm2
