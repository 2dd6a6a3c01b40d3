// SPDX-License-Identifier: MIT
// ggml's ggml_flash_attn_ext on its CPU backend, with keys and values in float, float16, bfloat16
// and blocks of 32 codes of 8 bits with a scale (q8_0).
#include <algorithm>
#include <cstddef>
#include <limits>
#include <memory>
#include <stdexcept>

#include <ggml-cpu.h>
#include <ggml.h>

#include "heed/policy/score.hpp"
#include "peers/peers.hpp"

namespace heed::bench {
namespace {

struct FreeContext {
  void operator()(ggml_context* context) const { ggml_free(context); }
};
struct FreeThreads {
  void operator()(ggml_threadpool* threads) const { ggml_threadpool_free(threads); }
};

/// Rows of [token, head, column] into a tensor of [head, token, column].
void copy_heads(const Matrix& matrix, Index first_row, Index num_rows, Index num_heads,
                ggml_tensor* tensor) {
  const Index width = matrix.cols() / num_heads;
  const ggml_from_float_t convert = ggml_get_type_traits_cpu(tensor->type)->from_float;
  auto* to = static_cast<std::byte*>(tensor->data);
  for (Index head = 0; head < num_heads; ++head)
    for (Index row = 0; row < num_rows; ++row, to += ggml_row_size(tensor->type, width))
      convert(&matrix(first_row + row, head * width), to, width);
}

/// Bytes of an element, its part of a block's scale included.
double element_bytes(ggml_type type) {
  return static_cast<double>(ggml_type_size(type)) / static_cast<double>(ggml_blck_size(type));
}

/// Bytes of the elements of all tensors, and of the tensors' own structs.
std::size_t context_bytes(const SpeedCase& c, ggml_type kv_type) {
  double bytes = element_bytes(kv_type) * c.kv_elements();
  for (const SequenceRows& s : c.sequences)
    bytes += static_cast<double>(s.seqlen_q *
                                 (4 * c.num_heads * (c.head_dim + c.head_dim_v) + 2 * s.seqlen_kv));
  return static_cast<std::size_t>(bytes) + c.sequences.size() * 64 * ggml_tensor_overhead() +
         ggml_graph_overhead();
}

template <ggml_type kv_type>
class Ggml final : public Contender {
 public:
  Ggml(const SpeedCase& c, const Inputs& inputs, Index num_threads)
      : case_(c),
        context_(ggml_init(
            {.mem_size = context_bytes(c, kv_type), .mem_buffer = nullptr, .no_alloc = false})) {
    if (context_ == nullptr) throw std::runtime_error("ggml_init failed");
    graph_ = ggml_new_graph(context_.get());
    for (const SequenceRows& s : c.sequences) results_.push_back(add_sequence(inputs, s));
    for (ggml_tensor* result : results_) ggml_build_forward_expand(graph_, result);

    ggml_threadpool_params params = ggml_threadpool_params_default(static_cast<int>(num_threads));
    threads_.reset(ggml_threadpool_new(&params));
    plan_ = ggml_graph_plan(graph_, static_cast<int>(num_threads), threads_.get());
    work_.resize(plan_.work_size);
    plan_.work_data = work_.data();
  }

  void run() override {
    if (ggml_graph_compute(graph_, &plan_) != GGML_STATUS_SUCCESS)
      throw std::runtime_error("ggml_graph_compute failed");
  }
  Matrix out() const override {  // a result is [seqlen_q, num_heads, head_dim_v]
    Matrix all(case_.rows_q(), case_.num_heads * case_.head_dim_v);
    for (std::size_t i = 0; i < results_.size(); ++i)
      std::copy_n(static_cast<const float*>(results_[i]->data), ggml_nelements(results_[i]),
                  &all(case_.sequences[i].q_begin, 0));
    return all;
  }

