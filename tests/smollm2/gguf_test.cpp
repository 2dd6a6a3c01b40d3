// SPDX-License-Identifier: MIT
/// \file
/// What is in a GGUF file, as the file says it.

#include "gguf.hpp"

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "format_error.hpp"
#include "smollm2/gguf_bytes.hpp"

namespace smollm2 {
namespace {

using test::bytes_of;
using test::GgufBytes;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(Gguf, ReadsBothVersions) {
  for (const std::uint32_t version : {2u, 3u}) {
    const auto bytes = GgufBytes()
                           .header(2, 1, version)
                           .key("answer", 4)
                           .number(std::uint32_t{42})
                           .tensor("matrix", {4, 3}, 1, 32)
                           .tensor("row", {2}, 0, 0)
                           .data(32 + 24)
                           .bytes();
    const GgufFile file(bytes);
    EXPECT_EQ(file.integer("answer"), 42);
    ASSERT_EQ(file.tensors().size(), 2u);
    EXPECT_EQ(file.tensors().begin()->name, "matrix");  // in the file's order

    const StoredMatrix& matrix = file.tensor("matrix");
    EXPECT_EQ(matrix.type, TensorType::f16);
    EXPECT_EQ(matrix.rows, 3);
    EXPECT_EQ(matrix.cols, 4);
    EXPECT_EQ(*matrix.data, std::byte{32});
    EXPECT_EQ(*matrix.row(1), std::byte{32 + 8});
    EXPECT_EQ(matrix.bytes().size(), 24u);
    const StoredMatrix* row = file.find_tensor("row");
    ASSERT_TRUE(row);
    EXPECT_EQ(row->rows, 1);
    EXPECT_EQ(row->cols, 2);
    EXPECT_EQ(*row->data, std::byte{0});
  }
}

TEST(Gguf, AxesBeyondTheSecondAreRows) {
  const auto bytes = GgufBytes().header(1, 0).tensor("t", {5, 2, 3, 7}, 0, 0).data(840).bytes();
  const GgufFile file(bytes);
  EXPECT_EQ(file.tensor("t").rows, 42);
  EXPECT_EQ(file.tensor("t").cols, 5);
}

TEST(Gguf, HonoursTheAlignment) {
  const auto bytes = GgufBytes()
                         .header(2, 1)
                         .key("general.alignment", 4)
                         .number(std::uint32_t{64})
                         .tensor("a", {1}, 0, 0)
                         .tensor("b", {1}, 0, 64)
                         .data(68, 64)
                         .bytes();
  const GgufFile file(bytes);
  EXPECT_EQ(file.tensor("a").data - bytes.data(), 128);
  EXPECT_EQ(file.tensor("b").data - bytes.data(), 192);
}

TEST(Gguf, ValuesAreFoundByKind) {
  GgufWriter writer;
  writer.add("byte", std::int8_t{-5});
  writer.add("large", std::numeric_limits<std::uint64_t>::max());
  writer.add("flag", true);
  writer.add("float", 0.5f);
  writer.add("double", 0.1);
  writer.add("text", "hello");
  writer.add("texts", std::vector<std::string>{"a", ""});
  writer.add("bytes", std::vector<std::uint8_t>{1, 255});
  writer.add("flags", std::vector<bool>{true, false});
  writer.add("floats", std::vector<float>{0.25f});
  writer.add("doubles", std::vector<double>{0.1});
  const auto bytes = bytes_of(writer);
  const GgufFile file(bytes);

  EXPECT_EQ(file.integer("byte"), -5);
  EXPECT_EQ(file.find_integer("flag"), 1);
  EXPECT_EQ(file.number("float"), 0.5);
  EXPECT_EQ(file.find_number("double"), 0.1);
  EXPECT_EQ(file.text("text"), "hello");
  EXPECT_THAT(file.texts("texts"), ElementsAre("a", ""));
  EXPECT_THAT(file.integers("bytes"), ElementsAre(1, 255));
  EXPECT_THAT(file.integers("flags"), ElementsAre(1, 0));
  EXPECT_THAT(file.numbers("floats"), ElementsAre(0.25));
  EXPECT_THAT(file.numbers("doubles"), ElementsAre(0.1));

  EXPECT_FALSE(file.has("none"));
  EXPECT_FALSE(file.find_integer("none"));
  EXPECT_FALSE(file.find_number("none"));
  EXPECT_FALSE(file.find_text("none"));
  EXPECT_FALSE(file.find_texts("none"));
  EXPECT_FALSE(file.find_integers("none"));
  EXPECT_FALSE(file.find_numbers("none"));
  EXPECT_FALSE(file.find_tensor("none"));

  const auto refuses = [](const auto& access, const std::string& message) {
    EXPECT_THAT(access, ThrowsMessage<FormatError>(message));
  };
  refuses([&] { file.integer("none"); }, "buffer: key none: the key is missing");
  refuses([&] { file.texts("none"); }, "buffer: key none: the key is missing");
  refuses([&] { file.tensor("none"); }, "buffer: tensor none is missing");
  refuses([&] { file.find_integer("float"); },
          "buffer: key float: the value is float32, expected an integer");
  refuses([&] { file.find_integer("bytes"); },
          "buffer: key bytes: the value is array of uint8, expected an integer");
  refuses([&] { file.integer("large"); },
          "buffer: key large: the value 18446744073709551615 is too large");
  refuses([&] { file.number("byte"); },
          "buffer: key byte: the value is int8, expected float32 or float64");
  refuses([&] { file.text("texts"); },
          "buffer: key texts: the value is array of string, expected string");
  refuses([&] { file.texts("text"); },
          "buffer: key text: the value is string, expected array of string");
  refuses([&] { file.integers("text"); },
          "buffer: key text: the value is string, expected an array of integers");
  refuses([&] { file.integers("floats"); },
          "buffer: key floats: the value is array of float32, expected an array of integers");
  refuses(
      [&] { file.numbers("bytes"); },
      "buffer: key bytes: the value is array of uint8, expected array of float32 or of float64");
}

TEST(Gguf, FilesThatCannotBeOpened) {
  EXPECT_THAT([] { GgufFile{"/nowhere/x.gguf"}; },
              ThrowsMessage<FormatError>(
                  "/nowhere/x.gguf: cannot open the file: No such file or directory"));
  EXPECT_THAT([] { GgufFile{::testing::TempDir()}; },
              ThrowsMessage<FormatError>(HasSubstr("cannot map the file into memory")));
  const std::string empty = ::testing::TempDir() + "smollm2_empty.gguf";
  std::ofstream{empty};
  EXPECT_THAT([&] { GgufFile{empty}; },
              ThrowsMessage<FormatError>(HasSubstr("the file ends here")));
}

TEST(Gguf, TensorsStayWhenTheFileIsMoved) {
  const std::string path = ::testing::TempDir() + "smollm2_moved.gguf";
  GgufWriter writer;
  writer.add_tensor("matrix", TensorType::q8_0, 2, 32, std::vector<std::byte>(68));
  writer.write(path);
  GgufFile file(path);
  const std::byte* data = file.tensor("matrix").data;
  const GgufFile moved = std::move(file);
  EXPECT_EQ(moved.tensor("matrix").data, data);
  EXPECT_EQ(*data, std::byte{0});  // still mapped
  EXPECT_EQ(moved.name(), path);
}

}  // namespace
}  // namespace smollm2
