// SPDX-License-Identifier: MIT
/// \file
/// Reading GGUF files: header, metadata, tensors' descriptions, tensors' data.

#include "gguf.hpp"

#include <cerrno>
#include <concepts>
#include <limits>
#include <system_error>
#include <utility>
#include <variant>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format_error.hpp"
#include "gguf_parser.hpp"

namespace smollm2 {
namespace {

/// A tensor as the file describes it.
struct Description {
  std::string name;
  StoredMatrix matrix;   // without data yet
  std::uint64_t offset;  // from where the data begin
  std::uint64_t bytes;
};

struct Header {
  std::uint64_t num_tensors, num_keys;
};

Header read_header(GgufParser& parser) {
  if (parser.number<std::array<char, 4>>() != std::array{'G', 'G', 'U', 'F'})
    parser.fail("the file does not begin with GGUF");
  const auto version = parser.number<std::uint32_t>();
  if (version != 2 && version != 3)
    parser.fail("version " + std::to_string(version) + " is not read; 2 and 3 are");
  // A tensor has a name's length, its number of axes, one axis, type and offset; a key has its
  // length, its type and a value.
  const std::uint64_t num_tensors = parser.count(8 + 4 + 8 + 4 + 8, "tensors");
  const std::uint64_t num_keys = parser.count(8 + 4 + 1, "keys");
  return {num_tensors, num_keys};
}

Metadata read_metadata(GgufParser& parser, std::uint64_t num_keys) {
  Metadata metadata;
  for (std::uint64_t i = 0; i < num_keys; ++i) {
    parser.enter("key " + std::to_string(i));
    std::string key = parser.text();
    if (key.empty()) parser.fail("the key is empty");
    parser.enter("key " + printable(key));
    if (!metadata.add(std::move(key), parser.value())) parser.fail("the key is there twice");
  }
  return metadata;
}

/// Sizes of axes, the columns' first. Sets the matrix's rows and cols.
void read_shape(GgufParser& parser, StoredMatrix& matrix) {
  const auto num_axes = parser.number<std::uint32_t>();
  if (num_axes < 1 || num_axes > 4)
    parser.fail(std::to_string(num_axes) + " axes are not read; 1 to 4 are");
  matrix.rows = 1;
  for (std::uint32_t axis = 0; axis < num_axes; ++axis) {
    const auto size = parser.number<std::int64_t>();
    if (size < 1)
      parser.fail("axis " + std::to_string(axis) + " has the size " + std::to_string(size));
    if (axis == 0)
      matrix.cols = size;
    else if (__builtin_mul_overflow(matrix.rows, size, &matrix.rows))
      parser.fail("the tensor has more rows than can be counted");
  }
}

Description read_description(GgufParser& parser, std::uint64_t number) {
  parser.enter("tensor " + std::to_string(number));
  Description tensor{};
  tensor.name = parser.text();
  if (tensor.name.empty()) parser.fail("the name is empty");
  parser.enter("tensor " + printable(tensor.name));
  StoredMatrix& matrix = tensor.matrix;
  read_shape(parser, matrix);
  matrix.type = parser.number<TensorType>();
  Index bytes_per_row = 0, bytes = 0;
  try {
    bytes_per_row = row_bytes(matrix.type, matrix.cols);
  } catch (const FormatError& error) {
    parser.fail(error.what());
  }
  if (__builtin_mul_overflow(matrix.rows, bytes_per_row, &bytes))
    parser.fail("the tensor has more bytes than can be counted");
  tensor.bytes = static_cast<std::uint64_t>(bytes);
  tensor.offset = parser.number<std::uint64_t>();
  return tensor;
}

}  // namespace

void GgufFile::Unmap::operator()(const std::byte* begin) const {
  ::munmap(const_cast<std::byte*>(begin), size);
}

GgufFile::Mapping GgufFile::map_file(const std::string& path) {
  const auto fail = [&](const std::string& what) -> void {
    throw FormatError(path + ": " + what + ": " + std::system_category().message(errno));
  };
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) fail("cannot open the file");
  // Closing may change errno, and a mapping needs no open file.
  struct stat status{};
  void* begin = MAP_FAILED;
  std::size_t size = 0;
  if (::fstat(file, &status) == 0) {
    size = static_cast<std::size_t>(status.st_size);
    // Nothing cannot be mapped.
    begin = size == 0 ? nullptr : ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0);
  }
  const int reason = errno;
  ::close(file);
  errno = reason;
  if (begin == MAP_FAILED) fail("cannot map the file into memory");
  return {static_cast<const std::byte*>(begin), Unmap{size}};
}

GgufFile::GgufFile(const std::string& path) : name_(path), mapping_(map_file(path)) {
  parse({mapping_.get(), mapping_.get_deleter().size});
}

GgufFile::GgufFile(std::span<const std::byte> bytes) : name_("buffer") { parse(bytes); }

