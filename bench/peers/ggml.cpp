// SPDX-License-Identifier: MIT
// ggml on its CPU backend, with keys and values in float, float16, bfloat16 and blocks of 32 codes
// of 8 bits with a scale (q8_0).
#include <cstdint>
#include <memory>
#include <vector>

#include <ggml-cpu.h>
#include <ggml.h>

#include "peers/ggml_contender.hpp"

namespace heed::bench {
namespace {

struct Ggml {
  decltype(&ggml_init) init = ggml_init;
  decltype(&ggml_free) free = ggml_free;
  decltype(&ggml_new_graph) new_graph = ggml_new_graph;
  decltype(&ggml_build_forward_expand) build_forward_expand = ggml_build_forward_expand;
  decltype(&ggml_new_tensor_2d) new_tensor_2d = ggml_new_tensor_2d;
  decltype(&ggml_new_tensor_3d) new_tensor_3d = ggml_new_tensor_3d;
  decltype(&ggml_view_3d) view_3d = ggml_view_3d;
  decltype(&ggml_flash_attn_ext) flash_attn_ext = ggml_flash_attn_ext;
  decltype(&ggml_nelements) nelements = ggml_nelements;
  decltype(&ggml_row_size) row_size = ggml_row_size;
  decltype(&ggml_type_size) type_size = ggml_type_size;
  decltype(&ggml_blck_size) blck_size = ggml_blck_size;
  decltype(&ggml_fp32_to_fp16) fp32_to_fp16 = ggml_fp32_to_fp16;
  decltype(&ggml_tensor_overhead) tensor_overhead = ggml_tensor_overhead;
  decltype(&ggml_graph_overhead) graph_overhead = ggml_graph_overhead;

  static constexpr bool masks_all = false;
  static constexpr Index mask_row_padding = 1;

  static ggml_from_float_t from_float(ggml_type type) {
    return ggml_get_type_traits_cpu(type)->from_float;
  }
  static const Ggml& get() {
    static constexpr Ggml api;
    return api;
  }

  class Plan {
   public:
    Plan(ggml_cgraph* graph, int num_threads) : graph_(graph) {
      ggml_threadpool_params params = ggml_threadpool_params_default(num_threads);
      threads_.reset(ggml_threadpool_new(&params));
      plan_ = ggml_graph_plan(graph_, num_threads, threads_.get());
      work_.resize(plan_.work_size);
      plan_.work_data = work_.data();
    }
    bool compute() { return ggml_graph_compute(graph_, &plan_) == GGML_STATUS_SUCCESS; }

   private:
    struct FreeThreads {
      void operator()(ggml_threadpool* threads) const { ggml_threadpool_free(threads); }
    };
    ggml_cgraph* graph_;
    std::unique_ptr<ggml_threadpool, FreeThreads> threads_;
    ggml_cplan plan_{};
    std::vector<std::uint8_t> work_;
  };
};

template <ggml_type kv_type>
using Contender = GgmlContender<Ggml, kv_type>;
template <ggml_type kv_type>
ContenderKind whole_kind(const char* name, double tolerance) {
  return ggml_kind<Contender<kv_type>>(name, Contender<kv_type>::can, tolerance);
}
template <ggml_type kv_type>
ContenderKind narrow_kind(const char* name, double rounding) {
  return ggml_kind<Contender<kv_type>>(name, Contender<kv_type>::can_narrow,
                                       ggml_narrow_tolerance(rounding));
}

}  // namespace

Peer ggml_peer() {
  ggml_cpu_init();
  return {"ggml",
          ggml_version(),
          {whole_kind<GGML_TYPE_F32>("ggml", KvStorage{}.tolerance),
           whole_kind<GGML_TYPE_F16>("ggml-f16", ggml_half_tolerance),
           narrow_kind<GGML_TYPE_BF16>("ggml-bf16", bf16_rounding),
           narrow_kind<GGML_TYPE_Q8_0>("ggml-q8_0", q8_0_rounding)}};
}

}  // namespace heed::bench
