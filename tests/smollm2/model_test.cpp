// SPDX-License-Identifier: MIT
/// \file
/// The network and its contexts, on a small random model.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "context.hpp"
#include "format_error.hpp"
#include "generate.hpp"
#include "perplexity.hpp"
#include "small_model.hpp"

namespace smollm2 {
namespace {

using test::distance;
using test::exact_logits;
using test::small_model;
using test::SmallShape;
using test::some_tokens;
using test::TemporaryFile;

/// Logits are about this far apart, so that a wrong result is far from the right one.
constexpr double spread = 1;

class SmallModel : public testing::Test {
 protected:
  SmallModel() { small_model().write(file_.path()); }
  static std::vector<float> read_all(const Model& model, std::span<const Token> tokens,
                                     ContextOptions options = {.capacity = 200}) {
    return read(*make_context(model, options), tokens);
  }
  TemporaryFile file_;
};

TEST_F(SmallModel, ComputesItsFormulas) {
  const std::vector<Token> tokens = some_tokens(70);
  for (const WeightsKept kept : {WeightsKept::as_stored, WeightsKept::as_float}) {
    const Model model(file_.path(), kept);
    const auto expected = exact_logits(model.file(), tokens);
    ASSERT_GT((expected.row(69).array() - expected.row(69).mean()).matrix().norm(), spread);
    for (const Index count : {1, 2, 5, 64, 65, 70})
      EXPECT_LE(distance(read_all(model, std::span(tokens).first(static_cast<std::size_t>(count))),
                         expected.row(count - 1)),
                2e-5)
          << count << " tokens";
  }
}

TEST_F(SmallModel, ComputesItsFormulasFromBlocks) {
  TemporaryFile blocks;
  for (const TensorType type : {TensorType::q8_0, TensorType::f16}) {
    small_model(type).write(blocks.path());
    const std::vector<Token> tokens = some_tokens(9);
    for (const WeightsKept kept : {WeightsKept::as_stored, WeightsKept::as_float}) {
      const Model model(blocks.path(), kept);
      const auto expected = exact_logits(model.file(), tokens);
      EXPECT_LE(distance(read_all(model, tokens), expected.row(8)), 2e-5);
      const auto context = make_context(model, {.capacity = 9});
      std::vector<float> logits;
      for (const Token& token : tokens) logits = read(*context, std::span(&token, 1));
      EXPECT_LE(distance(logits, expected.row(8)), 2e-5) << "a token at a time";
    }
  }
}

TEST_F(SmallModel, ReadsInAnyPieces) {
  const Model model(file_.path());
  const std::vector<Token> tokens = some_tokens(100);
  const std::vector<float> whole = read_all(model, tokens);
  for (const std::size_t piece : {1, 7, 64}) {
    const auto context = make_context(model, {.capacity = 100});
    std::vector<float> logits;
    for (std::size_t begin = 0; begin < tokens.size(); begin += piece)
      logits =
          read(*context, std::span(tokens).subspan(begin, std::min(piece, tokens.size() - begin)));
    EXPECT_EQ(context->seqlen(), 100);
    for (std::size_t i = 0; i < whole.size(); ++i) EXPECT_NEAR(logits[i], whole[i], 2e-5);
  }
}

TEST_F(SmallModel, KeepsWhatTheElementKeeps) {
  const Model model(file_.path());
  const std::vector<Token> tokens = some_tokens(90);
  const Eigen::VectorXd expected = exact_logits(model.file(), tokens).row(89);
  std::size_t num_elements = 0;
  for (const auto& [element, error] :
       std::vector<std::pair<std::string, double>>{{"f32", 2e-5},
                                                   {"f16", 5e-3},
                                                   {"bf16", 0.05},
                                                   {"bf16-native", 0.05},
                                                   {"int8", 0.15},
                                                   {"int8-native", 0.15},
                                                   {"int8-channel", 0.15},
                                                   {"int8-rotated", 0.15},
                                                   {"int4", 2},
                                                   {"int4-native", 2},
                                                   {"int4-rotated", 2}}) {
    for (const Placement placement : {Placement::own, Placement::pool}) {
      const auto context =
          make_context(model, {.capacity = 96, .element = element, .placement = placement});
      const double found = distance(read(*context, tokens), expected);
      EXPECT_LE(found, error) << element;
      if (element != "f32") {
        EXPECT_GT(found, error / 1000) << element << " is stored as it says";
      }
      EXPECT_EQ(context->seqlen(), 90);
      EXPECT_GE(context->bytes(), 90 * context->bytes_per_token());
    }
    ++num_elements;
  }
  EXPECT_EQ(num_elements, cache_elements().size());
}

TEST_F(SmallModel, LetsGoWhatAWindowHasPassed) {
  const Model model(file_.path());
  const std::vector<Token> tokens = some_tokens(250);
  const heed::CacheWindow window{.num_sink_tokens = 2, .window_left = 10};
  const auto all = make_context(model, {.capacity = 256});
  for (const Placement placement : {Placement::own, Placement::pool}) {
    const auto some =
        make_context(model, {.capacity = 256, .placement = placement, .window = window});
    const std::vector<float> logits = read(*some, tokens);
    // What is let go was hidden before.
    const auto one_by_one =
        make_context(model, {.capacity = 256, .placement = placement, .window = window});
    std::vector<float> again;
    for (const Token& token : tokens) again = read(*one_by_one, std::span(&token, 1));
    for (std::size_t i = 0; i < logits.size(); ++i) EXPECT_NEAR(again[i], logits[i], 2e-5);
    EXPECT_GT(distance(read(*all, tokens),
                       Eigen::Map<Eigen::VectorXf>(again.data(), std::ssize(again)).cast<double>()),
              0.01);
    all->truncate(0);
  }
}

TEST_F(SmallModel, RefusesTokensThatDoNotFitAndStaysAsItWas) {
  const Model model(file_.path());
  const std::vector<Token> tokens = some_tokens(70);
  for (const Placement placement : {Placement::own, Placement::pool}) {
    const auto context = make_context(model, {.capacity = 64, .placement = placement});
    read(*context, std::span(tokens).first(60));
    EXPECT_THROW(read(*context, std::span(tokens).first(5)), heed::CapacityError);
    EXPECT_EQ(context->seqlen(), 60);
    const std::vector<float> logits = read(*context, std::span(tokens).subspan(60, 4));
    EXPECT_LE(distance(logits, exact_logits(model.file(), tokens).row(63)), 2e-5);
    context->truncate(30);
    EXPECT_EQ(context->seqlen(), 30);
    EXPECT_LE(distance(read(*context, std::span(tokens).subspan(30, 2)),
                       exact_logits(model.file(), tokens).row(31)),
              2e-5);
  }
}

TEST_F(SmallModel, RefusesTokensThatAreNone) {
  const Model model(file_.path());
  for (const Token token : {-1, 40}) {
    const auto context = make_context(model, {.capacity = 8});
    EXPECT_THROW(read(*context, std::span(&token, 1)), FormatError);
    EXPECT_EQ(context->seqlen(), 0);
  }
  EXPECT_THROW(read(*make_context(model, {.capacity = 8}), {}), std::invalid_argument);
}

TEST_F(SmallModel, NamesTheElementsThatThereAre) {
  const Model model(file_.path());
  try {
    make_context(model, {.capacity = 8, .element = "int3"});
    ADD_FAILURE();
  } catch (const std::invalid_argument& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("no cache stores 'int3'; there are f32 f16"));
  }
}

TEST_F(SmallModel, PerplexityIsItsDefinition) {
  const Model model(file_.path());
  const std::vector<Token> tokens = some_tokens(130);
  const auto logits = exact_logits(model.file(), tokens);
  double sum = 0;
  for (Index r = 0; r + 1 < logits.rows(); ++r)
    sum += std::log(
        (logits.row(r).array() - logits(r, tokens[static_cast<std::size_t>(r) + 1])).exp().sum());
  const auto context = make_context(model, {.capacity = 130});
  EXPECT_NEAR(perplexity(*context, tokens) / std::exp(sum / 129), 1, 1e-5);
}

/// A model whose file lacks something, or has it otherwise: `change` gets each value and tensor.
template <class Error>
void expect_refused(const std::string& words, const std::string& left_out, const auto& add) {
  TemporaryFile whole, changed;
  small_model().write(whole.path());
  const GgufFile file(whole.path());
  GgufWriter writer;
  for (const auto& [key, value] : file.metadata())
    if (key != left_out) writer.add(key, value);
  for (const auto& [name, tensor] : file.tensors())
    if (name != left_out)
      writer.add_tensor(name, tensor.type, tensor.rows, tensor.cols, tensor.bytes());
  add(writer);
  writer.write(changed.path());
  try {
    const Model model(changed.path());
    ADD_FAILURE() << "nothing was thrown; expected: " << words;
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr(words));
  }
}

