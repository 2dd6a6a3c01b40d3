// SPDX-License-Identifier: MIT
/// \file
/// What is written is what is read, and what cannot be written is refused.

#include "gguf_writer.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <variant>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "format_error.hpp"
#include "gguf.hpp"
#include "smollm2/gguf_bytes.hpp"

namespace smollm2 {
namespace {

using test::bytes_of;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

std::vector<std::byte> counted(std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i + 1);
  return bytes;
}

template <class T>
void add_extremes(GgufWriter& writer, const std::string& name, T low, T high) {
  writer.add(name + ".low", low);
  writer.add(name + ".high", high);
  writer.add(name + ".both", std::vector<T>{low, high});
  writer.add(name + ".none", std::vector<T>{});
}
template <class T>
void add_limits(GgufWriter& writer, const std::string& name) {
  add_extremes(writer, name, std::numeric_limits<T>::lowest(), std::numeric_limits<T>::max());
}

TEST(GgufWriter, EveryTypeIsReadAsItWasWritten) {
  GgufWriter writer;
  add_limits<std::uint8_t>(writer, "uint8");
  add_limits<std::int8_t>(writer, "int8");
  add_limits<std::uint16_t>(writer, "uint16");
  add_limits<std::int16_t>(writer, "int16");
  add_limits<std::uint32_t>(writer, "uint32");
  add_limits<std::int32_t>(writer, "int32");
  add_limits<float>(writer, "float32");
  add_limits<bool>(writer, "bool");
  add_extremes<std::string>(writer, "string", "", std::string("a\0b", 3));
  add_limits<std::uint64_t>(writer, "uint64");
  add_limits<std::int64_t>(writer, "int64");
  add_limits<double>(writer, "float64");
  const auto bytes = bytes_of(writer);
  const GgufFile file(bytes);
  EXPECT_EQ(file.metadata().size(), 4u * 12);

  EXPECT_EQ(*file.metadata().find("int8.low"), MetadataValue(std::int8_t{-128}));
  EXPECT_EQ(*file.metadata().find("uint64.high"), MetadataValue(~std::uint64_t{0}));
  EXPECT_EQ(*file.metadata().find("string.high"), MetadataValue(std::string("a\0b", 3)));
  EXPECT_EQ(*file.metadata().find("bool.both"), MetadataValue(std::vector<bool>{false, true}));
  for (const auto& [key, value] : file.metadata()) {
    const std::string type = key.substr(0, key.find('.'));
    const bool is_array = key.ends_with("both") || key.ends_with("none");
    EXPECT_EQ(type_text(value), is_array ? "array of " + type : type) << key;
  }

  GgufWriter again;
  for (const auto& [key, value] : file.metadata()) again.add(key, value);
  EXPECT_EQ(bytes_of(again), bytes);
}

TEST(GgufWriter, TensorsAreReadAsTheyWereWritten) {
  for (const std::uint32_t alignment : {8u, 32u, 256u}) {
    GgufWriter writer;
    writer.add("general.alignment", alignment);
    const std::vector<std::byte> kept = counted(24);
    writer.add_tensor("first", TensorType::q4_1, 3, 64, counted(120));
    writer.add_tensor("row", TensorType::f32, 1, 1, counted(4));
    writer.add_tensor("kept", TensorType::f16, 3, 4, std::span(kept));
    const auto bytes = bytes_of(writer);
    const GgufFile file(bytes);

    std::vector<std::string> names;
    for (const auto& [name, matrix] : file.tensors()) {
      names.push_back(name);
      EXPECT_EQ((matrix.data - bytes.data()) % alignment, 0) << name;
      EXPECT_THAT(matrix.bytes(), ElementsAreArray(counted(matrix.bytes().size()))) << name;
    }
    EXPECT_THAT(names, ElementsAreArray({"first", "row", "kept"}));
    EXPECT_EQ(file.tensor("first").type, TensorType::q4_1);
    EXPECT_EQ(file.tensor("first").rows, 3);
    EXPECT_EQ(file.tensor("first").cols, 64);
    EXPECT_EQ(file.tensor("row").rows, 1);
    EXPECT_EQ(bytes.size() % alignment, 0u);  // the last tensor is filled up, too
  }
}

TEST(GgufWriter, RefusesWhatCannotBeRead) {
  const auto refuses = [](const auto& act, const std::string& message) {
    EXPECT_THAT(act, ThrowsMessage<FormatError>(message));
  };
  GgufWriter writer;
  writer.add("k", 1.0f);
  writer.add_tensor("t", TensorType::f32, 1, 1, counted(4));
  refuses([&] { writer.add("k", 2.0f); }, "key k is there already");
  refuses([&] { writer.add("", 2.0f); }, "a key is empty");
  const auto add = [&](std::string name, TensorType type, Index rows, Index cols,
                       std::size_t size) {
    return [&writer, name, type, rows, cols, size] {
      writer.add_tensor(name, type, rows, cols, counted(size));
    };
  };
  refuses(add("", TensorType::f32, 1, 1, 4), "a tensor's name is empty");
  refuses(add("t", TensorType::f32, 1, 1, 4), "tensor t: the name is there already");
  refuses(add("u", TensorType::f32, 0, 1, 0), "tensor u: the sizes [0, 1] are not positive");
  refuses(add("u", TensorType::f32, 1, -1, 0), "tensor u: the sizes [1, -1] are not positive");
  refuses(add("u", TensorType::f32, 2, 2, 15), "tensor u: [2, 2] does not take 15 bytes as F32");
  refuses(add("u", TensorType::f32, std::numeric_limits<Index>::max(), 1, 4),
          "tensor u: [9223372036854775807, 1] does not take 4 bytes as F32");
  refuses(add("u", TensorType::q8_0, 1, 33, 34),
          "tensor u: a row of 33 elements is not made of blocks of 32 as Q8_0 has them");

  GgufWriter unaligned;
  unaligned.add("general.alignment", std::uint32_t{12});
  std::ostringstream stream;
  refuses([&] { unaligned.write(stream); },
          "general.alignment is not a uint32 that is a power of two from 8 on");

  // What was refused is not there.
  const auto bytes = bytes_of(writer);
  EXPECT_EQ(GgufFile(bytes).metadata().size(), 1u);
  EXPECT_EQ(GgufFile(bytes).tensors().size(), 1u);
}

TEST(GgufWriter, ReplacesNoDevice) { EXPECT_THROW(GgufWriter().write("/dev/null"), FormatError); }

TEST(GgufWriter, ReplacesAFileAtOnce) {
  const std::filesystem::path folder = ::testing::TempDir() + "smollm2_writer";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directory(folder);
  const std::string path = folder / "model.gguf";
  std::ofstream(path) << "what was there before";
  GgufWriter writer;
  writer.add("k", "v");
  writer.write(path);
  EXPECT_EQ(GgufFile(path).text("k"), "v");

  GgufWriter bad;
  bad.add("general.alignment", "none");
  EXPECT_THROW(bad.write(path), FormatError);
  EXPECT_EQ(GgufFile(path).text("k"), "v");  // still there
  const std::filesystem::directory_iterator files(folder);
  EXPECT_EQ(std::distance(begin(files), end(files)), 1);  // and nothing else

  EXPECT_THAT([&] { writer.write("/nowhere/model.gguf"); },
              ThrowsMessage<FormatError>(HasSubstr("No such file or directory")));
  EXPECT_THAT([&] { writer.write(folder); }, ThrowsMessage<FormatError>(HasSubstr("replace")));
  EXPECT_FALSE(std::filesystem::exists(folder.string() + ".unfinished"));
}

}  // namespace
}  // namespace smollm2
