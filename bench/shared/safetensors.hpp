// SPDX-License-Identifier: MIT
/// \file
/// Reads safetensors files: an 8-byte little-endian header length, a JSON header, raw little-endian
/// data. Every size is checked against the file before anything is read from it. For tests and
/// benchmarks.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "heed/base/element.hpp"  // bf16, f16
#include "heed/base/index.hpp"    // Index

namespace heed::files {

/// The file is not what the format says, or does not hold what was asked for.
class SafetensorsError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

enum class ElementType { f64, f32, f16, bf16, i64, boolean };

/// One tensor: its elements in row-major order.
struct Tensor {
  std::string name;
  ElementType type = ElementType::f64;
  std::vector<Index> shape;
  std::vector<std::byte> data;

  Index count() const {
    Index product = 1;
    for (const Index size : shape) product *= size;
    return product;
  }

  /// "w.q_proj.weight [32, 64]", for messages.
  std::string text() const {
    std::string text = name + " [";
    for (std::size_t axis = 0; axis < shape.size(); ++axis)
      text += (axis > 0 ? ", " : "") + std::to_string(shape[axis]);
    return text + "]";
  }

  /// All elements, converted to T.
  template <class T>
  std::vector<T> values() const {
    switch (type) {
      case ElementType::f64: return converted<T, double>();
      case ElementType::f32: return converted<T, float>();
      case ElementType::f16: return converted<T, f16>();
      case ElementType::bf16: return converted<T, bf16>();
      case ElementType::i64: return converted<T, std::int64_t>();
      case ElementType::boolean: return converted<T, std::uint8_t>();
    }
    throw SafetensorsError(text() + " has an unknown element type");
  }

 private:
  template <class T, class Stored>
  std::vector<T> converted() const {
    static_assert(std::endian::native == std::endian::little, "the format is little-endian");
    std::vector<T> values(data.size() / sizeof(Stored));
    for (std::size_t i = 0; i < values.size(); ++i) {
      std::array<std::byte, sizeof(Stored)> bytes;
      std::copy_n(data.data() + i * sizeof(Stored), sizeof(Stored), bytes.data());
      const auto stored = std::bit_cast<Stored>(bytes);
      values[i] = static_cast<T>(stored);
    }
    return values;
  }
};

/// The tensors and the `__metadata__` of one file.
class Safetensors {
 public:
  /// Whether a tensor of that name is to be read.
  using Wanted = std::function<bool(const std::string& name)>;

  /// \throws SafetensorsError that says what is wrong with the file.
  static Safetensors parse(std::span<const std::byte> file) {
    return load(
        file.size(),
        [&](std::size_t begin, std::span<std::byte> to) {
          std::copy_n(file.data() + begin, to.size(), to.data());
        },
        [](const std::string&) { return true; });
  }

  static Safetensors read(const std::string& path) {
    return read(path, [](const std::string&) { return true; });
  }
  /// Reads of the file only the header and the wanted tensors: models are larger than memory.
  static Safetensors read(const std::string& path, const Wanted& wanted) {
    std::ifstream stream(path, std::ios::binary);
    std::error_code error;
    const auto size = std::filesystem::file_size(path, error);
    if (!stream || error) throw SafetensorsError("cannot open the file");
    const auto fetch = [&](std::size_t begin, std::span<std::byte> to) {
      stream.seekg(static_cast<std::streamoff>(begin));
      stream.read(reinterpret_cast<char*>(to.data()), std::ssize(to));
      if (!stream) throw SafetensorsError("cannot read the file");
    };
    return load(static_cast<std::size_t>(size), fetch, wanted);
  }

  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::map<std::string, Tensor>& tensors() const { return tensors_; }

  /// The tensor of that name, or null.
  const Tensor* find(const std::string& name) const {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? nullptr : &found->second;
  }

  /// \throws SafetensorsError if there is no such tensor.
  const Tensor& tensor(const std::string& name) const {
    if (const Tensor* found = find(name)) return *found;
    throw SafetensorsError("tensor " + name + " is missing");
  }

 private:
  using Json = nlohmann::json;

  /// Copies bytes of the file from `begin` on.
  using Fetch = std::function<void(std::size_t begin, std::span<std::byte> to)>;

  static Safetensors load(std::size_t file_size, const Fetch& fetch, const Wanted& wanted) {
    Safetensors result;
    const auto [header, data_begin] = read_header(file_size, fetch);
    std::vector<Range> ranges;
    for (const auto& [name, entry] : header.items()) {
      if (name == "__metadata__") {
        result.read_metadata(entry);
        continue;
      }
      ranges.push_back(range_of(name, entry, file_size - data_begin));
      if (wanted(name)) result.read_tensor(name, entry, ranges.back(), data_begin, fetch);
    }
    require_cover(std::move(ranges), file_size - data_begin);
    return result;
  }

