// SPDX-License-Identifier: MIT
/// \file
/// ONNX Runtime's C API, as far as running one node on memory of ours takes.
#pragma once

#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <onnxruntime_c_api.h>

#include "heed/base/index.hpp"
#include "peers/loaded_library.hpp"
#include "peers/onnx_node.hpp"

namespace heed::bench {

/// The library, loaded when first asked for.
/// \throws std::runtime_error if it cannot be loaded or is older than the header
inline const OrtApiBase& ort_base() {
  static const OrtApiBase* const base =
      LoadedLibrary(HEED_ONNXRUNTIME_LIBRARY)
          .find<const OrtApiBase*(ORT_API_CALL*)() noexcept>("OrtGetApiBase")();
  return *base;
}
inline const OrtApi& ort() {
  static const OrtApi* const api = ort_base().GetApi(ORT_API_VERSION);
  if (api == nullptr) throw std::runtime_error("ONNX Runtime is older than its header");
  return *api;
}

/// \throws std::runtime_error with ONNX Runtime's message
inline void require_ok(OrtStatus* status) {
  if (status == nullptr) return;
  const std::string message = ort().GetErrorMessage(status);
  ort().ReleaseStatus(status);
  throw std::runtime_error("ONNX Runtime: " + message);
}

/// Frees an object of ONNX Runtime's.
struct OrtRelease {
  void operator()(OrtEnv* env) const { ort().ReleaseEnv(env); }
  void operator()(OrtSessionOptions* options) const { ort().ReleaseSessionOptions(options); }
  void operator()(OrtSession* session) const { ort().ReleaseSession(session); }
  void operator()(OrtMemoryInfo* info) const { ort().ReleaseMemoryInfo(info); }
  void operator()(OrtValue* value) const { ort().ReleaseValue(value); }
};
template <class T>
using OrtPointer = std::unique_ptr<T, OrtRelease>;

/// A session of a model with one node, whose inputs and outputs lie in memory of the caller's.
class OrtNodeSession {
 public:
  OrtNodeSession(const OnnxNode& node, Index num_threads) {
    for (const OnnxValue& input : node.inputs) input_names_.push_back(input.name);
    for (const OnnxValue& output : node.outputs) output_names_.push_back(output.name);
    OrtSessionOptions* options = nullptr;
    require_ok(ort().CreateSessionOptions(&options));
    const OrtPointer<OrtSessionOptions> owner(options);
    require_ok(ort().SetIntraOpNumThreads(options, static_cast<int>(num_threads)));
    require_ok(ort().SetInterOpNumThreads(options, 1));
    const std::string model = onnx_model(node);
    OrtSession* session = nullptr;
    require_ok(ort().CreateSessionFromArray(&env(), model.data(), model.size(), options, &session));
    session_.reset(session);
    OrtMemoryInfo* info = nullptr;
    require_ok(ort().CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &info));
    memory_info_.reset(info);
  }

  /// The next of the node's inputs, in their order.
  template <class T>
  void add_input(std::span<T> elements, const std::vector<std::int64_t>& shape) {
    inputs_.push_back(tensor(elements, shape));
  }
  template <class T>
  void add_output(std::span<T> elements, const std::vector<std::int64_t>& shape) {
    outputs_.push_back(tensor(elements, shape));
  }

  void run() {
    std::vector<const char*> input_names, output_names;
    std::vector<const OrtValue*> inputs;
    std::vector<OrtValue*> outputs;
    for (const auto& name : input_names_) input_names.push_back(name.c_str());
    for (const auto& name : output_names_) output_names.push_back(name.c_str());
    for (const auto& input : inputs_) inputs.push_back(input.get());
    for (const auto& output : outputs_) outputs.push_back(output.get());
    require_ok(ort().Run(session_.get(), nullptr, input_names.data(), inputs.data(), inputs.size(),
                         output_names.data(), outputs.size(), outputs.data()));
  }

 private:
  static OrtEnv& env() {
    static const OrtPointer<OrtEnv> env = [] {
      OrtEnv* made = nullptr;
      require_ok(ort().CreateEnv(ORT_LOGGING_LEVEL_ERROR, "heed", &made));
      return OrtPointer<OrtEnv>(made);
    }();
    return *env;
  }
  template <class T>
  OrtPointer<OrtValue> tensor(std::span<T> elements, const std::vector<std::int64_t>& shape) {
    constexpr auto type = std::is_same_v<T, float> ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT
                                                   : ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
    OrtValue* value = nullptr;
    require_ok(ort().CreateTensorWithDataAsOrtValue(memory_info_.get(), elements.data(),
                                                    elements.size_bytes(), shape.data(),
                                                    shape.size(), type, &value));
    return OrtPointer<OrtValue>(value);
  }

  std::vector<std::string> input_names_, output_names_;
  OrtPointer<OrtMemoryInfo> memory_info_;
  OrtPointer<OrtSession> session_;
  std::vector<OrtPointer<OrtValue>> inputs_, outputs_;
};

}  // namespace heed::bench
