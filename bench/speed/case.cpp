// SPDX-License-Identifier: MIT
#include "speed/case.hpp"

#include <initializer_list>
#include <utility>

namespace heed::bench {
namespace {

/// The heads of a case: how many, of how many groups, how wide.
struct Heads {
  Index num_heads, num_kv_heads, head_dim, head_dim_v = head_dim;
  Kv kv = Kv::full;
};

constexpr Heads gqa_8_2{8, 2, 128};
/// DeepSeek-V2-Lite's and DeepSeek-V3's heads over the latents.
constexpr Heads mla_16{16, 1, 576, 512, Kv::latent}, mla_128{128, 1, 576, 512, Kv::latent};

/// Cases under one heading, as "heading/name".
class Cases {
 public:
  explicit Cases(Pass pass) : pass_(pass) {}

  void add(std::string name, std::vector<SequenceRows> sequences, const Heads& heads,
           Visible visible = Visible::causal) {
    for (std::size_t i = 1; i < sequences.size(); ++i) {
      sequences[i].q_begin = sequences[i - 1].q_begin + sequences[i - 1].seqlen_q;
      sequences[i].kv_begin = sequences[i - 1].kv_begin + sequences[i - 1].seqlen_kv;
    }
    cases_.push_back({std::move(name), std::move(sequences), heads.num_heads, heads.num_kv_heads,
                      heads.head_dim, heads.head_dim_v, visible, heads.kv, pass_});
  }
  /// All tokens of a sequence.
  void add_prefill(const std::string& name, Index seqlen, const Heads& heads,
                   Visible visible = Visible::causal) {
    add(name + "/" + std::to_string(seqlen), {{seqlen, seqlen}}, heads, visible);
  }
  void add_decode(const std::string& name, std::initializer_list<Index> contexts,
                  const Heads& heads) {
    for (const Index context : contexts)
      add("decode/" + name + "/" + std::to_string(context), {{1, context}}, heads);
  }
  std::vector<SpeedCase> take() { return std::move(cases_); }

 private:
  Pass pass_;
  std::vector<SpeedCase> cases_;
};

void add_prefills(Cases& cases) {
  cases.add_prefill("prefill/gqa", 2048, gqa_8_2);
  cases.add_prefill("prefill/gqa", 8192, gqa_8_2);
  cases.add_prefill("prefill/heads2", 32768, {2, 1, 128});  // the FLOPs of 8192 with 32 heads
  cases.add_prefill("prefill/mha", 2048, {8, 8, 128});
  cases.add_prefill("prefill/full", 1024, {8, 8, 128}, Visible::full);
  for (const Index head_dim : {64, 80, 96, 112, 128, 192, 256})
    cases.add_prefill("prefill/dim" + std::to_string(head_dim), 1024, {8, 2, head_dim});
  cases.add_prefill("prefill/dim192x128", 1024, {8, 8, 192, 128});
  cases.add_prefill("prefill/dim576x512", 256, mla_16);
}

void add_shorts(Cases& cases) {
  for (const Index seqlen : {1, 4, 16, 64, 128, 512}) cases.add_prefill("short", seqlen, gqa_8_2);
  for (const Index head_dim : {64, 80, 256})
    cases.add_prefill("short/dim" + std::to_string(head_dim), 16, {8, 2, head_dim});
}

void add_decodes(Cases& cases) {
  cases.add_decode("mha", {128, 1024, 8192}, {32, 32, 128});
  cases.add_decode("gqa", {128, 1024, 8192, 32768}, {32, 8, 128});
  cases.add_decode("mqa", {1024, 8192, 32768}, {32, 1, 128});
  cases.add_decode("mla16", {128, 1024, 8192, 32768}, mla_16);
  cases.add_decode("mla128", {1024, 8192, 32768}, mla_128);
  cases.add_decode("dim64", {8192}, {32, 8, 64});
  cases.add_decode("dim256", {8192}, {16, 4, 256});
}

void add_batches(Cases& cases) {
  const Heads heads{32, 8, 128};
  cases.add("batch/decode",
            {{1, 100}, {1, 517}, {1, 1024}, {1, 2048}, {1, 3000}, {1, 4096}, {1, 6000}, {1, 8192}},
            heads);
  cases.add(
      "batch/mixed",
      {{1, 100}, {1, 517}, {1, 1024}, {1, 2048}, {1, 4096}, {1, 6000}, {64, 1088}, {512, 512}},
      heads);
}

}  // namespace

std::vector<SpeedCase> speed_cases() {
  Cases cases(Pass::forward);
  add_prefills(cases);
  add_shorts(cases);
  add_decodes(cases);
  add_batches(cases);
  return cases.take();
}

std::vector<SpeedCase> backward_cases() {
  Cases cases(Pass::backward);
  cases.add_prefill("backward/gqa", 2048, gqa_8_2);
  cases.add_prefill("backward/mha", 2048, {8, 8, 128});
  cases.add_prefill("backward/full", 1024, {8, 8, 128}, Visible::full);
  cases.add_prefill("backward/dim64", 1024, {8, 2, 64});
  return cases.take();
}

}  // namespace heed::bench