 private:
  ggml_tensor* add_sequence(const Inputs& inputs, const SequenceRows& s) {
    const SpeedCase& c = case_;
    ggml_context* const context = context_.get();
    ggml_tensor* const query =
        ggml_new_tensor_3d(context, GGML_TYPE_F32, c.head_dim, s.seqlen_q, c.num_heads);
    ggml_tensor* const key =
        ggml_new_tensor_3d(context, kv_type, c.head_dim, s.seqlen_kv, c.num_kv_heads);
    copy_heads(inputs.query, s.q_begin, s.seqlen_q, c.num_heads, query);
    copy_heads(inputs.key, s.kv_begin, s.seqlen_kv, c.num_kv_heads, key);
    ggml_tensor* value = nullptr;
    if (c.kv == Kv::latent) {
      value = ggml_view_3d(context, key, c.head_dim_v, s.seqlen_kv, c.num_kv_heads, key->nb[1],
                           key->nb[2], 0);
    } else {
      value = ggml_new_tensor_3d(context, kv_type, c.head_dim_v, s.seqlen_kv, c.num_kv_heads);
      copy_heads(inputs.value, s.kv_begin, s.seqlen_kv, c.num_kv_heads, value);
    }
    const float scale = static_cast<float>(default_softmax_scale(c.head_dim));
    return ggml_flash_attn_ext(context, query, key, value, mask_of(s), scale, 0, 0);
  }

  /// Null where all is visible.
  ggml_tensor* mask_of(const SequenceRows& s) {
    if (case_.visible == Visible::full || s.seqlen_q == 1) return nullptr;
    ggml_tensor* const mask =
        ggml_new_tensor_2d(context_.get(), GGML_TYPE_F16, s.seqlen_kv, s.seqlen_q);
    const ggml_fp16_t hidden = ggml_fp32_to_fp16(-std::numeric_limits<float>::infinity());
    auto* row = static_cast<ggml_fp16_t*>(mask->data);
    for (Index q_row = 0; q_row < s.seqlen_q; ++q_row, row += s.seqlen_kv) {
      const Index seen = case_.seen(s, q_row);
      std::fill_n(row, seen, ggml_fp16_t{0});
      std::fill(row + seen, row + s.seqlen_kv, hidden);
    }
    return mask;
  }

  SpeedCase case_;
  std::unique_ptr<ggml_context, FreeContext> context_;
  ggml_cgraph* graph_ = nullptr;
  std::vector<ggml_tensor*> results_;
  std::unique_ptr<ggml_threadpool, FreeThreads> threads_;
  ggml_cplan plan_{};
  std::vector<std::uint8_t> work_;
};

/// The mask is a matrix of float16.
bool can(const SpeedCase& c, Index) {
  const bool masked = c.visible == Visible::causal && c.rows_q() > 1;
  return !masked || 2.0 * static_cast<double>(c.most_scores()) <= most_bytes;
}

/// Those that heed computes over its narrow elements too, if rows are whole blocks.
template <ggml_type kv_type>
bool can_narrow(const SpeedCase& c, Index num_threads) {
  const Index block = ggml_blck_size(kv_type);
  return c.reads_much() && c.head_dim % block == 0 && c.head_dim_v % block == 0 &&
         can(c, num_threads);
}

template <ggml_type kv_type>
std::unique_ptr<Contender> make(const SpeedCase& c, const Inputs& inputs, Index num_threads) {
  return std::make_unique<Ggml<kv_type>>(c, inputs, num_threads);
}

/// Queries, keys and sums of values are rounded to float16.
constexpr KvStorage half{.bytes = 2, .tolerance = 160.0 / 1024};

/// Elements are rounded by no more than `rounding` of the largest, and queries like keys. Results
/// are sums of many, rounded independently: 16 roundings of one are more than enough.
template <ggml_type kv_type>
ContenderKind narrow_kind(const char* name, double rounding) {
  return {name,
          can_narrow<kv_type>,
          make<kv_type>,
          {.bytes = element_bytes(kv_type), .tolerance = 16 * rounding}};
}

}  // namespace

Peer ggml_peer() {
  ggml_cpu_init();
  return {"ggml",
          ggml_version(),
          {{"ggml", can, make<GGML_TYPE_F32>},
           {"ggml-f16", can, make<GGML_TYPE_F16>, half},
           narrow_kind<GGML_TYPE_BF16>("ggml-bf16", 1.0 / (1 << 8)),
           narrow_kind<GGML_TYPE_Q8_0>("ggml-q8_0", 1.0 / 254)}};
}

}  // namespace heed::bench