  /// The header, and where the data begin.
  static std::pair<Json, std::size_t> read_header(std::size_t file_size, const Fetch& fetch) {
    std::array<std::byte, sizeof(std::uint64_t)> length;
    if (file_size < length.size()) throw SafetensorsError("the file has no header length");
    fetch(0, length);
    const auto header_size = std::bit_cast<std::uint64_t>(length);
    if (header_size > file_size - length.size())
      throw SafetensorsError("the header is said to have " + std::to_string(header_size) +
                             " bytes, but " + std::to_string(file_size - length.size()) +
                             " follow");
    std::string text(static_cast<std::size_t>(header_size), '\0');
    fetch(length.size(), std::as_writable_bytes(std::span(text)));
    Json header = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!header.is_object()) throw SafetensorsError("the header is not a JSON object");
    return {std::move(header), length.size() + text.size()};
  }

  void read_metadata(const Json& entry) {
    if (!entry.is_object()) throw SafetensorsError("__metadata__ is not a JSON object");
    for (const auto& [key, value] : entry.items()) {
      if (!value.is_string()) throw SafetensorsError("__metadata__ " + key + " is not a string");
      metadata_[key] = value.get<std::string>();
    }
  }

  /// Begin and end of a tensor among the data.
  using Range = std::pair<std::size_t, std::size_t>;

  static Range range_of(const std::string& name, const Json& entry, std::size_t data_size) {
    const auto offsets = sizes<std::size_t>(name, entry, "data_offsets");
    if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > data_size)
      throw SafetensorsError("tensor " + name + " lies outside of the file");
    return {offsets[0], offsets[1]};
  }

  void read_tensor(const std::string& name, const Json& entry, const Range& range,
                   std::size_t data_begin, const Fetch& fetch) {
    Tensor tensor;
    tensor.name = name;
    tensor.type = element_type(name, entry);
    tensor.shape = sizes<Index>(name, entry, "shape");
    const std::size_t bytes = range.second - range.first;
    std::size_t expected = element_bytes(tensor.type);
    for (const Index size : tensor.shape)
      if (__builtin_mul_overflow(expected, static_cast<std::size_t>(size), &expected))
        throw SafetensorsError("tensor " + tensor.text() + " is too large");
    if (bytes != expected)
      throw SafetensorsError("tensor " + tensor.text() + " has " + std::to_string(bytes) +
                             " bytes, expected " + std::to_string(expected));
    tensor.data.resize(bytes);
    fetch(data_begin + range.first, tensor.data);
    tensors_[name] = std::move(tensor);
  }

  static ElementType element_type(const std::string& name, const Json& entry) {
    const std::string type = entry.is_object() ? entry.value("dtype", Json{}).dump() : "";
    if (type == "\"F64\"") return ElementType::f64;
    if (type == "\"F32\"") return ElementType::f32;
    if (type == "\"F16\"") return ElementType::f16;
    if (type == "\"BF16\"") return ElementType::bf16;
    if (type == "\"I64\"") return ElementType::i64;
    if (type == "\"BOOL\"") return ElementType::boolean;
    throw SafetensorsError("tensor " + name + " has dtype " + type +
                           "; known are F64, F32, F16, BF16, I64, BOOL");
  }

  static std::size_t element_bytes(ElementType type) {
    switch (type) {
      case ElementType::boolean: return 1;
      case ElementType::f16:
      case ElementType::bf16: return 2;
      case ElementType::f32: return 4;
      default: return 8;
    }
  }

  template <class Size>
  static std::vector<Size> sizes(const std::string& name, const Json& entry, const char* field) {
    const Json list = entry.is_object() ? entry.value(field, Json{}) : Json{};
    std::vector<Size> sizes;
    if (!list.is_array()) throw SafetensorsError("tensor " + name + " has no list " + field);
    for (const Json& size : list) {
      if (!size.is_number_unsigned() || size.get<std::uint64_t>() > std::uint64_t{1} << 62)
        throw SafetensorsError("tensor " + name + " has an impossible size in " + field);
      sizes.push_back(static_cast<Size>(size.get<std::uint64_t>()));
    }
    return sizes;
  }

  /// The tensors must fill the data without holes, overlaps or a rest.
  static void require_cover(std::vector<Range> ranges, std::size_t bytes) {
    std::sort(ranges.begin(), ranges.end());
    std::size_t end = 0;
    for (const Range& range : ranges) {
      if (range.first != end) throw SafetensorsError("the tensors leave holes or overlap");
      end = range.second;
    }
    if (end != bytes) throw SafetensorsError("bytes follow after the last tensor");
  }

  std::map<std::string, std::string> metadata_;
  std::map<std::string, Tensor> tensors_;
};

}  // namespace heed::files
