// SPDX-License-Identifier: MIT
/// \file
/// The gradients that golden files recorded agree with those around attend_backward, and one that
/// is wrong does not.

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <functional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "golden/case.hpp"               // Case
#include "golden/comparison.hpp"         // Report
#include "golden/dot_product.hpp"        // compare_gradients, DotProductInputs
#include "golden/edited_file.hpp"        // EditedFile
#include "golden/folder.hpp"             // all_names, path_of
#include "golden/grouped_gradients.hpp"  // GroupedGradients
#include "golden/latent_gradients.hpp"   // LatentGradients

namespace heed::golden {
namespace {

using files::Safetensors;
using ::testing::HasSubstr;

std::vector<std::string> recorded_gradients(const Safetensors& file) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : file.tensors())
    if (name.starts_with("grad")) names.push_back(name);
  return names;
}

template <class T>
Report compare(const Case& golden) {
  Report report;
  switch (golden.kind) {
    case Kind::dot_product:
      compare_gradients(golden, CasePolicies(golden, report), DotProductInputs<T>(golden), report);
      break;
    case Kind::mha:
    case Kind::self_attention: GroupedGradients<T>(golden, report).run(); break;
    case Kind::mla: LatentGradients<T>(golden, report).run(); break;
  }
  return report;
}

/// A line for each gradient that is not what the file says, or that nothing was compared with.
template <class T>
std::string faults_in(const Case& golden, const std::string& type) {
  std::vector<std::string> left = recorded_gradients(golden.file);
  if (left.empty()) return "no gradients\n";
  std::string faults;
  for (const Comparison& c : compare<T>(golden).comparisons) {
    std::erase(left, c.what);
    char numbers[100];
    std::snprintf(numbers, sizeof(numbers), "error %.1e, source %.1e, bound %.1e, largest %.1e",
                  c.error, c.source, c.bound, c.magnitude);
    if (!c.passed()) faults += c.what + " in " + type + ": " + numbers + "\n";
  }
  for (const std::string& name : left) faults += name + " in " + type + ": not compared\n";
  return faults;
}

/// All that is wrong with the gradients of a file.
std::string faults(const std::function<Safetensors()>& read) {
  try {
    const Case golden(read());
    return faults_in<float>(golden, "float") + faults_in<double>(golden, "double");
  } catch (const std::exception& error) {
    return error.what();
  }
}

class GoldenGradients : public testing::TestWithParam<std::string> {};

TEST_P(GoldenGradients, Agree) {
  EXPECT_EQ(faults([] { return Safetensors::read(path_of(GetParam())); }), "");
}

TEST_P(GoldenGradients, OffByOnePartIn10000AreFound) {
  for (const std::string& name : recorded_gradients(Safetensors::read(path_of(GetParam())))) {
    EditedFile edited(path_of(GetParam()));
    for (std::size_t i = 0; i < edited.size(name); ++i)
      edited.change<double>(name, i, [](double value) { return value * 1.0001; });
    const std::string found = faults([&] { return edited.parse(); });
    EXPECT_THAT(found, HasSubstr(name + " in float: error"));
    EXPECT_THAT(found, HasSubstr(name + " in double: error"));
  }
}

INSTANTIATE_TEST_SUITE_P(All, GoldenGradients, testing::ValuesIn(all_names("grad_")),
                         [](const auto& test) { return test.param; });

/// A fault, and what is said about it.
struct Fault {
  std::string name;
  std::string file;
  std::function<void(EditedFile&)> make;
  std::string message;
};

class GoldenGradientsFault : public testing::TestWithParam<Fault> {};

TEST_P(GoldenGradientsFault, IsFound) {
  EditedFile edited(path_of(GetParam().file));
  GetParam().make(edited);
  EXPECT_THAT(faults([&] { return edited.parse(); }), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Some, GoldenGradientsFault,
    testing::Values(
        Fault{"NoGradients", "dp_hd20", [](EditedFile&) {}, "no gradients"},
        Fault{"UnknownInput", "grad_dot_causal",
              [](EditedFile& f) { f.rename("grad_v", "grad_bias"); },
              "grad_bias in float: not compared"},
        Fault{"UnknownWeight", "grad_llama_gqa",
              [](EditedFile& f) { f.rename("grad.k_proj.weight", "grad.gate.weight"); },
              "grad.gate.weight in double: not compared"},
        Fault{"UnknownKind", "grad_mha_causal",
              [](EditedFile& f) { f.set("kind", "linear_attention"); }, "kind has the unknown"},
        Fault{"NoSourceError", "grad_mla_v3_qlora",
              [](EditedFile& f) { f.erase("grad_f32_vs_f64_max_rel"); },
              "grad_f32_vs_f64_max_rel is missing"},
        Fault{"WrongShape", "grad_mla_v3_qlora",
              [](EditedFile& f) { f.reshape("grad.q_a_proj.weight", {24, 96}); }, "should be"},
        Fault{"NanInGradient", "grad_mha_cross",
              [](EditedFile& f) {
                f.change<double>("grad_key", 5, [](double) { return std::nan(""); });
              },
              "grad_key in float: error"},
        Fault{"Sinks", "grad_llama_gqa",
              [](EditedFile& f) { f.rename("grad.o_proj.weight", "w.sinks"); }, "with sinks"}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace heed::golden
