// SPDX-License-Identifier: MIT
/// \file
/// Whatever may be wrong with a GGUF file: it is refused, and the message says what and where.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "format_error.hpp"
#include "gguf.hpp"
#include "smollm2/gguf_bytes.hpp"

namespace smollm2 {
namespace {

using test::bytes_of;
using test::GgufBytes;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

/// Opens bytes as a file and uses all that is in it.
void walk(const std::vector<std::byte>& bytes) {
  const GgufFile file(bytes);
  for (const auto& [key, value] : file.metadata()) EXPECT_TRUE(file.has(key));
  for (const auto& [name, matrix] : file.tensors()) {
    std::vector<float> row(static_cast<std::size_t>(matrix.cols));
    for (Index i = 0; i < matrix.rows; ++i) widen_row(matrix.type, matrix.row(i), row);
  }
  try {
    vocabulary_of(file);
  } catch (const FormatError&) {
  }
}

void expect_refused(const std::vector<std::byte>& bytes, const std::string& message) {
  EXPECT_THAT([&] { walk(bytes); },
              ThrowsMessage<FormatError>(AllOf(HasSubstr("buffer: "), HasSubstr(message))));
}
void expect_refused(const GgufBytes& file, const std::string& message) {
  expect_refused(file.bytes(), message);
}

TEST(GgufMalformed, RefusesABadHeader) {
  expect_refused(GgufBytes(), "header: the file ends here: 4 bytes should follow, 0 do");
  expect_refused(GgufBytes().plain("GGML").number(3), "does not begin with GGUF");
  for (const std::uint32_t version : {0u, 1u, 4u, 0x03000000u})
    expect_refused(GgufBytes().header(0, 0, version),
                   "version " + std::to_string(version) + " is not read");
  expect_refused(GgufBytes().header(1, 0), "header: 1 tensors do not fit");
  expect_refused(GgufBytes().header(0, 1), "header: 1 keys do not fit");
  const std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
  expect_refused(GgufBytes().header(most, 0), "tensors do not fit into the 8 bytes");
  expect_refused(GgufBytes().header(0, most), "keys do not fit into the 0 bytes");
}

TEST(GgufMalformed, RefusesBadMetadata) {
  const auto one = [] { return GgufBytes().header(0, 1); };
  const std::string filler(16, '.');
  expect_refused(one().key("", 0).number(1), "key 0: the key is empty");
  expect_refused(one().number(~std::uint64_t{0}).plain(filler), "key 0: the file ends here");
  expect_refused(one().key("k", 13).number(1), "key k: values of type 13 are unknown");
  expect_refused(one().key("k", 9).number(13).number(std::uint64_t{0}),
                 "key k: values of type 13 are unknown");
  expect_refused(one().key("k", 9).number(9).number(std::uint64_t{0}),
                 "key k: arrays of arrays are not read");
  expect_refused(one().key("k", 7).number(std::uint8_t{2}), "key k: a bool is 2");
  expect_refused(one().key("k", 8).number(~std::uint64_t{0}), "key k: the file ends here");
  expect_refused(one().key("k", 12).number(1.0f), "8 bytes should follow, 4 do");
  expect_refused(one().key("k", 9).number(8).number(std::uint64_t{3}).plain(filler),
                 "key k: 3 elements do not fit into the 16 bytes that follow");
  expect_refused(one().key("k", 9).number(4).number(std::uint64_t{1} << 62).plain(filler),
                 "elements do not fit");
  expect_refused(one().key("line\nbreak" + std::string(80, 'x'), 99),
                 "key line?break" + std::string(54, 'x') + "...: values");

  GgufBytes twice;
  twice.header(0, 2).key("k", 0).number(std::uint8_t{1}).key("k", 0).number(std::uint8_t{2});
  expect_refused(twice, "key k: the key is there twice");

  for (const std::uint32_t alignment : {0u, 4u, 33u, 48u})
    expect_refused(one().key("general.alignment", 4).number(alignment),
                   "key general.alignment: the alignment is not");
  expect_refused(one().key("general.alignment", 10).number(std::uint64_t{32}),
                 "key general.alignment: the alignment is not");
}

TEST(GgufMalformed, RefusesBadTensors) {
  const std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
  const std::uint64_t most_signed = most / 2;
  const auto refuses = [](const std::vector<std::uint64_t>& sizes, std::uint32_t type,
                          std::uint64_t offset, const std::string& message) {
    expect_refused(GgufBytes().header(1, 0).tensor("t", sizes, type, offset).data(64),
                   "tensor t: " + message);
  };
  refuses({}, 0, 0, "0 axes");
  refuses({1, 1, 1, 1, 1}, 0, 0, "5 axes");
  refuses({0}, 0, 0, "axis 0 has the size 0");
  refuses({1, most}, 0, 0, "axis 1 has the size -1");
  refuses({1}, 2000, 0, "type 2000 is none of those that can be read: F32 ");
  refuses({16}, 2, 0, "a row of 16 elements is not made of blocks of 32 as Q4_0");
  refuses({most_signed}, 0, 0, "a row of 9223372036854775807 elements is too large");
  refuses({1, most_signed, 2}, 0, 0, "the tensor has more rows than can be counted");
  refuses({2, most_signed}, 0, 0, "the tensor has more bytes than can be counted");
  refuses({1}, 0, 4, "the data's offset 4 is not a multiple of the alignment, 32");
  refuses({17}, 0, 0, "the data lie outside of the file: 68 bytes from 0 on, of 64");
  refuses({9}, 0, 32, "the data lie outside of the file: 36 bytes from 32 on, of 64");
  refuses({1}, 0, 96, "the data lie outside of the file");
  refuses({1}, 0, most - 31, "the data lie outside of the file");
  expect_refused(GgufBytes().header(1, 0).tensor("", {1}, 0, 0).data(64),
                 "tensor 0: the name is empty");
  expect_refused(GgufBytes().header(2, 0).tensor("t", {1}, 0, 0).tensor("t", {1}, 0, 32).data(64),
                 "tensor t: the tensor is there twice");
}

/// A file with some of everything.
GgufWriter small_file() {
  GgufWriter writer;
  writer.add("general.alignment", std::uint32_t{8});
  writer.add("flag", true);
  writer.add("tokenizer.ggml.model", "gpt2");
  writer.add("tokenizer.ggml.tokens", std::vector<std::string>{"a", "bc"});
  writer.add("tokenizer.ggml.token_type", std::vector<std::int32_t>{1, 3});
  writer.add("tokenizer.ggml.bos_token_id", std::uint32_t{1});
  writer.add_tensor("row", TensorType::f32, 1, 2, std::vector<std::byte>(8));
  writer.add_tensor("matrix", TensorType::q8_0, 2, 32, std::vector<std::byte>(68));
  return writer;
}

TEST(GgufMalformed, AFileCutAnywhereIsRefused) {
  const std::vector<std::byte> whole = bytes_of(small_file());
  EXPECT_NO_THROW(walk(whole));
  const GgufFile file(whole);
  const StoredMatrix& last = file.tensor("matrix");
  const std::size_t end = static_cast<std::size_t>(last.data - whole.data()) + last.bytes().size();
  for (std::size_t size = 0; size < end; ++size) {
    const auto cut = static_cast<std::ptrdiff_t>(size);
    EXPECT_THROW(walk({whole.begin(), whole.begin() + cut}), FormatError) << size;
  }
}

TEST(GgufMalformed, AnyByteMayBeAnother) {
  std::vector<std::byte> bytes = bytes_of(small_file());
  std::size_t refused = 0;
  for (std::byte& byte : bytes) {
    const std::byte original = byte;
    for (int change = 1; change < 256; ++change) {
      byte = original ^ static_cast<std::byte>(change);
      try {
        walk(bytes);
      } catch (const FormatError&) {
        ++refused;
      }
    }
    byte = original;
  }
  EXPECT_GT(refused, 4u * 255);  // at least what is no longer GGUF
}

}  // namespace
}  // namespace smollm2
