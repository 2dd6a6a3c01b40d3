// SPDX-License-Identifier: MIT
/// \file
/// Writing GGUF files.

#include "gguf_writer.hpp"

#include <bit>
#include <cerrno>
#include <concepts>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <ostream>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>

#include "format_error.hpp"

namespace smollm2 {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

template <class T>
void append(std::string& out, const T& number) {
  out.append(reinterpret_cast<const char*>(&number), sizeof(T));
}
void append(std::string& out, const std::string& text) {
  append(out, std::uint64_t{text.size()});
  out += text;
}
template <class T>
void append(std::string& out, const std::vector<T>& elements) {
  append(out, std::uint64_t{elements.size()});
  for (const auto& element : elements) append(out, element);
}

void append(std::string& out, const MetadataValue& value) {
  if (multiplicity(value) == Multiplicity::many) append(out, ValueType::array);
  append(out, element_type(value));
  std::visit([&](const auto& held) { append(out, held); }, value);
}

std::size_t padding(std::size_t size, std::size_t alignment) {
  return (alignment - size % alignment) % alignment;
}

void pad(std::ostream& stream, std::size_t size, std::size_t alignment) {
  for (std::size_t i = padding(size, alignment); i > 0; --i) stream.put('\0');
}

/// Removes a file at the end of a scope, however that is left. No longer there is as good.
struct Remover {
  const std::string& path;
  ~Remover() { std::remove(path.c_str()); }
};

}  // namespace

void GgufWriter::add(std::string key, MetadataValue value) {
  if (key.empty()) throw FormatError("a key is empty");
  if (metadata_.find(key)) throw FormatError("key " + key + " is there already");
  metadata_.add(std::move(key), std::move(value));
}

void GgufWriter::add_tensor(std::string name, TensorType type, Index rows, Index cols,
                            std::vector<std::byte> data) {
  const StoredMatrix matrix = checked(name, type, rows, cols, data);
  // The bytes stay where they are when the vector is moved.
  tensors_.add(std::move(name), {matrix, std::move(data)});
}

void GgufWriter::add_tensor(std::string name, TensorType type, Index rows, Index cols,
                            std::span<const std::byte> data) {
  const StoredMatrix matrix = checked(name, type, rows, cols, data);
  tensors_.add(std::move(name), {matrix, {}});
}

StoredMatrix GgufWriter::checked(const std::string& name, TensorType type, Index rows, Index cols,
                                 std::span<const std::byte> data) const {
  const auto fail = [&](const std::string& what) -> void {
    throw FormatError("tensor " + name + ": " + what);
  };
  const auto shape = [&] {
    return std::string("[").append(std::to_string(rows) + ", " + std::to_string(cols) + "]");
  };
  if (name.empty()) throw FormatError("a tensor's name is empty");
  if (tensors_.find(name)) fail("the name is there already");
  if (rows < 1 || cols < 1) fail("the sizes " + shape() + " are not positive");
  Index bytes_per_row = 0, bytes = 0;
  try {
    bytes_per_row = row_bytes(type, cols);
  } catch (const FormatError& error) {
    fail(error.what());
  }
  if (__builtin_mul_overflow(rows, bytes_per_row, &bytes) || bytes != std::ssize(data))
    fail(shape() + " does not take " + std::to_string(data.size()) + " bytes as " +
         std::string(block_layout(type).name));
  return {type, rows, cols, data.data()};
}

void GgufWriter::write(std::ostream& stream) const {
  const std::optional<std::uint64_t> alignment = alignment_of(metadata_);
  if (!alignment)
    throw FormatError("general.alignment is not a uint32 that is a power of two from 8 on");

  std::string header = "GGUF";
  append(header, std::uint32_t{3});
  append(header, std::uint64_t{tensors_.size()});
  append(header, std::uint64_t{metadata_.size()});
  for (const auto& [key, value] : metadata_) {
    append(header, key);
    append(header, value);
  }
  std::uint64_t offset = 0;
  for (const auto& [name, tensor] : tensors_) {
    const StoredMatrix& matrix = tensor.matrix;
    append(header, name);
    append(header, std::uint32_t{matrix.rows == 1 ? 1u : 2u});
    append(header, std::int64_t{matrix.cols});
    if (matrix.rows > 1) append(header, std::int64_t{matrix.rows});
    append(header, matrix.type);
    append(header, offset);
    const std::size_t size = matrix.bytes().size();
    offset += size + padding(size, *alignment);
  }

  stream << header;
  pad(stream, header.size(), *alignment);
  for (const auto& [name, tensor] : tensors_) {
    const std::span<const std::byte> data = tensor.matrix.bytes();
    stream.write(reinterpret_cast<const char*>(data.data()), std::ssize(data));
    pad(stream, data.size(), *alignment);
  }
}

void GgufWriter::write(const std::string& path) const {
  const std::string unfinished = path + ".unfinished";
  const auto fail = [&](const std::string& what) -> void {
    throw FormatError(path + ": " + what + ": " + std::system_category().message(errno));
  };
  // What is no file, such as a device, would be replaced by one.
  if (std::filesystem::exists(path) && !std::filesystem::is_regular_file(path))
    throw FormatError(path + ": cannot replace what is no file");
  std::ofstream stream(unfinished, std::ios::binary);
  if (!stream) fail("cannot create " + unfinished);
  const Remover remover{unfinished};
  write(stream);
  stream.close();
  if (!stream) fail("cannot write " + unfinished);
  if (std::rename(unfinished.c_str(), path.c_str()) != 0) fail("cannot replace the file");
}

}  // namespace smollm2
