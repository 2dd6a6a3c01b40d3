// SPDX-License-Identifier: MIT
/// \file
/// Opens whatever libFuzzer comes up with as a GGUF file and uses all that is in it. Only
/// FormatError may come of it.
///
///     gguf_fuzz --seeds=DIRECTORY    writes files to start from
///     gguf_fuzz DIRECTORY...         as libFuzzer's -help=1 says

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format_error.hpp"
#include "gguf.hpp"
#include "gguf_writer.hpp"

namespace smollm2 {
namespace {

constexpr TensorType types[] = {TensorType::f32,  TensorType::f16,  TensorType::bf16,
                                TensorType::q4_0, TensorType::q4_1, TensorType::q5_0,
                                TensorType::q5_1, TensorType::q8_0, TensorType::q4_k,
                                TensorType::q5_k, TensorType::q6_k};

void widen(const StoredMatrix& matrix) {
  std::vector<float> row(static_cast<std::size_t>(matrix.cols));
  for (const Index i : {Index{0}, matrix.rows - 1}) widen_row(matrix.type, matrix.row(i), row);
}

/// Asks for a key as every kind, of which it has one at most.
void look_up(const GgufFile& file, const std::string& key) {
  const auto attempt = [](const auto& access) {
    try {
      access();
    } catch (const FormatError&) {
    }
  };
  attempt([&] { file.integer(key); });
  attempt([&] { file.number(key); });
  attempt([&] { file.text(key); });
  attempt([&] { file.integers(key); });
  attempt([&] { file.numbers(key); });
  attempt([&] { file.texts(key); });
}

void use(std::span<const std::byte> bytes) {
  try {
    const GgufFile file(bytes);
    for (const auto& [key, value] : file.metadata()) look_up(file, key);
    for (const auto& [name, matrix] : file.tensors()) widen(matrix);
    vocabulary_of(file);
  } catch (const FormatError&) {
  }
}

void write_seeds(const std::string& directory) {
  GgufWriter values;
  values.add("a", std::uint8_t{1});
  values.add("b", -1);
  values.add("c", 0.5f);
  values.add("d", true);
  values.add("e", std::vector<double>{1, 2});
  values.add("f", std::vector<bool>{true, false});
  values.write(directory + "/values");

  GgufWriter vocabulary;
  vocabulary.add("tokenizer.ggml.model", "gpt2");
  vocabulary.add("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b", "ab"});
  vocabulary.add("tokenizer.ggml.token_type", std::vector<std::int32_t>{1, 1, 3});
  vocabulary.add("tokenizer.ggml.merges", std::vector<std::string>{"a b"});
  vocabulary.add("tokenizer.ggml.bos_token_id", std::uint32_t{2});
  vocabulary.add("tokenizer.chat_template", "{{ messages }}");
  vocabulary.write(directory + "/vocabulary");

  GgufWriter tensors;
  tensors.add("general.alignment", std::uint32_t{8});
  for (const TensorType type : types) {
    const BlockLayout layout = block_layout(type);
    tensors.add_tensor(std::string(layout.name), type, 2, layout.elements,
                       std::vector<std::byte>(static_cast<std::size_t>(2 * layout.bytes)));
  }
  tensors.write(directory + "/tensors");
}

}  // namespace
}  // namespace smollm2

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  constexpr std::string_view option = "--seeds=";
  for (int i = 1; i < *argc; ++i)
    if (const std::string_view argument = (*argv)[i]; argument.starts_with(option)) {
      smollm2::write_seeds(std::string(argument.substr(option.size())));
      std::exit(0);
    }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  smollm2::use(std::as_bytes(std::span(data, size)));
  return 0;
}
