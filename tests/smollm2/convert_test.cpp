// SPDX-License-Identifier: MIT
/// \file
/// What a small grouped-query model becomes.

#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "context.hpp"
#include "convert/conversion.hpp"
#include "small_model.hpp"

namespace smollm2 {
namespace {

using test::distance;
using test::exact_logits;
using test::small_model;
using test::SmallShape;
using test::some_tokens;
using test::TemporaryFile;

class Convert : public testing::Test {
 protected:
  /// The small model, and what `convert` makes of it.
  template <class F>
  void convert(const F& convert, TensorType type = TensorType::f32) {
    small_model(type).write(before_.path());
    const GgufFile file(before_.path());
    GgufWriter writer;
    convert(file, writer);
    writer.write(after_.path());
  }
  /// How far the new model's logits after `count` tokens are from the old one's.
  double change(std::size_t count, const std::string& element = "f32") const {
    const GgufFile file(before_.path());
    const Model model(after_.path());
    const std::vector<Token> tokens = some_tokens(count);
    const auto context = make_context(model, {.capacity = 128, .element = element});
    return distance(read(*context, tokens),
                    exact_logits(file, tokens).row(static_cast<Index>(count) - 1));
  }
  std::size_t bytes_per_token(const TemporaryFile& file) const {
    const Model model(file.path());
    return make_context(model, {.capacity = 64})->bytes_per_token();
  }

