// SPDX-License-Identifier: MIT
/// \file
/// Every golden file of this folder agrees with heed, and a file that is wrong in any way does not.

#include <fstream>
#include <functional>
#include <regex>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "golden/check.hpp"        // check, outcome_text
#include "golden/edited_file.hpp"  // EditedFile
#include "golden/folder.hpp"       // all_names, path_of

namespace heed::golden {
namespace {

using files::Safetensors;
using files::SafetensorsError;
using ::testing::HasSubstr;

class GoldenFile : public testing::TestWithParam<std::string> {};

TEST_P(GoldenFile, Agrees) {
  const Outcome outcome = check([] { return Safetensors::read(path_of(GetParam())); });
  EXPECT_TRUE(outcome.passed()) << heading_text() << outcome_text(GetParam(), outcome);
}

INSTANTIATE_TEST_SUITE_P(All, GoldenFile, testing::ValuesIn(all_names()),
                         [](const auto& test) { return test.param; });

TEST(GoldenIndex, NamesTheFilesThatAreThere) {
  std::ifstream stream(folder / "INDEX.md");
  const std::string index(std::istreambuf_iterator<char>(stream), {});
  const std::regex row(R"(\n\| (\w+)\.safetensors \|)");
  std::vector<std::string> listed;
  for (std::sregex_iterator match(index.begin(), index.end(), row), end; match != end; ++match)
    listed.push_back((*match)[1]);
  EXPECT_THAT(all_names(), testing::UnorderedElementsAreArray(listed));
  EXPECT_GE(listed.size(), 78U);
}

/// A fault, and what the check says about it if it does not just see other numbers.
struct Fault {
  std::string name;
  std::string file;
  std::function<void(EditedFile&)> make;
  std::string message = {};
};

class GoldenFault : public testing::TestWithParam<Fault> {};

TEST_P(GoldenFault, IsFound) {
  const Fault& fault = GetParam();
  EditedFile file(path_of(fault.file));
  ASSERT_TRUE(check([&] { return file.parse(); }).passed())
      << "the file fails even without the fault";
  fault.make(file);
  const Outcome outcome = check([&] { return file.parse(); });
  EXPECT_FALSE(outcome.passed());
  if (fault.message.empty())
    EXPECT_EQ(outcome.problem, "");
  else
    EXPECT_THAT(outcome.problem, HasSubstr(fault.message));
}

/// 0.1 % more, or a bit of it where there is nothing.
const auto nudge = [](auto value) { return value == 0 ? 1e-3 : value * 1.001; };
const auto flip = [](bool value) { return !value; };
const auto next = [](std::int64_t value) { return value + 1; };

/// One element of a tensor is off by a little.
Fault value_fault(const std::string& file, const std::string& tensor, std::size_t element) {
  const bool is_weight = tensor.starts_with("w.") || tensor == "x" || tensor == "q";
  return {"Value_" + file + "_" + std::regex_replace(tensor, std::regex(R"(\W)"), "_"), file,
          [=](EditedFile& edited) {
            if (is_weight)
              edited.change<float>(tensor, element, nudge);
            else
              edited.change<double>(tensor, element, nudge);
          }};
}

std::vector<Fault> value_faults() {
  std::vector<Fault> faults;
  for (const char* tensor : {"q", "out"}) faults.push_back(value_fault("dp_hd20", tensor, 7));
  for (const char* tensor :
       {"x", "out", "q_rope", "cache_k", "cache_v", "inv_freq", "w.q_proj.weight",
        "w.k_proj.weight", "w.v_proj.weight", "w.o_proj.weight"})
    faults.push_back(value_fault("llama_decode_gqa", tensor, 5));
  for (const char* tensor : {"w.sinks", "w.q_proj.bias", "w.o_proj.bias", "k_rope", "v"})
    faults.push_back(value_fault("gptoss_sinks_yarn", tensor, 3));
  for (const char* tensor : {"q_rotated_part", "k_rotated_part"})
    faults.push_back(value_fault("stablelm_partial", tensor, 2));
  for (const char* tensor : {"grad_q", "grad_k", "grad_v"})
    faults.push_back(value_fault("grad_dot_causal", tensor, 7));
  faults.push_back(value_fault("gemma3_window_qknorm", "w.k_norm.weight", 4));
  faults.push_back(value_fault("bloom_alibi", "alibi", 9));
  for (const char* tensor : {"q_full", "k_full", "k_pe", "c_kv", "v", "w.q_a_layernorm.weight",
                             "w.kv_a_layernorm.weight", "w.kv_b_proj.weight"})
    faults.push_back(value_fault("mla_hf_v3_qlora", tensor, 11));
  for (const char* tensor : {"q_pe", "kv_cache", "pe_cache"})
    faults.push_back(value_fault("mla_ds_absorb", tensor, 11));
  for (const char* tensor : {"k_cache", "v_cache"})
    faults.push_back(value_fault("mla_ds_naive", tensor, 11));
  return faults;
}

/// The metadata say something else than what was computed.
Fault meaning_fault(const std::string& file, const std::string& field, const std::string& value) {
  return {"Meaning_" + field + "_" + file, file,
          [=](EditedFile& edited) { edited.set(field, value); }};
}

/// The metadata say something that is not understood.
Fault word_fault(const std::string& file, const std::string& field, const std::string& value) {
  return {"Word_" + field + "_" + file, file, [=](EditedFile& edited) { edited.set(field, value); },
          field};
}

INSTANTIATE_TEST_SUITE_P(Values, GoldenFault, testing::ValuesIn(value_faults()),
                         [](const auto& test) { return test.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Metadata, GoldenFault,
    testing::Values(
        meaning_fault("llama_gqa", "rope_theta", "10001.0"),
        meaning_fault("llama_gqa", "rope_layout", "interleaved"),
        meaning_fault("llama_gqa", "softmax_scale", "0.2501"),
        meaning_fault("llama_rope_linear", "rope_scaling", "none"),
        meaning_fault("llama_rope_yarn", "attention_scaling", "1.0"),
        meaning_fault("gemma2_softcap", "softcap", "5.01"),
        meaning_fault("qwen3_qknorm", "qk_norm", "rmsnorm over head_dim, multiply by (1+w)"),
        meaning_fault("gptneox_partial", "qkv_layout", "rows [q | k | v], each head-major"),
        meaning_fault("mla_hf_v3_qlora", "rms_norm_eps", "1e-02"),
        meaning_fault("mla_hf_v3_qlora", "rope_output_order", "complex pairs stay interleaved"),
        word_fault("llama_gqa", "kind", "linear_attention"),
        word_fault("llama_gqa", "format", "attention-golden-2"),
        word_fault("llama_gqa", "causal", "perhaps"),
        word_fault("llama_gqa", "rope_layout", "diagonal"),
        word_fault("llama_gqa", "num_heads", "eight"),
        word_fault("mha_torch_self", "kv_len", "99999999999"),
        word_fault("llama_gqa", "softmax_scale", "0.25x"),
        word_fault("llama_rope_yarn", "rope_scaling", R"({"rope_type": "twine", "factor": 4.0})"),
        word_fault("llama_rope_yarn", "rope_scaling", R"({"rope_type": "yarn", "factor": "four"})"),
        word_fault("llama_decode_gqa", "schedule", "[24, 1, 1]"),
        word_fault("llama_decode_gqa", "schedule", "24"),
        word_fault("qwen3_qknorm", "qk_norm", "layernorm"),
        word_fault("bloom_alibi", "positional", "learned"),
        word_fault("bloom_alibi", "alibi_note", "from the right"),
        word_fault("bloom_alibi", "qkv_layout", "mixed"),
        word_fault("mha_torch_self", "self_attention", "partly"),
        word_fault("mla_hf_v3_qlora", "rope_output_order", "reversed"),
        word_fault("dp_hd20", "rope_layout", "half_split"),
        Fault{"Window", "mistral_window", [](EditedFile& f) { f.set("window", "7"); },
              "mask_allowed shows"},
        Fault{"Causal", "mha_torch_keypad", [](EditedFile& f) { f.set("causal", "true"); },
              "mask_allowed shows"},
        Fault{"MaskBit", "llama_gqa",
              [](EditedFile& f) { f.change<bool>("mask_allowed", 40, flip); },
              "mask_allowed shows"},
        Fault{"PaddingBit", "llama_gqa_leftpad",
              [](EditedFile& f) { f.change<bool>("padding_mask", 12, flip); },
              "mask_allowed shows"}),
    [](const auto& test) { return test.param.name + "_" + std::to_string(test.index); });

INSTANTIATE_TEST_SUITE_P(
    Tensors, GoldenFault,
    testing::Values(
        Fault{"Position", "llama_gqa_offset",
              [](EditedFile& f) { f.change<std::int64_t>("position_ids", 4, next); }},
        Fault{"MissingField", "llama_gqa", [](EditedFile& f) { f.erase("kind"); },
              "kind is missing"},
        Fault{"MissingNorm", "gemma3_window_qknorm", [](EditedFile& f) { f.erase("qk_norm"); },
              "nothing was done with"},
        Fault{"MissingSinks", "gptoss_sinks", [](EditedFile& f) { f.erase("sinks"); },
              "nothing was done with"},
        Fault{"MissingWeight", "llama_gqa",
              [](EditedFile& f) { f.rename("w.k_proj.weight", "grad_k"); },
              "w.k_proj.weight is missing"},
        Fault{"MissingOut", "llama_gqa", [](EditedFile& f) { f.rename("out", "grad_out"); },
              "out is missing"},
        Fault{"MissingSource", "llama_gqa", [](EditedFile& f) { f.rename("out_f32", "grad_out"); },
              "out_f32 is missing"},
        Fault{"MissingBias", "llama_gqa_bias",
              [](EditedFile& f) { f.rename("w.q_proj.bias", "grad_bias"); }},
        Fault{"UnknownWeight", "llama_gqa", [](EditedFile& f) { f.rename("v", "w.gate.weight"); },
              "nothing was done with"},
        Fault{"UnknownTensor", "llama_gqa", [](EditedFile& f) { f.rename("v", "surprise"); },
              "surprise"},
        Fault{"WrongShape", "llama_gqa",
              [](EditedFile& f) { f.reshape("w.k_proj.weight", {64, 32}); },
              "w.k_proj.weight [64, 32] should be [32, 64]"},
        Fault{
            "NanInOut", "llama_gqa",
            [](EditedFile& f) { f.change<double>("out", 70, [](double) { return std::nan(""); }); },
            "NaN in a row that sees keys"},
        Fault{"NanInSource", "llama_gqa",
              [](EditedFile& f) {
                f.change<float>("out_f32", 70, [](float) { return std::nanf(""); });
                f.change<double>("out", 0, [](double) { return 3.0; });
              }},
        Fault{"InfInCache", "llama_decode_gqa",
              [](EditedFile& f) {
                f.change<double>("cache_k", 5,
                                 [](double) { return std::numeric_limits<double>::infinity(); });
              }},
        Fault{"RowsNotValid", "llama_gqa_leftpad",
              [](EditedFile& f) {
                for (std::size_t i = 0; i < f.size("row_valid"); ++i)
                  f.change<bool>("row_valid", i, [](bool) { return false; });
              },
              "nothing to compare"}),
    [](const auto& test) { return test.param.name; });

TEST(GoldenMask, NeedNotBeOneThatMetadataName) {
  EditedFile edited(path_of("llama_gqa"));
  edited.set("causal", "false");  // and so mask_allowed alone says who sees whom
  EXPECT_TRUE(check([&] { return parse_bytes(edited.bytes()); }).passed());
}

std::string problem_of(const std::string& bytes) {
  return check([&] { return parse_bytes(bytes); }).problem;
}

TEST(GoldenBytes, CutShortAnywhereIsAnError) {
  const std::string whole = EditedFile(path_of("dp_headdim1")).bytes();
  ASSERT_EQ(problem_of(whole), "");
  for (std::size_t size = 0; size < whole.size(); ++size)
    ASSERT_NE(problem_of(whole.substr(0, size)), "") << size << " of " << whole.size() << " bytes";
}

TEST(GoldenBytes, MoreThanTheTensorsIsAnError) {
  EXPECT_THAT(problem_of(EditedFile(path_of("dp_headdim1")).bytes() + "x"),
              HasSubstr("bytes follow"));
}

TEST(GoldenBytes, ImpossibleHeadersAreErrors) {
  const auto with_header = [](std::string header) {
    std::string file(8, '\0');
    file[0] = static_cast<char>(header.size());
    return problem_of(file + header);
  };
  EXPECT_THAT(with_header("[]"), HasSubstr("not a JSON object"));
  EXPECT_THAT(with_header("{"), HasSubstr("not a JSON object"));
  EXPECT_THAT(with_header(R"({"a": 1})"), HasSubstr("data_offsets"));
  EXPECT_THAT(with_header(R"({"a": {"dtype": "U16", "shape": [], "data_offsets": [0, 0]}})"),
              HasSubstr("U16"));
  EXPECT_THAT(with_header(R"({"a": {"shape": [], "data_offsets": [0, 0]}})"), HasSubstr("dtype"));
  EXPECT_THAT(with_header(R"({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 0]}})"),
              HasSubstr("shape"));
  EXPECT_THAT(with_header(R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})"),
              HasSubstr("outside"));
  EXPECT_THAT(with_header(R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 0]}})"),
              HasSubstr("expected 4"));
  EXPECT_THAT(
      with_header(
          R"({"a": {"dtype": "F64", "shape": [4000000000000000000, 8], "data_offsets": [0, 0]}})"),
      HasSubstr("too large"));
  EXPECT_THAT(problem_of(std::string(8, '\xff')), HasSubstr("is said to have"));
  EXPECT_THROW(Safetensors::read(path_of("no_such_file")), SafetensorsError);
}

}  // namespace
}  // namespace heed::golden
