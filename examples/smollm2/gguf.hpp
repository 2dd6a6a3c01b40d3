// SPDX-License-Identifier: MIT
/// \file
/// Reads GGUF files, in which models come: metadata under keys, then tensors under names.
/// Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "blocks.hpp"
#include "metadata.hpp"
#include "named_list.hpp"
#include "vocabulary.hpp"

namespace smollm2 {

/// A GGUF file of version 2 or 3, little-endian. Whatever the bytes are, the constructors either
/// take them or throw: all sizes in the file are checked against the file before they are used.
///
/// The file is mapped into memory: tensors are read from the disk as they are used, and must not be
/// changed meanwhile. Can be moved; tensors stay where they are.
class GgufFile {
 public:
  /// Opens a file. \throws FormatError that says what is wrong with it.
  explicit GgufFile(const std::string& path);
  /// Reads bytes that must outlive this. \throws FormatError that says what is wrong with them.
  explicit GgufFile(std::span<const std::byte> bytes);

  /// All metadata, in the file's order.
  const Metadata& metadata() const { return metadata_; }
  bool has(std::string_view key) const { return metadata_.find(key) != nullptr; }

  /// The value of a key. Any integer type is an integer, and so is bool: 0 or 1.
  /// \throws FormatError if the key is missing, of another kind, or does not fit std::int64_t
  std::int64_t integer(std::string_view key) const;
  /// float32 and float64.
  double number(std::string_view key) const;
  const std::string& text(std::string_view key) const;
  std::vector<std::int64_t> integers(std::string_view key) const;
  std::vector<double> numbers(std::string_view key) const;
  const std::vector<std::string>& texts(std::string_view key) const;

  /// The same, or nothing if the key is missing.
  /// \throws FormatError if the key is of another kind, or does not fit std::int64_t
  std::optional<std::int64_t> find_integer(std::string_view key) const;
  std::optional<double> find_number(std::string_view key) const;
  const std::string* find_text(std::string_view key) const;
  std::optional<std::vector<std::int64_t>> find_integers(std::string_view key) const;
  std::optional<std::vector<double>> find_numbers(std::string_view key) const;
  const std::vector<std::string>* find_texts(std::string_view key) const;

  /// All tensors, in the file's order. One of one axis is a row; of three or four, the last axis
  /// (GGUF's first) is that of the columns, and the others together that of the rows. Data begin at
  /// multiples of 8 bytes from the begin of the file.
  const NamedList<StoredMatrix>& tensors() const { return tensors_; }
  /// \throws FormatError if there is no such tensor
  const StoredMatrix& tensor(std::string_view name) const;
  /// The tensor, or null.
  const StoredMatrix* find_tensor(std::string_view name) const { return tensors_.find(name); }

  /// The path, or "buffer": for messages.
  const std::string& name() const { return name_; }

 private:
  struct Unmap {
    std::size_t size;
    void operator()(const std::byte* begin) const;
  };
  using Mapping = std::unique_ptr<const std::byte, Unmap>;

  static Mapping map_file(const std::string& path);
  void parse(std::span<const std::byte> bytes);

  template <class Found>
  Found require(std::string_view key, Found found) const;
  template <class Held>
  const Held* find_held(std::string_view key, const char* expected) const;
  [[noreturn]] void fail(std::string_view key, const std::string& what) const;

  std::string name_;
  Mapping mapping_;  // none if the bytes are the caller's
  Metadata metadata_;
  NamedList<StoredMatrix> tensors_;
};

/// What a file says of its tokens: `tokenizer.ggml.*` and `tokenizer.chat_template`. Tokens are
/// normal ones where the file does not say otherwise.
/// \throws FormatError if the model or the tokens are missing, the kinds are not as many as the
///         tokens or unknown, or a token's number is not one of a token
Vocabulary vocabulary_of(const GgufFile& file);

}  // namespace smollm2
