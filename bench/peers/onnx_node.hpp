// SPDX-License-Identifier: MIT
/// \file
/// An ONNX model of one node, as the bytes of its file. A model is a protobuf message, and so few
/// of its fields are needed that writing them takes less than a library that does.
#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace heed::bench {

/// Element types by ONNX's numbers.
enum class OnnxType { float32 = 1, int32 = 6 };

/// An input or output; its shape is left to the run.
struct OnnxValue {
  std::string name;
  OnnxType type = OnnxType::float32;
  int rank = 0;
};

struct OnnxNode {
  std::string domain, operation;
  std::vector<OnnxValue> inputs, outputs;
  std::vector<std::pair<std::string, std::int64_t>> integers;  ///< attributes
  std::vector<std::pair<std::string, float>> floats;           ///< attributes
};

namespace detail {

/// The fields of a protobuf message, one after another; the numbers are those of onnx.proto.
class Message {
 public:
  Message& integer(int field, std::int64_t value) {
    key(field, 0);
    varint(static_cast<std::uint64_t>(value));
    return *this;
  }
  Message& real(int field, float value) {
    key(field, 5);
    const auto bits = std::bit_cast<std::uint32_t>(value);
    for (int shift = 0; shift < 32; shift += 8)
      bytes_.push_back(static_cast<char>((bits >> shift) & 0xFFU));
    return *this;
  }
  Message& text(int field, std::string_view value) {
    key(field, 2);
    varint(value.size());
    bytes_ += value;
    return *this;
  }
  Message& message(int field, const Message& value) { return text(field, value.bytes_); }
  const std::string& bytes() const { return bytes_; }

 private:
  void key(int field, int wire_type) {
    varint((static_cast<std::uint64_t>(field) << 3) | static_cast<std::uint64_t>(wire_type));
  }
  void varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_.push_back(static_cast<char>(value | 0x80U));
    bytes_.push_back(static_cast<char>(value));
  }
  std::string bytes_;
};

/// A ValueInfoProto; each dimension has a name of its own, which stands for any size.
inline Message value_info(const OnnxValue& value) {
  Message shape;
  for (int i = 0; i < value.rank; ++i)
    shape.message(1, Message().text(2, value.name + "_" + std::to_string(i)));
  const Message tensor =
      Message().integer(1, static_cast<std::int64_t>(value.type)).message(2, shape);
  return Message().text(1, value.name).message(2, Message().message(1, tensor));
}

}  // namespace detail

/// A ModelProto with this one node.
inline std::string onnx_model(const OnnxNode& node) {
  using detail::Message;
  constexpr std::int64_t float_attribute = 1, integer_attribute = 2;
  constexpr std::int64_t ir_version = 8, onnx_opset = 17, domain_opset = 1;
  Message proto, graph;
  for (const auto& input : node.inputs) proto.text(1, input.name);
  for (const auto& output : node.outputs) proto.text(2, output.name);
  proto.text(4, node.operation).text(7, node.domain);
  for (const auto& [name, value] : node.integers)
    proto.message(5, Message().text(1, name).integer(3, value).integer(20, integer_attribute));
  for (const auto& [name, value] : node.floats)
    proto.message(5, Message().text(1, name).real(2, value).integer(20, float_attribute));
  graph.message(1, proto).text(2, "node");
  for (const auto& input : node.inputs) graph.message(11, detail::value_info(input));
  for (const auto& output : node.outputs) graph.message(12, detail::value_info(output));
  return Message()
      .integer(1, ir_version)
      .message(7, graph)
      .message(8, Message().text(1, "").integer(2, onnx_opset))
      .message(8, Message().text(1, node.domain).integer(2, domain_opset))
      .bytes();
}

}  // namespace heed::bench