  TemporaryFile before_, after_;
};

constexpr double rounding = 2e-5;

TEST_F(Convert, RepeatedHeadsComputeTheSame) {
  for (const TensorType type : {TensorType::f32, TensorType::q8_0}) {
    convert([](const auto& file, auto& out) { convert_kv_heads(file, num_heads(file), out); },
            type);
    EXPECT_EQ(GgufFile(after_.path()).integer("llama.attention.head_count_kv"), 4);
    EXPECT_LE(change(1), rounding);
    EXPECT_LE(change(100), rounding);
    EXPECT_EQ(bytes_per_token(after_), 2 * bytes_per_token(before_));
  }
}

TEST_F(Convert, PooledHeadsAreMeans) {
  convert([](const auto& file, auto& out) { convert_kv_heads(file, 1, out); });
  const GgufFile before(before_.path()), after(after_.path());
  const auto old_key = widen(before.tensor("blk.1.attn_k.weight"));
  const auto new_key = widen(after.tensor("blk.1.attn_k.weight"));
  constexpr std::size_t size = SmallShape::head_dim * SmallShape::model_dim;
  ASSERT_EQ(new_key.size(), size);
  for (std::size_t i = 0; i < size; ++i)
    EXPECT_NEAR(new_key[i], (old_key[i] + old_key[i + size]) / 2, 1e-6);
  // The model computes with them what it should.
  const std::vector<Token> tokens = some_tokens(20);
  const Model model(after_.path());
  EXPECT_LE(distance(read(*make_context(model, {.capacity = 20}), tokens),
                     exact_logits(after, tokens, 1).row(19)),
            rounding);
  EXPECT_EQ(2 * bytes_per_token(after_), bytes_per_token(before_));
}

TEST_F(Convert, RefusesHeadsThatDoNotGoInto) {
  for (const Index num_kv_heads : {-1, 0, 3, 5, 8})
    EXPECT_THROW(
        convert([&](const auto& file, auto& out) { convert_kv_heads(file, num_kv_heads, out); }),
        std::invalid_argument)
        << num_kv_heads;
}

TEST_F(Convert, FloatsAreTheSameModel) {
  convert([](const auto& file, auto& out) { convert_to_float(file, out); }, TensorType::q8_0);
  const GgufFile before(before_.path()), after(after_.path());
  for (const auto& [name, tensor] : after.tensors()) {
    EXPECT_EQ(tensor.type, TensorType::f32) << name;
    EXPECT_EQ(widen(tensor), widen(before.tensor(name))) << name;
  }
  EXPECT_LE(change(30), rounding);
}

TEST_F(Convert, LatentAttentionComputesTheSameFromAsMuchMemory) {
  for (const TensorType type : {TensorType::f32, TensorType::q8_0}) {
    convert([](const auto& file, auto& out) { convert_to_latent(file, exact_latent(file), out); },
            type);
    const GgufFile after(after_.path());
    EXPECT_EQ(after.text("general.architecture"), "llama-latent");
    EXPECT_EQ(after.tensor("blk.0.attn_kv_a_mqa.weight").type, type) << "rows are copied";
    for (const std::size_t count : {1, 2, 30, 100}) EXPECT_LE(change(count), rounding) << count;
    EXPECT_LE(change(100, "bf16"), 0.1);
    EXPECT_EQ(bytes_per_token(after_), bytes_per_token(before_));
  }
}

// Where nothing has turned yet, all singular values together give back what they were taken from.
TEST_F(Convert, ALatentOfAllSingularValuesLosesTheTurnsAlone) {
  for (const Index pairs : {7, 4, 1}) {
    convert([&](const auto& file, auto& out) {
      const Index still = 2 * (16 - 2 * pairs);
      convert_to_latent(file, {.rotated_pairs = pairs, .latent_dim = still + 32}, out);
    });
    EXPECT_LE(change(1), rounding) << pairs;
    EXPECT_GT(change(30), 100 * rounding) << pairs;
  }
}

TEST_F(Convert, ANarrowerLatentLosesMore) {
  double before = 0;
  for (const Index width : {32, 28, 16, 4}) {
    convert([&](const auto& file, auto& out) {
      convert_to_latent(file, {.rotated_pairs = 8, .latent_dim = width}, out);
    });
    const double lost = change(1);
    if (width < 32) {
      EXPECT_GT(lost, before) << width;
    }
    before = lost;
    EXPECT_EQ(bytes_per_token(after_), 2 * 4 * static_cast<std::size_t>(width + 32));
  }
}

TEST_F(Convert, RefusesLatentsThatCannotBe) {
  for (const LatentOptions options : {LatentOptions{.rotated_pairs = 0, .latent_dim = 32},
                                      LatentOptions{.rotated_pairs = 9, .latent_dim = 32},
                                      LatentOptions{.rotated_pairs = 8, .latent_dim = 33},
                                      LatentOptions{.rotated_pairs = 8, .latent_dim = 0}})
    EXPECT_THROW(
        convert([&](const auto& file, auto& out) { convert_to_latent(file, options, out); }),
        std::invalid_argument);
  // What is latent stays so.
  convert([](const auto& file, auto& out) { convert_to_latent(file, exact_latent(file), out); });
  const GgufFile latent(after_.path());
  GgufWriter writer;
  EXPECT_THROW(convert_to_latent(latent, {.rotated_pairs = 8, .latent_dim = 32}, writer),
               std::invalid_argument);
  EXPECT_THROW(convert_kv_heads(latent, 2, writer), std::invalid_argument);
}

TEST_F(Convert, RefusesBiasesThatItWouldLeaveOut) {
  for (const std::string name : {"attn_k.bias", "attn_v.bias", "attn_q.bias"}) {
    GgufWriter model = small_model();
    const Index width = name == "attn_q.bias" ? 64 : 32;
    model.add_tensor("blk.1." + name, TensorType::f32, 1, width,
                     std::vector<std::byte>(static_cast<std::size_t>(4 * width)));
    model.write(before_.path());
    const GgufFile file(before_.path());
    GgufWriter latent, all;
    EXPECT_THROW(convert_to_latent(file, exact_latent(file), latent), std::invalid_argument);
    if (name == "attn_q.bias")
      EXPECT_NO_THROW(convert_kv_heads(file, 4, all));
    else
      EXPECT_THROW(convert_kv_heads(file, 4, all), std::invalid_argument);
  }
}

TEST_F(Convert, LatentsHaveNoScalesPerChannel) {
  convert([](const auto& file, auto& out) { convert_to_latent(file, exact_latent(file), out); });
  const Model model(after_.path());
  EXPECT_THROW(make_context(model, {.capacity = 64, .element = "int8-channel"}),
               std::invalid_argument);
}

}  // namespace
}  // namespace smollm2
