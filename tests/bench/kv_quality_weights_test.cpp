// SPDX-License-Identifier: MIT
/// \file
/// Keys, values and queries made by the weights of a tiny model, and files that are none.

#include <bit>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "kv_quality/weights.hpp"

namespace heed::bench::quality {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const std::string layer = "model.layers.3.";

/// A model of one layer, 2 heads and 1 key/value head of 4, model_dim 6, in bfloat16.
class TinyModel {
 public:
  TinyModel() {
    Normal normal(7);
    set("self_attn.q_proj.weight", {8, 6}, normal);
    set("self_attn.k_proj.weight", {4, 6}, normal);
    set("self_attn.v_proj.weight", {4, 6}, normal);
    set("input_layernorm.weight", {6}, normal);
  }
  void set(const std::string& name, const std::vector<Index>& shape, Normal& normal) {
    Index count = 1;
    for (const Index size : shape) count *= size;
    auto& [stored_shape, elements] = tensors_[layer + name];
    stored_shape = shape;
    elements.clear();
    for (Index i = 0; i < count; ++i) elements.push_back(static_cast<bf16>(normal()));
  }
  void erase(const std::string& name) { tensors_.erase(layer + name); }
  bf16& element(const std::string& name, std::size_t i) {
    return tensors_.at(layer + name).second[i];
  }

  std::filesystem::path write() const {
    nlohmann::json header;
    std::string data;
    for (const auto& [name, tensor] : tensors_) {
      const std::size_t begin = data.size();
      for (const bf16 element : tensor.second) {
        const auto bits = std::bit_cast<std::uint16_t>(element);
        data += {static_cast<char>(bits & 0xFF), static_cast<char>(bits >> 8)};
      }
      header[name] = {
          {"dtype", "BF16"}, {"shape", tensor.first}, {"data_offsets", {begin, data.size()}}};
    }
    // Of another layer, in a type that is not read.
    header["model.embed"] = {
        {"dtype", "F8_E4M3"}, {"shape", {1}}, {"data_offsets", {data.size(), data.size() + 1}}};
    data += 'x';
    const std::string text = header.dump();
    std::string file(8, '\0');
    for (std::size_t i = 0; i < 8; ++i) file[i] = static_cast<char>(text.size() >> (8 * i) & 0xFF);
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    const auto path = std::filesystem::path(testing::TempDir()) /
                      (std::string("heed_") + test->name() + ".safetensors");
    std::ofstream(path, std::ios::binary) << file << text << data;
    return path;
  }

