// SPDX-License-Identifier: MIT
// The fork of ggml in ik_llama.cpp, with keys and values in float16, bfloat16 and blocks of 32
// codes of 8 bits with a scale (q8_0). Its functions have the names of ggml's, so it is loaded.
#include <cstdint>
#include <cstdio>
#include <optional>
#include <stdexcept>
#include <vector>

#include <ggml.h>

#include "peers/ggml_contender.hpp"
#include "peers/loaded_library.hpp"

namespace heed::bench {
namespace {

struct IkGgml {
  LoadedLibrary library{HEED_IK_LLAMA_LIBRARY, SymbolsOf::itself_first};

  decltype(&ggml_init) init = library.find<decltype(init)>("ggml_init");
  decltype(&ggml_free) free = library.find<decltype(free)>("ggml_free");
  decltype(&ggml_new_graph) new_graph = library.find<decltype(new_graph)>("ggml_new_graph");
  decltype(&ggml_build_forward_expand) build_forward_expand =
      library.find<decltype(build_forward_expand)>("ggml_build_forward_expand");
  decltype(&ggml_new_tensor_2d) new_tensor_2d =
      library.find<decltype(new_tensor_2d)>("ggml_new_tensor_2d");
  decltype(&ggml_new_tensor_3d) new_tensor_3d =
      library.find<decltype(new_tensor_3d)>("ggml_new_tensor_3d");
  decltype(&ggml_view_3d) view_3d = library.find<decltype(view_3d)>("ggml_view_3d");
  decltype(&ggml_flash_attn_ext) flash_attn_ext =
      library.find<decltype(flash_attn_ext)>("ggml_flash_attn_ext");
  decltype(&ggml_nelements) nelements = library.find<decltype(nelements)>("ggml_nelements");
  decltype(&ggml_row_size) row_size = library.find<decltype(row_size)>("ggml_row_size");
  decltype(&ggml_type_size) type_size = library.find<decltype(type_size)>("ggml_type_size");
  decltype(&ggml_blck_size) blck_size = library.find<decltype(blck_size)>("ggml_blck_size");
  decltype(&ggml_fp32_to_fp16) fp32_to_fp16 =
      library.find<decltype(fp32_to_fp16)>("ggml_fp32_to_fp16");
  decltype(&ggml_tensor_overhead) tensor_overhead =
      library.find<decltype(tensor_overhead)>("ggml_tensor_overhead");
  decltype(&ggml_graph_overhead) graph_overhead =
      library.find<decltype(graph_overhead)>("ggml_graph_overhead");
  decltype(&ggml_internal_get_type_traits) type_traits =
      library.find<decltype(type_traits)>("ggml_internal_get_type_traits");
  decltype(&ggml_graph_plan) graph_plan = library.find<decltype(graph_plan)>("ggml_graph_plan");
  decltype(&ggml_graph_compute) graph_compute =
      library.find<decltype(graph_compute)>("ggml_graph_compute");

  static constexpr bool masks_all = true;
  static constexpr Index mask_row_padding = GGML_KQ_MASK_PAD;

  static ggml_from_float_t from_float(ggml_type type) { return get().type_traits(type).from_float; }
  static const IkGgml& get() {
    static const IkGgml api;
    return api;
  }

  class Plan {
   public:
    Plan(ggml_cgraph* graph, int num_threads)
        : graph_(graph), plan_(get().graph_plan(graph, num_threads)), work_(plan_.work_size) {
      plan_.work_data = work_.data();
    }
    bool compute() { return get().graph_compute(graph_, &plan_) == GGML_STATUS_SUCCESS; }

   private:
    ggml_cgraph* graph_;
    ggml_cplan plan_;
    std::vector<std::uint8_t> work_;
  };
};

template <ggml_type kv_type>
ContenderKind kind(const char* name, double tolerance) {
  using Contender = GgmlContender<IkGgml, kv_type>;
  return ggml_kind<Contender>(name, Contender::can_narrow, tolerance);
}

}  // namespace

std::optional<Peer> ik_llama_peer() {
  try {
    return Peer{"ik_llama.cpp",
                HEED_IK_LLAMA_VERSION,
                {kind<GGML_TYPE_F16>("ik-f16", ggml_half_tolerance),
                 kind<GGML_TYPE_BF16>("ik-bf16", ggml_narrow_tolerance(bf16_rounding)),
                 kind<GGML_TYPE_Q8_0>("ik-q8_0", ggml_narrow_tolerance(q8_0_rounding))}};
  } catch (const std::runtime_error& error) {
    std::fprintf(stderr, "speed: without ik_llama.cpp: %s\n", error.what());
    return std::nullopt;
  }
}

}  // namespace heed::bench
