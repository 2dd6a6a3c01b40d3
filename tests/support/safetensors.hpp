// SPDX-License-Identifier: MIT
/// \file
/// Reads safetensors files: an 8-byte little-endian header length, a JSON header, raw little-endian
/// data. Every size is checked against the file before anything is read from it.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "heed/base/index.hpp"  // Index

namespace heed::test {

/// The file is not what the format says, or does not hold what was asked for.
class SafetensorsError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

enum class ElementType { f64, f32, i64, boolean };

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
      Stored stored;
      std::memcpy(&stored, data.data() + i * sizeof(Stored), sizeof(Stored));
      values[i] = static_cast<T>(stored);
    }
    return values;
  }
};

/// The tensors and the `__metadata__` of one file.
class Safetensors {
 public:
  /// \throws SafetensorsError that says what is wrong with the file.
  static Safetensors parse(std::span<const std::byte> file) {
    Safetensors result;
    const auto [header, data] = split(file);
    std::vector<std::pair<std::size_t, std::size_t>> ranges;
    for (const auto& [name, entry] : header.items()) {
      if (name == "__metadata__")
        result.read_metadata(entry);
      else
        ranges.push_back(result.read_tensor(name, entry, data));
    }
    require_cover(std::move(ranges), data.size());
    return result;
  }

  static Safetensors read(const std::string& path) {
    std::ifstream stream(path, std::ios::binary);
    if (!stream) throw SafetensorsError("cannot open the file");
    const std::string text(std::istreambuf_iterator<char>(stream), {});
    return parse(std::as_bytes(std::span(text)));
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

  static std::pair<Json, std::span<const std::byte>> split(std::span<const std::byte> file) {
    std::uint64_t header_size = 0;
    if (file.size() < sizeof(header_size)) throw SafetensorsError("the file has no header length");
    std::memcpy(&header_size, file.data(), sizeof(header_size));
    file = file.subspan(sizeof(header_size));
    if (header_size > file.size())
      throw SafetensorsError("the header is said to have " + std::to_string(header_size) +
                             " bytes, but " + std::to_string(file.size()) + " follow");
    const auto text = file.first(static_cast<std::size_t>(header_size));
    const auto* begin = reinterpret_cast<const char*>(text.data());
    Json header = Json::parse(begin, begin + text.size(), nullptr, /*allow_exceptions=*/false);
    if (!header.is_object()) throw SafetensorsError("the header is not a JSON object");
    return {std::move(header), file.subspan(text.size())};
  }

  void read_metadata(const Json& entry) {
    if (!entry.is_object()) throw SafetensorsError("__metadata__ is not a JSON object");
    for (const auto& [key, value] : entry.items()) {
      if (!value.is_string()) throw SafetensorsError("__metadata__ " + key + " is not a string");
      metadata_[key] = value.get<std::string>();
    }
  }

  std::pair<std::size_t, std::size_t> read_tensor(const std::string& name, const Json& entry,
                                                  std::span<const std::byte> data) {
    Tensor tensor;
    tensor.name = name;
    tensor.type = element_type(name, entry);
    tensor.shape = sizes<Index>(name, entry, "shape");
    const auto offsets = sizes<std::size_t>(name, entry, "data_offsets");
    if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > data.size())
      throw SafetensorsError("tensor " + name + " lies outside of the file");
    const std::size_t bytes = offsets[1] - offsets[0];
    std::size_t expected = element_bytes(tensor.type);
    for (const Index size : tensor.shape)
      if (__builtin_mul_overflow(expected, static_cast<std::size_t>(size), &expected))
        throw SafetensorsError("tensor " + tensor.text() + " is too large");
    if (bytes != expected)
      throw SafetensorsError("tensor " + tensor.text() + " has " + std::to_string(bytes) +
                             " bytes, expected " + std::to_string(expected));
    const auto range = data.subspan(offsets[0], bytes);
    tensor.data.assign(range.begin(), range.end());
    tensors_[name] = std::move(tensor);
    return {offsets[0], offsets[1]};
  }

  static ElementType element_type(const std::string& name, const Json& entry) {
    const std::string type = entry.is_object() ? entry.value("dtype", Json{}).dump() : "";
    if (type == "\"F64\"") return ElementType::f64;
    if (type == "\"F32\"") return ElementType::f32;
    if (type == "\"I64\"") return ElementType::i64;
    if (type == "\"BOOL\"") return ElementType::boolean;
    throw SafetensorsError("tensor " + name + " has dtype " + type +
                           "; known are F64, F32, I64, BOOL");
  }

  static std::size_t element_bytes(ElementType type) {
    if (type == ElementType::boolean) return 1;
    return type == ElementType::f32 ? 4 : 8;
  }

  template <class Size>
  static std::vector<Size> sizes(const std::string& name, const Json& entry, const char* field) {
    const Json list = entry.value(field, Json{});
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
  static void require_cover(std::vector<std::pair<std::size_t, std::size_t>> ranges,
                            std::size_t bytes) {
    std::sort(ranges.begin(), ranges.end());
    std::size_t end = 0;
    for (const auto& range : ranges) {
      if (range.first != end) throw SafetensorsError("the tensors leave holes or overlap");
      end = range.second;
    }
    if (end != bytes) throw SafetensorsError("bytes follow after the last tensor");
  }

  std::map<std::string, std::string> metadata_;
  std::map<std::string, Tensor> tensors_;
};

}  // namespace heed::test
