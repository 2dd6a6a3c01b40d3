// SPDX-License-Identifier: MIT
/// \file
/// A context whose caches are of one type.
#pragma once

#include <limits>
#include <memory>
#include <stdexcept>
#include <vector>

#include <heed/instances/extern.hpp>
#include <heed/instances/extern_narrow.hpp>

#include "context.hpp"

namespace smollm2 {

template <class Entry, class Element>
class ContextOf final : public Context {
  using Cache = heed::KvCache<Entry, Element>;

 public:
  ContextOf(const Model& model, const ContextOptions& options, const Entry& entry)
      : Context(model, options.executor), capacity_(options.capacity) {
    // A window as long as the context hides nothing.
    if (options.window) options.window->check("Context");
    if (options.window)
      mask_ = {options.window->num_sink_tokens, options.window->window_left};
    else
      mask_ = {.num_sink_tokens = 0, .window_left = options.capacity};

    const Index num_layers = model.shape().num_layers;
    // A cache that lets tokens go needs room for those that it keeps alone.
    const Index kept = options.window
                           ? std::min(options.window->capacity(max_append), options.capacity)
                           : options.capacity;
    caches_.reserve(static_cast<std::size_t>(num_layers));
    if (options.placement == Placement::own) {
      for (Index layer = 0; layer < num_layers; ++layer)
        caches_.emplace_back(kept, entry, options.window);
    } else {
      const Index pages = heed::page_count(kept);
      const heed::PagePool<Entry, Element> pool(num_layers * pages, entry);
      for (Index layer = 0; layer < num_layers; ++layer)
        caches_.emplace_back(pool, options.capacity, options.window);
    }
  }

  Matrix append(std::span<const Token> tokens) override {
    const Index before = seqlen();
    Matrix x = model().embed(tokens);
    try {
      for (std::size_t layer = 0; layer < caches_.size(); ++layer)
        model().blocks()[layer].forward(x, caches_[layer], mask_, executor(), scratch_);
    } catch (...) {
      truncate(before);
      throw;
    }
    return x;
  }
  void truncate(Index seqlen) override {
    for (Cache& cache : caches_)
      if (cache.seqlen() > seqlen) cache.truncate(seqlen);
  }

  Index seqlen() const override { return caches_.front().seqlen(); }
  Index capacity() const override { return capacity_; }
  std::size_t bytes() const override {
    std::size_t sum = 0;
    for (const Cache& cache : caches_) sum += cache.bytes() + cache.table_bytes();
    return sum;
  }
  std::size_t bytes_per_token() const override {
    return caches_.size() * caches_.front().bytes_per_token();
  }

 private:
  Index capacity_;
  heed::SinkWindowMask mask_;
  std::vector<Cache> caches_;  // of each layer
  Scratch scratch_;
};

/// \throws std::invalid_argument if the model's caches cannot store the element
template <class Element>
std::unique_ptr<Context> make_context_of(const Model& model, const ContextOptions& options) {
  if (const auto* grouped = std::get_if<heed::GroupedShape>(&model.shape().attention))
    return std::make_unique<ContextOf<heed::FullKv<>, Element>>(model, options,
                                                                heed::kv_entry(*grouped));
  const auto& latent = std::get<heed::LatentShape>(model.shape().attention);
  if constexpr (heed::CanStore<heed::LatentKv<>, Element>)
    return std::make_unique<ContextOf<heed::LatentKv<>, Element>>(model, options,
                                                                  heed::kv_entry(latent));
  else
    throw std::invalid_argument("a latent cache cannot store '" + options.element + "'");
}

}  // namespace smollm2
