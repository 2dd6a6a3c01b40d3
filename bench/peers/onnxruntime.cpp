// SPDX-License-Identifier: MIT
// ONNX Runtime's com.microsoft operators on its CPU provider: GroupQueryAttention, which is causal
// and keeps a cache, and MultiHeadAttention where all is visible or values have another width.
#include <algorithm>

#include "heed/policy/score.hpp"
#include "peers/onnxruntime_session.hpp"
#include "peers/peers.hpp"

namespace heed::bench {
namespace {

constexpr const char* domain = "com.microsoft";

std::span<float> elements(Matrix& matrix) {
  return {matrix.data(), static_cast<std::size_t>(matrix.size())};
}

float scale_of(const SpeedCase& c) { return static_cast<float>(default_softmax_scale(c.head_dim)); }

OnnxNode multi_head_node(const SpeedCase& c) {
  return {.domain = domain,
          .operation = "MultiHeadAttention",
          .inputs = {{.name = "query", .rank = 3},
                     {.name = "key", .rank = 3},
                     {.name = "value", .rank = 3}},
          .outputs = {{.name = "out", .rank = 3}},
          .integers = {{"num_heads", c.num_heads},
                       {"unidirectional", c.visible == Visible::causal ? 1 : 0}},
          .floats = {{"scale", scale_of(c)}}};
}

/// One sequence, without a cache.
class MultiHead final : public AttendContender {
 public:
  MultiHead(const SpeedCase& c, const Inputs& inputs, Index num_threads)
      : query_(inputs.query), key_(inputs.key), value_(inputs.value),
        out_(c.rows_q(), c.num_heads * c.head_dim_v), session_(multi_head_node(c), num_threads) {
    for (Matrix* input : {&query_, &key_, &value_})
      session_.add_input(elements(*input), {1, input->rows(), input->cols()});
    session_.add_output(elements(out_), {1, out_.rows(), out_.cols()});
  }
  void run() override { session_.run(); }
  Matrix out() const override { return out_; }