TEST(ModelFile, IsRefusedWithoutWhatTheNetworkNeeds) {
  const auto nothing = [](GgufWriter&) {};
  for (const std::string name :
       {"general.architecture", "llama.block_count", "llama.attention.head_count",
        "llama.attention.layer_norm_rms_epsilon", "token_embd.weight", "blk.1.attn_k.weight",
        "blk.0.ffn_down.weight", "output_norm.weight"})
    expect_refused<FormatError>(name, name, nothing);
}

TEST(ModelFile, IsRefusedIfAWeightIsOfAnotherShape) {
  using S = SmallShape;
  std::mt19937 engine(2);
  const auto replaced = [&](const std::string& name, Index rows, Index cols,
                            const std::string& words) {
    expect_refused<heed::ShapeError>(words, name, [&](GgufWriter& writer) {
      writer.add_tensor(name, TensorType::f32, rows, cols,
                        test::random_rows(TensorType::f32, rows, cols, 1, engine));
    });
  };
  replaced("blk.1.attn_q.weight", 63, S::model_dim, "expected [64, 96]");
  replaced("blk.0.ffn_up.weight", 127, S::model_dim, "ffn_up.weight [out, in] has shape [127, 96]");
  replaced("blk.0.ffn_down.weight", S::model_dim, 127, "expected [96, 128]");
  replaced("blk.0.ffn_norm.weight", 1, 95, "ffn_norm.weight [model_dim]");
  replaced("output_norm.weight", 1, 97, "output_norm.weight [model_dim]");
  replaced("token_embd.weight", S::vocabulary, 95, "token_embd");
}

