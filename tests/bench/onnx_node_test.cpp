// SPDX-License-Identifier: MIT
/// \file
/// The ONNX models that a peer of speed is given, byte by byte as protobuf's encoding has them.

#include "peers/onnx_node.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace {

using heed::bench::OnnxNode;
using heed::bench::OnnxType;
using heed::bench::detail::Message;

TEST(ProtobufMessage, HasKeysAndValues) {
  EXPECT_EQ(Message().integer(1, 150).bytes(), "\x08\x96\x01");  // the example of protobuf's guide
  EXPECT_EQ(Message().text(2, "testing").bytes(), "\x12\x07testing");
  EXPECT_EQ(Message().message(3, Message().integer(1, 150)).bytes(), "\x1a\x03\x08\x96\x01");
  EXPECT_EQ(Message().real(2, 1.0F).bytes(), std::string("\x15\x00\x00\x80\x3f", 5));
  EXPECT_EQ(Message().integer(20, 2).bytes(), "\xa0\x01\x02");
}

TEST(OnnxModel, HasTheNodeAndItsValues) {
  const OnnxNode node{.domain = "com.microsoft",
                      .operation = "Operation",
                      .inputs = {{.name = "in", .type = OnnxType::int32, .rank = 1}},
                      .outputs = {{.name = "out", .rank = 0}},
                      .integers = {{"count", 3}},
                      .floats = {}};
  const std::string model = heed::bench::onnx_model(node);
  // inputs and outputs by name, operation, domain; then the attribute: name, integer, type
  EXPECT_THAT(model, testing::HasSubstr("\x0a\x02in\x12\x03out\x22\x09Operation"));
  EXPECT_THAT(model, testing::HasSubstr("\x3a\x0d"
                                        "com.microsoft"));
  EXPECT_THAT(model, testing::HasSubstr("\x0a\x05"
                                        "count\x18\x03\xa0\x01\x02"));
  // the input's type: int32, with one named dimension
  EXPECT_THAT(model, testing::HasSubstr("\x08\x06\x12\x08\x0a\x06\x12\x04in_0"));
  EXPECT_TRUE(model.starts_with("\x08\x08"));  // the format's version
}

}  // namespace