 private:
  std::map<std::string, std::pair<std::vector<Index>, std::vector<bf16>>> tensors_;
};

Inputs read(const TinyModel& model, Index num_heads = 2, Index num_kv_heads = 1, Index index = 3) {
  return inputs_of_weights(
      {.file = model.write(), .layer = index, .num_heads = num_heads, .num_kv_heads = num_kv_heads},
      {.seqlen = 30, .num_queries = 5});
}
template <class Read>
std::string error_of(const Read& read_it) {
  try {
    read_it();
  } catch (const WeightsError& error) {
    return error.what();
  }
  return "no error";
}

TEST(QualityWeights, MakeKeysValuesAndQueries) {
  const Inputs inputs = read(TinyModel());
  EXPECT_EQ(
      std::get<GroupedShape>(inputs.shape),
      (GroupedShape{
          .model_dim = 6, .num_heads = 2, .num_kv_heads = 1, .head_dim = 4, .head_dim_v = 4}));
  EXPECT_EQ(inputs.key.rows(), 30);
  EXPECT_EQ(inputs.value.cols(), 4);
  EXPECT_EQ(inputs.query.rows(), 5);
  EXPECT_EQ(inputs.query.cols(), 8);
  EXPECT_EQ(inputs.softmax_scale, 0.5);
  EXPECT_THAT(inputs.text, HasSubstr("layer 3"));
}

TEST(QualityWeights, GoThroughNormProjectionAndRope) {
  TinyModel model;
  const Inputs plain = read(model);
  for (std::size_t i = 0; i < 6; ++i)  // twice the norm's weight: all is twice as large
    model.element("input_layernorm.weight", i) *= bf16(2);
  const Inputs twice = read(model);
  EXPECT_TRUE(twice.key.isApprox(2 * plain.key));
  EXPECT_TRUE(twice.value.isApprox(2 * plain.value));
  EXPECT_TRUE(twice.query.isApprox(2 * plain.query));
  EXPECT_GT(plain.value.norm(), 0);

  // A key that is the bias alone turns with its position: both pairs keep their norm.
  for (std::size_t i = 0; i < 24; ++i) model.element("self_attn.k_proj.weight", i) = bf16(0);
  Normal normal(8);
  model.set("self_attn.k_proj.bias", {4}, normal);
  const Inputs biased = read(model);
  const auto bias = [&](std::size_t i) {
    return static_cast<float>(model.element("self_attn.k_proj.bias", i));
  };
  for (Index token : {0, 1, 29})
    for (Index pair : {0, 1})
      EXPECT_NEAR(std::hypot(biased.key(token, pair), biased.key(token, pair + 2)),
                  std::hypot(bias(static_cast<std::size_t>(pair)),
                             bias(static_cast<std::size_t>(pair) + 2)),
                  1e-5);
  EXPECT_FLOAT_EQ(biased.key(0, 1), bias(1));
  EXPECT_NE(biased.key(1, 0), bias(0));
}

TEST(QualityWeights, ThatDoNotFitAreErrors) {
  const TinyModel model;
  EXPECT_THAT(error_of([&] { read(model, 2, 1, 4); }),
              AllOf(HasSubstr("model.layers.4.self_attn.q_proj.weight is missing"),
                    HasSubstr(".safetensors: ")));
  EXPECT_THAT(error_of([&] { read(model, 3); }), HasSubstr("a multiple of 3 heads, 6"));
  EXPECT_THAT(error_of([&] { read(model, 4); }), HasSubstr("see --heads and --kv-heads"));
  EXPECT_THAT(error_of([&] { read(model, 8, 4); }), HasSubstr("same even width"));
  Normal normal(1);
  const auto with = [&](const std::string& name, const std::vector<Index>& shape) {
    TinyModel other;
    other.set(name, shape, normal);
    return error_of([&] { read(other); });
  };
  EXPECT_THAT(with("self_attn.k_proj.weight", {4, 7}), HasSubstr("[4, 7] should be"));
  EXPECT_THAT(with("self_attn.v_proj.weight", {24}), HasSubstr("should be [out, in]"));
  EXPECT_THAT(with("self_attn.q_proj.bias", {7}), HasSubstr("bias [7] should be [8]"));
  EXPECT_THAT(with("self_attn.q_norm.weight", {4}), HasSubstr("not supported"));
  TinyModel wrong;
  wrong.erase("input_layernorm.weight");
  EXPECT_THAT(error_of([&] { read(wrong); }), HasSubstr("input_layernorm.weight is missing"));
  wrong = TinyModel();
  wrong.element("self_attn.v_proj.weight", 5) = std::numeric_limits<bf16>::quiet_NaN();
  EXPECT_THAT(error_of([&] { read(wrong); }), HasSubstr("NaN or inf"));
}

TEST(QualityWeights, FilesThatAreNoneAreErrors) {
  const auto of_file = [](const std::filesystem::path& path) {
    return error_of(
        [&] { inputs_of_weights({.file = path, .num_heads = 1, .num_kv_heads = 1}, {}); });
  };
  EXPECT_THAT(of_file("no/such/file"), HasSubstr("no/such/file: cannot open the file"));
  const auto path = TinyModel().write();
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
  EXPECT_THAT(of_file(path), HasSubstr("outside of the file"));
  std::ofstream(path) << "not a model at all";
  EXPECT_THAT(of_file(path), HasSubstr("the header is said to have"));
}

}  // namespace
}  // namespace heed::bench::quality