TEST(ModelFile, IsRefusedIfItsNumbersAreOutOfRange) {
  const auto changed = [](const std::string& key, std::uint32_t value, const std::string& words) {
    expect_refused<std::runtime_error>(words, key,
                                       [&](GgufWriter& writer) { writer.add(key, value); });
  };
  changed("llama.block_count", 0, "llama.block_count is 0");
  changed("llama.block_count", 3, "blk.2.");
  expect_refused<FormatError>("expected llama", "general.architecture", [](GgufWriter& writer) {
    writer.add("general.architecture", std::string("gemma"));
  });
  expect_refused<FormatError>("expected none or linear", "", [](GgufWriter& writer) {
    writer.add("llama.rope.scaling.type", std::string("yarn"));
  });
  expect_refused<FormatError>("there is no factor", "", [](GgufWriter& writer) {
    writer.add("llama.rope.scaling.type", std::string("linear"));
  });
  expect_refused<FormatError>("rope_freqs.weight has 3 numbers", "", [](GgufWriter& writer) {
    std::mt19937 engine(3);
    writer.add_tensor("rope_freqs.weight", TensorType::f32, 1, 3,
                      test::random_rows(TensorType::f32, 1, 3, 1, engine));
  });
  expect_refused<FormatError>("expected positive numbers", "", [](GgufWriter& writer) {
    writer.add_tensor("rope_freqs.weight", TensorType::f32, 1, 8, std::vector<std::byte>(32));
  });
  const auto number = [](const std::string& key, float value) {
    expect_refused<FormatError>(key + " is ", key,
                                [&](GgufWriter& writer) { writer.add(key, value); });
  };
  number("llama.attention.scale", 0);
  number("llama.attention.layer_norm_rms_epsilon", -1);
  changed("llama.vocab_size", 41, "llama.vocab_size is 41, but the embedding has 40 rows");
}

// Better no text than one of another network.
TEST(ModelFile, IsRefusedIfItSaysMoreThanIsKnown) {
  for (const std::string key : {"llama.attention.sliding_window", "llama.expert_count",
                                "llama.logit_scale", "llama.rope.scaling.attn_factor"})
    expect_refused<FormatError>(key, "",
                                [&](GgufWriter& writer) { writer.add(key, std::uint32_t{1}); });
  for (const std::string name : {"blk.0.attn_q_norm.weight", "blk.2.attn_q.weight", "output.bias"})
    expect_refused<FormatError>("the tensor " + name, "", [&](GgufWriter& writer) {
      writer.add_tensor(name, TensorType::f32, 1, 16, std::vector<std::byte>(64));
    });
  expect_refused<FormatError>("split.count is 2", "", [](GgufWriter& writer) {
    writer.add("split.count", std::uint16_t{2});
  });
}

TEST_F(SmallModel, SlowsItsTurnsDownInAnyOfTheWaysThatFilesSay) {
  const std::vector<Token> tokens = some_tokens(30);
  const auto logits = [&](const auto& add) {
    TemporaryFile changed;
    GgufWriter writer = small_model();
    add(writer);
    writer.write(changed.path());
    return read_all(Model(changed.path()), tokens);
  };
  const auto plain = logits([](GgufWriter&) {});
  const auto linear = logits([](GgufWriter& writer) {
    writer.add("llama.rope.scaling.type", std::string("linear"));
    writer.add("llama.rope.scaling.factor", 2.0F);
  });
  EXPECT_NE(linear, plain);
  EXPECT_EQ(logits([](GgufWriter& writer) { writer.add("llama.rope.scaling.factor", 2.0F); }),
            linear);
  EXPECT_EQ(logits([](GgufWriter& writer) { writer.add("llama.rope.scale_linear", 2.0F); }),
            linear);
  std::vector<std::byte> twos(32), ones(32);
  for (std::size_t i = 0; i < 8; ++i) {
    const float one = 1, two = 2;
    std::memcpy(ones.data() + 4 * i, &one, 4);
    std::memcpy(twos.data() + 4 * i, &two, 4);
  }
  EXPECT_EQ(logits([&](GgufWriter& writer) {
              writer.add_tensor("rope_freqs.weight", TensorType::f32, 1, 8, twos);
            }),
            linear);
  EXPECT_EQ(logits([&](GgufWriter& writer) {
              writer.add_tensor("rope_freqs.weight", TensorType::f32, 1, 8, ones);
              writer.add("llama.rope.scale_linear", 2.0F);
            }),
            linear);
}

}  // namespace
}  // namespace smollm2
