// SPDX-License-Identifier: MIT
/// \file
/// ggml_flash_attn_ext of ggml and of its fork in ik_llama.cpp, whose headers declare other structs
/// of the same names: each source file includes its own, then this.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <memory>
#include <stdexcept>
#include <vector>

#include "heed/policy/score.hpp"
#include "peers/peers.hpp"

namespace heed::bench {

/// \tparam Api  the library's functions as members of `Api::get()`, without their ggml_, and
///
///     Plan               of a graph and a number of threads, with `bool compute()`
///     from_float(type)   what converts floats to a row of such elements
///     masks_all          whether its fast kernels want a mask where all is visible
///     mask_row_padding   a mask has so many rows, or a multiple of them
template <class Api, ggml_type kv_type>
class GgmlContender final : public AttendContender {
 public:
  GgmlContender(const SpeedCase& c, const Inputs& inputs, Index num_threads)
      : case_(c), context_(api().init(
                      {.mem_size = context_bytes(c), .mem_buffer = nullptr, .no_alloc = false})) {
    if (context_ == nullptr) throw std::runtime_error("ggml_init failed");
    ggml_cgraph* const graph = api().new_graph(context_.get());
    for (const SequenceRows& s : c.sequences) results_.push_back(add_sequence(inputs, s));
    for (ggml_tensor* result : results_) api().build_forward_expand(graph, result);
    plan_ = std::make_unique<typename Api::Plan>(graph, static_cast<int>(num_threads));
  }

  void run() override {
    if (!plan_->compute()) throw std::runtime_error("ggml_graph_compute failed");
  }
  Matrix out() const override {  // a result is [seqlen_q, num_heads, head_dim_v]
    Matrix all(case_.rows_q(), case_.num_heads * case_.head_dim_v);
    for (std::size_t i = 0; i < results_.size(); ++i)
      std::copy_n(static_cast<const float*>(results_[i]->data), api().nelements(results_[i]),
                  &all(case_.sequences[i].q_begin, 0));
    return all;
  }

  /// Bytes of an element, its part of a block's scale included.
  static double element_bytes() {
    return static_cast<double>(api().type_size(kv_type)) /
           static_cast<double>(api().blck_size(kv_type));
  }
  /// Whether there is memory for its mask, a matrix of float16.
  static bool can(const SpeedCase& c, Index) {
    const bool masked = c.visible == Visible::causal && c.rows_q() > 1;
    return !masked || 2.0 * static_cast<double>(c.most_scores()) <= most_bytes;
  }
  /// Those that heed computes over its narrow elements too, if rows are whole blocks.
  static bool can_narrow(const SpeedCase& c, Index num_threads) {
    const auto block = static_cast<Index>(api().blck_size(kv_type));
    return c.reads_much() && c.head_dim % block == 0 && c.head_dim_v % block == 0 &&
           can(c, num_threads);
  }

 private:
  struct FreeContext {
    void operator()(ggml_context* context) const { api().free(context); }
  };

  static const Api& api() { return Api::get(); }

  static Index mask_rows(const SequenceRows& s) {
    return round_up(s.seqlen_q, Api::mask_row_padding);
  }
  /// Bytes of the elements of all tensors, and of the tensors' own structs.
  static std::size_t context_bytes(const SpeedCase& c) {
    double bytes = element_bytes() * c.kv_elements();
    for (const SequenceRows& s : c.sequences)
      bytes += static_cast<double>(4 * s.seqlen_q * c.num_heads * (c.head_dim + c.head_dim_v) +
                                   2 * mask_rows(s) * s.seqlen_kv);
    return static_cast<std::size_t>(bytes) + c.sequences.size() * 64 * api().tensor_overhead() +
           api().graph_overhead();
  }