void GgufFile::parse(std::span<const std::byte> bytes) {
  GgufParser parser(bytes, name_);
  const Header header = read_header(parser);
  metadata_ = read_metadata(parser, header.num_keys);
  parser.enter("key general.alignment");
  const std::optional<std::uint64_t> alignment = alignment_of(metadata_);
  if (!alignment) parser.fail("the alignment is not a uint32 that is a power of two from 8 on");

  std::vector<Description> descriptions;
  for (std::uint64_t i = 0; i < header.num_tensors; ++i)
    descriptions.push_back(read_description(parser, i));

  const std::uint64_t data_begin = (parser.position() + *alignment - 1) / *alignment * *alignment;
  const std::uint64_t data_size = bytes.size() > data_begin ? bytes.size() - data_begin : 0;
  for (Description& tensor : descriptions) {
    parser.enter("tensor " + printable(tensor.name));
    if (tensor.offset % *alignment != 0)
      parser.fail("the data's offset " + std::to_string(tensor.offset) +
                  " is not a multiple of the alignment, " + std::to_string(*alignment));
    if (tensor.offset > data_size || tensor.bytes > data_size - tensor.offset)
      parser.fail("the data lie outside of the file: " + std::to_string(tensor.bytes) +
                  " bytes from " + std::to_string(tensor.offset) + " on, of " +
                  std::to_string(data_size));
    tensor.matrix.data = bytes.data() + data_begin + tensor.offset;
    if (!tensors_.add(std::move(tensor.name), tensor.matrix))
      parser.fail("the tensor is there twice");
  }
}

void GgufFile::fail(std::string_view key, const std::string& what) const {
  throw FormatError(name_ + ": key " + std::string(key) + ": " + what);
}

/// What was found, which must be something.
template <class Found>
Found GgufFile::require(std::string_view key, Found found) const {
  if (!found) fail(key, "the key is missing");
  return found;
}

/// The value of a key, which must be a Held if it is there.
template <class Held>
const Held* GgufFile::find_held(std::string_view key, const char* expected) const {
  const MetadataValue* value = metadata_.find(key);
  if (!value) return nullptr;
  if (const auto* held = std::get_if<Held>(value)) return held;
  fail(key, "the value is " + type_text(*value) + ", expected " + expected);
}

std::optional<std::int64_t> GgufFile::find_integer(std::string_view key) const {
  const MetadataValue* value = metadata_.find(key);
  if (!value) return std::nullopt;
  return std::visit(
      [&]<class T>(const T& held) -> std::int64_t {
        if constexpr (std::integral<T>) {
          const auto integer = static_cast<std::int64_t>(held);
          if (std::unsigned_integral<T> && integer < 0)
            fail(key, "the value " + std::to_string(held) + " is too large");
          return integer;
        } else {
          fail(key, "the value is " + type_text(*value) + ", expected an integer");
        }
      },
      *value);
}

std::optional<std::vector<std::int64_t>> GgufFile::find_integers(std::string_view key) const {
  const MetadataValue* value = metadata_.find(key);
  if (!value) return std::nullopt;
  std::vector<std::int64_t> integers;
  std::visit(
      [&]<class T>(const T& held) {
        if constexpr (requires { requires std::integral<typename T::value_type>; } &&
                      !std::same_as<T, std::string>) {
          for (const auto element : held) {
            integers.push_back(static_cast<std::int64_t>(element));
            if (std::unsigned_integral<typename T::value_type> && integers.back() < 0)
              fail(key, "an element is too large");
          }
        } else {
          fail(key, "the value is " + type_text(*value) + ", expected an array of integers");
        }
      },
      *value);
  return integers;
}

std::optional<double> GgufFile::find_number(std::string_view key) const {
  if (const MetadataValue* value = metadata_.find(key))
    if (const auto* narrow = std::get_if<float>(value)) return *narrow;
  const double* number = find_held<double>(key, "float32 or float64");
  return number ? std::optional(*number) : std::nullopt;
}

std::optional<std::vector<double>> GgufFile::find_numbers(std::string_view key) const {
  if (const MetadataValue* value = metadata_.find(key))
    if (const auto* narrow = std::get_if<std::vector<float>>(value))
      return std::vector<double>(narrow->begin(), narrow->end());
  const auto* numbers = find_held<std::vector<double>>(key, "array of float32 or of float64");
  return numbers ? std::optional(*numbers) : std::nullopt;
}

const std::string* GgufFile::find_text(std::string_view key) const {
  return find_held<std::string>(key, "string");
}
const std::vector<std::string>* GgufFile::find_texts(std::string_view key) const {
  return find_held<std::vector<std::string>>(key, "array of string");
}

std::int64_t GgufFile::integer(std::string_view key) const {
  return *require(key, find_integer(key));
}
double GgufFile::number(std::string_view key) const { return *require(key, find_number(key)); }
const std::string& GgufFile::text(std::string_view key) const {
  return *require(key, find_text(key));
}
std::vector<std::int64_t> GgufFile::integers(std::string_view key) const {
  return *require(key, find_integers(key));
}
std::vector<double> GgufFile::numbers(std::string_view key) const {
  return *require(key, find_numbers(key));
}
const std::vector<std::string>& GgufFile::texts(std::string_view key) const {
  return *require(key, find_texts(key));
}

const StoredMatrix& GgufFile::tensor(std::string_view name) const {
  if (const StoredMatrix* found = find_tensor(name)) return *found;
  throw FormatError(name_ + ": tensor " + std::string(name) + " is missing");
}

}  // namespace smollm2
