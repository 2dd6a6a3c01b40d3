// SPDX-License-Identifier: MIT
/// \file
/// A sequence under way: the caches of all layers, whatever they store.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model.hpp"

namespace smollm2 {

/// Where the caches keep their tokens.
enum class Placement {
  own,   ///< memory of each cache's own
  pool,  ///< pages of one pool, taken as the sequence grows
};

struct ContextOptions {
  Index capacity;               ///< tokens
  std::string element = "f32";  ///< what caches store: a name of cache_elements()
  Placement placement = Placement::own;
  std::optional<heed::CacheWindow> window = {};  ///< what is kept; all tokens if absent
  heed::AnyExecutor executor = {};
};

/// The most tokens that a context reads at a time.
inline constexpr Index max_append = 512;

class Context {
 public:
  virtual ~Context() = default;

  /// Reads tokens, at most max_append, and caches what they leave behind.
  /// \returns  [tokens, model_dim], the last block's output, for Model::predict
  /// \throws heed::CapacityError if they do not fit; the context is then as before
  virtual Matrix append(std::span<const Token> tokens) = 0;
  /// Forgets all tokens but the first `seqlen`.
  virtual void truncate(Index seqlen) = 0;

  virtual Index seqlen() const = 0;
  virtual Index capacity() const = 0;
  virtual std::size_t bytes() const = 0;            ///< of all layers' caches as allocated
  virtual std::size_t bytes_per_token() const = 0;  ///< by the formula

  const Model& model() const noexcept { return model_; }
  const heed::AnyExecutor& executor() const noexcept { return executor_; }

 protected:
  Context(const Model& model, heed::AnyExecutor executor) : model_(model), executor_(executor) {}

 private:
  const Model& model_;
  heed::AnyExecutor executor_;
};

/// f32, f16, bf16, int8, ...: what caches can store.
std::vector<std::string_view> cache_elements();

/// An empty context of the model, which must outlive it.
/// \throws std::invalid_argument for an element that is unknown, or that the model's kind of cache
/// cannot store
std::unique_ptr<Context> make_context(const Model& model, const ContextOptions& options);

/// Reads any number of tokens. \returns the last one's logits, [vocabulary_size]
std::vector<float> read(Context& context, std::span<const Token> tokens);

}  // namespace smollm2