  /// Rows of [token, head, column] into a tensor of [head, token, column].
  static void copy_heads(const Matrix& matrix, Index first_row, Index num_rows, Index num_heads,
                         ggml_tensor* tensor) {
    const Index width = matrix.cols() / num_heads;
    const auto convert = Api::from_float(tensor->type);
    auto* to = static_cast<std::byte*>(tensor->data);
    for (Index head = 0; head < num_heads; ++head)
      for (Index row = 0; row < num_rows; ++row, to += api().row_size(tensor->type, width)) {
        const float* const from = &matrix(first_row + row, head * width);
        if (tensor->type == GGML_TYPE_F32)
          std::copy_n(from, width, reinterpret_cast<float*>(to));
        else
          convert(from, to, width);
      }
  }

  ggml_tensor* add_sequence(const Inputs& inputs, const SequenceRows& s) {
    const SpeedCase& c = case_;
    ggml_context* const context = context_.get();
    ggml_tensor* const query =
        api().new_tensor_3d(context, GGML_TYPE_F32, c.head_dim, s.seqlen_q, c.num_heads);
    ggml_tensor* const key =
        api().new_tensor_3d(context, kv_type, c.head_dim, s.seqlen_kv, c.num_kv_heads);
    copy_heads(inputs.query, s.q_begin, s.seqlen_q, c.num_heads, query);
    copy_heads(inputs.key, s.kv_begin, s.seqlen_kv, c.num_kv_heads, key);
    ggml_tensor* value = nullptr;
    if (c.kv == Kv::latent) {
      value = api().view_3d(context, key, c.head_dim_v, s.seqlen_kv, c.num_kv_heads, key->nb[1],
                            key->nb[2], 0);
    } else {
      value = api().new_tensor_3d(context, kv_type, c.head_dim_v, s.seqlen_kv, c.num_kv_heads);
      copy_heads(inputs.value, s.kv_begin, s.seqlen_kv, c.num_kv_heads, value);
    }
    const float scale = static_cast<float>(default_softmax_scale(c.head_dim));
    return api().flash_attn_ext(context, query, key, value, mask_of(s), scale, 0, 0);
  }

  /// Null where all is visible, unless it is wanted there.
  ggml_tensor* mask_of(const SequenceRows& s) {
    const bool all_visible = case_.visible == Visible::full || s.seqlen_q == 1;
    if (all_visible && !Api::masks_all) return nullptr;
    ggml_tensor* const mask =
        api().new_tensor_2d(context_.get(), GGML_TYPE_F16, s.seqlen_kv, mask_rows(s));
    const ggml_fp16_t hidden = api().fp32_to_fp16(-std::numeric_limits<float>::infinity());
    auto* row = static_cast<ggml_fp16_t*>(mask->data);
    for (Index q_row = 0; q_row < mask_rows(s); ++q_row, row += s.seqlen_kv) {
      const Index seen = q_row >= s.seqlen_q ? 0 : all_visible ? s.seqlen_kv : case_.seen(s, q_row);
      std::fill_n(row, seen, ggml_fp16_t{0});
      std::fill(row + seen, row + s.seqlen_kv, hidden);
    }
    return mask;
  }

  SpeedCase case_;
  std::unique_ptr<ggml_context, FreeContext> context_;
  std::vector<ggml_tensor*> results_;
  std::unique_ptr<typename Api::Plan> plan_;
};

/// Queries, keys and sums of values are rounded to float16.
inline constexpr double ggml_half_tolerance = 160.0 / 1024;
/// Elements are rounded by no more than `rounding` of the largest, and queries like keys. Results
/// are sums of many, rounded independently: 16 roundings of one are more than enough.
constexpr double ggml_narrow_tolerance(double rounding) { return 16 * rounding; }
inline constexpr double bf16_rounding = 1.0 / (1 << 8), q8_0_rounding = 1.0 / 254;

/// \param can  of the contender
template <class Contender>
ContenderKind ggml_kind(const char* name, bool (*can)(const SpeedCase&, Index), double tolerance) {
  return {name,
          can,
          [](const SpeedCase& c, const Inputs& inputs,
             Index num_threads) -> std::unique_ptr<bench::Contender> {
            return std::make_unique<Contender>(c, inputs, num_threads);
          },
          {.bytes = Contender::element_bytes(), .tolerance = tolerance}};
}

}  // namespace heed::bench