 private:
  Matrix query_, key_, value_, out_;
  OrtNodeSession session_;
};

OnnxNode grouped_node(const SpeedCase& c) {
  return {.domain = domain,
          .operation = "GroupQueryAttention",
          .inputs = {{.name = "query", .rank = 3},
                     {.name = "key", .rank = 3},
                     {.name = "value", .rank = 3},
                     {.name = "past_key", .rank = 4},
                     {.name = "past_value", .rank = 4},
                     {.name = "last_tokens", .type = OnnxType::int32, .rank = 1},
                     {.name = "most_tokens", .type = OnnxType::int32, .rank = 0}},
          .outputs = {{.name = "out", .rank = 3},
                      {.name = "present_key", .rank = 4},
                      {.name = "present_value", .rank = 4}},
          .integers = {{"num_heads", c.num_heads}, {"kv_num_heads", c.num_kv_heads}},
          .floats = {{"scale", scale_of(c)}}};
}

/// The rows that a run appends to the cache: the last seqlen_q of each sequence.
Matrix new_rows(const SpeedCase& c, const Matrix& all) {
  Matrix rows(c.rows_q(), all.cols());
  for (const SequenceRows& s : c.sequences)
    rows.middleRows(s.q_begin, s.seqlen_q) =
        all.middleRows(s.kv_begin + s.seqlen_kv - s.seqlen_q, s.seqlen_q);
  return rows;
}

/// [sequence, num_kv_heads, capacity, width]: a cache that already holds all rows. A run writes the
/// new ones again, in place: past and present are the same memory, so nothing is copied.
std::vector<float> cache_of(const SpeedCase& c, const Matrix& all, Index capacity) {
  const Index width = all.cols() / c.num_kv_heads;
  std::vector<float> cache(c.sequences.size() * static_cast<std::size_t>(capacity * all.cols()));
  float* to = cache.data();
  for (const SequenceRows& s : c.sequences)
    for (Index head = 0; head < c.num_kv_heads; ++head, to += capacity * width)
      for (Index row = 0; row < s.seqlen_kv; ++row)
        std::copy_n(&all(s.kv_begin + row, head * width), width, to + row * width);
  return cache;
}

/// Sequences of one seqlen_q, in caches as long as the longest.
class Grouped final : public AttendContender {
 public:
  Grouped(const SpeedCase& c, const Inputs& inputs, Index num_threads)
      : query_(inputs.query), key_(new_rows(c, inputs.key)), value_(new_rows(c, inputs.value)),
        out_(c.rows_q(), c.num_heads * c.head_dim_v), session_(grouped_node(c), num_threads) {
    Index capacity = 0;
    for (const SequenceRows& s : c.sequences) {
      last_tokens_.push_back(static_cast<std::int32_t>(s.seqlen_kv - 1));
      capacity = std::max(capacity, s.seqlen_kv);
    }
    most_tokens_[0] = static_cast<std::int32_t>(capacity);
    past_key_ = cache_of(c, inputs.key, capacity);
    past_value_ = cache_of(c, inputs.value, capacity);

    const std::int64_t batch = std::ssize(c.sequences), seqlen_q = c.rows_q() / batch;
    for (Matrix* input : {&query_, &key_, &value_})
      session_.add_input(elements(*input), {batch, seqlen_q, input->cols()});
    const std::vector<std::int64_t> cache_shape{batch, c.num_kv_heads, capacity, c.head_dim};
    session_.add_input(std::span(past_key_), cache_shape);
    session_.add_input(std::span(past_value_), cache_shape);
    session_.add_input(std::span(last_tokens_), {batch});
    session_.add_input(std::span(most_tokens_), {});
    session_.add_output(elements(out_), {batch, seqlen_q, out_.cols()});
    session_.add_output(std::span(past_key_), cache_shape);
    session_.add_output(std::span(past_value_), cache_shape);
  }
  void run() override { session_.run(); }
  Matrix out() const override { return out_; }

 private:
  Matrix query_, key_, value_, out_;
  std::vector<float> past_key_, past_value_;
  std::vector<std::int32_t> last_tokens_, most_tokens_{0};
  OrtNodeSession session_;
};

/// Whether GroupQueryAttention computes it: causal, values as wide as keys, and sequences that
/// bring as many new tokens each.
bool is_grouped(const SpeedCase& c) {
  return c.visible == Visible::causal && c.head_dim == c.head_dim_v &&
         std::all_of(c.sequences.begin(), c.sequences.end(),
                     [&](const SequenceRows& s) { return s.seqlen_q == c.sequences[0].seqlen_q; });
}

/// Latents have no operator. MultiHeadAttention wants a key/value head per head, and a causal mask
/// is that of a prompt from the start.
bool can(const SpeedCase& c, Index num_threads) {
  if (c.kv == Kv::latent) return false;
  const bool multi_head =
      c.num_heads == c.num_kv_heads && c.sequences.size() == 1 &&
      (c.visible == Visible::full || c.sequences[0].seqlen_q == c.sequences[0].seqlen_kv);
  // Both make scores for some heads at a time, at least for one a thread.
  const bool fits = 4.0 * static_cast<double>(c.most_scores() * num_threads) <= most_bytes;
  return fits && (is_grouped(c) || multi_head);
}

std::unique_ptr<Contender> make(const SpeedCase& c, const Inputs& inputs, Index num_threads) {
  if (is_grouped(c)) return std::make_unique<Grouped>(c, inputs, num_threads);
  return std::make_unique<MultiHead>(c, inputs, num_threads);
}

}  // namespace

Peer onnxruntime_peer() {
  return {"ONNX Runtime", ort_base().GetVersionString(), {{"onnxruntime", can, make}}};
}

}  // namespace heed::bench
