// SPDX-License-Identifier: MIT
/// \file
/// A golden file with something wrong in it, to see that the check notices.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "shared/safetensors.hpp"  // Safetensors

namespace heed::golden {

inline files::Safetensors parse_bytes(std::string_view file) {
  return files::Safetensors::parse(std::as_bytes(std::span(file)));
}

class EditedFile {
 public:
  explicit EditedFile(const std::string& path) {
    std::ifstream stream(path, std::ios::binary);
    const std::string file(std::istreambuf_iterator<char>(stream), {});
    std::uint64_t header_size = 0;
    std::memcpy(&header_size, file.data(), sizeof(header_size));
    header_ = nlohmann::json::parse(file.substr(sizeof(header_size), header_size));
    data_ = file.substr(sizeof(header_size) + header_size);
  }

  EditedFile& set(const std::string& field, const std::string& value) {
    header_["__metadata__"][field] = value;
    return *this;
  }
  EditedFile& erase(const std::string& field) {
    header_["__metadata__"].erase(field);
    return *this;
  }
  /// The tensor is called something else.
  EditedFile& rename(const std::string& tensor, const std::string& name) {
    header_[name] = header_.at(tensor);
    header_.erase(tensor);
    return *this;
  }
  EditedFile& reshape(const std::string& tensor, const std::vector<std::size_t>& shape) {
    header_.at(tensor)["shape"] = shape;
    return *this;
  }
  /// How many elements the tensor has.
  std::size_t size(const std::string& tensor) const {
    std::size_t product = 1;
    for (const auto& axis : header_.at(tensor)["shape"]) product *= axis.get<std::size_t>();
    return product;
  }
  /// Replaces one element, of the type that the tensor stores, by f(element).
  template <class Stored, class F>
  EditedFile& change(const std::string& tensor, std::size_t element, const F& f) {
    char* const at = data_.data() + header_.at(tensor)["data_offsets"][0].get<std::size_t>() +
                     element * sizeof(Stored);
    Stored value;
    std::memcpy(&value, at, sizeof(value));
    value = static_cast<Stored>(f(value));
    std::memcpy(at, &value, sizeof(value));
    return *this;
  }

  std::string bytes() const {
    const std::string header = header_.dump();
    const std::uint64_t header_size = header.size();
    std::string file(sizeof(header_size), '\0');
    std::memcpy(file.data(), &header_size, sizeof(header_size));
    return file + header + data_;
  }
  files::Safetensors parse() const { return parse_bytes(bytes()); }

 private:
  nlohmann::json header_;
  std::string data_;
};

}  // namespace heed::golden
