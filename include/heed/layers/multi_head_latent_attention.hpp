// SPDX-License-Identifier: MIT
/// \file
/// Multi-head latent attention (MLA, also MHLA) as a layer. Layer 6, public.
#pragma once

#include <optional>
#include <ranges>
#include <span>
#include <string_view>

#include "heed/attention/attend.hpp"
#include "heed/cache/kv_cache.hpp"
#include "heed/layers/latent_attention.hpp"

namespace heed {

/// Attention whose keys and values are made from a latent c_KV, which alone is cached, together
/// with one rotated key for all heads.
///
///     constexpr heed::LatentShape v2_lite{.model_dim = 2048, .num_heads = 16, .latent_dim = 512,
///                                         .rope_dim = 64, .nope_dim = 128, .head_dim_v = 128};
///     heed::MultiHeadLatentAttention<float, v2_lite> mla{weights, rope};
///     heed::KvCache<heed::LatentKv<512, 64>> cache{8192};
///     mla.forward(prompt, cache, heed::CausalMask{}, out);
///
/// \tparam T      float or double
/// \tparam fixed  the shape; fields left `dynamic` come with the constructor's shape
///
/// | pass                                    | keys and values made from the latents             |
/// | --------------------------------------- | ------------------------------------------------- |
/// | forward(x, cache, mask, out)            | x's are appended to those cached                  |
/// | forward(x, mask, out)                   | x's own: training, encoders                       |
/// | forward_batch(x, sequences, out)        | as the first, for a ragged batch                  |
///
/// A `score` may stand before `out`, and LatentOptions behind it. Otherwise as
/// GroupedQueryAttention.
///
/// Source: DeepSeek-V2 2024, arXiv:2405.04434, section 2.1.
template <class T, LatentShape fixed = LatentShape{.query_latent_dim = dynamic}>
class MultiHeadLatentAttention : public LatentProjections<T> {
  static_assert(std::floating_point<T>, "heed: layers compute in float or double.");
  static_assert(fixed.rope_dim == dynamic || fixed.rope_dim % 2 == 0,
                "heed: rope_dim must be even: RoPE rotates pairs. Put the odd column in nope_dim.");
  using Base = LatentProjections<T>;
  using Base::shape_;
  using Base::weights_;
  using Base::workspace_;

 public:
  /// For a shape known at compile time. \throws ShapeError if a weight does not fit it.
  explicit MultiHeadLatentAttention(const LatentWeights<T>& weights,
                                    std::optional<Rope> rope = std::nullopt)
      : Base(fixed, weights, std::move(rope)) {}
  /// For a shape known at run time. \throws ShapeError if it contradicts `fixed` or a weight.
  MultiHeadLatentAttention(const LatentShape& shape, const LatentWeights<T>& weights,
                           std::optional<Rope> rope = std::nullopt)
      : Base(matching(shape), weights, std::move(rope)) {}

  /// Appends the latents of x [seqlen_q, model_dim] to the cache, and attends to all it holds.
  /// \param cache  KvCache<LatentKv<...>, Element>, of any element that T computes
  /// \param mask   what each row sees of all that the cache then holds (policy/mask.hpp)
  /// \param out    [seqlen_q, out of weights.out], overwritten; may be x
  /// \throws ShapeError, CapacityError, PoolExhaustedError, ElementError
  template <PageSource Cache, class Mask, class Score>
  void forward(RowsView<const T> x, Cache& cache, const Mask& mask, const Score& score,
               RowsView<T> out, const LatentOptions& options = {}) const;
  template <PageSource Cache, class Mask>
  void forward(RowsView<const T> x, Cache& cache, const Mask& mask, RowsView<T> out,
               const LatentOptions& options = {}) const {
    forward(x, cache, mask, this->softmax_scale(), out, options);
  }

  /// Self-attention without a cache: one for latents is made for the call, so this allocates. Keep
  /// a cache and `clear()` it to be without. \throws ShapeError before anything is written.
  template <class Mask, class Score>
  void forward(RowsView<const T> x, const Mask& mask, const Score& score, RowsView<T> out,
               const LatentOptions& options = {}) const {
    detail::require_no_cache<Mask>();
    KvCache<LatentKv<>, T> latents(x.rows, kv_entry(shape_));
    forward(x, latents, mask, score, out, options);
  }
  template <class Mask>
  void forward(RowsView<const T> x, const Mask& mask, RowsView<T> out,
               const LatentOptions& options = {}) const {
    forward(x, mask, this->softmax_scale(), out, options);
  }

  /// The sequences' rows of x and out follow one another; each has its own cache and mask.
  /// Projections run over all at once; `options.positions`, if given, is of all. Sequences on the
  /// absorbed path are attended to together, and read the pages that their caches share once.
  /// \param sequences  a span, vector or array of BatchSequence \throws as `forward` with a cache
  template <std::ranges::contiguous_range Sequences, class Score>
  void forward_batch(RowsView<const T> x, const Sequences& sequences, const Score& score,
                     RowsView<T> out, const LatentOptions& options = {}) const {
    forward_each(x, detail::batch_of(sequences), score, out, options);
  }
  template <std::ranges::contiguous_range Sequences>
  void forward_batch(RowsView<const T> x, const Sequences& sequences, RowsView<T> out,
                     const LatentOptions& options = {}) const {
    forward_each(x, detail::batch_of(sequences), this->softmax_scale(), out, options);
  }

 private:
  static LatentShape matching(const LatentShape& given) {
    detail::require_shape(
        "MultiHeadLatentAttention",
        "shape [model_dim, num_heads, latent_dim, rope_dim, nope_dim, head_dim_v, "
        "query_latent_dim]",
        {given.model_dim, given.num_heads, given.latent_dim, given.rope_dim, given.nope_dim,
         given.head_dim_v, given.query_latent_dim},
        {fixed_or(fixed.model_dim, given.model_dim), fixed_or(fixed.num_heads, given.num_heads),
         fixed_or(fixed.latent_dim, given.latent_dim), fixed_or(fixed.rope_dim, given.rope_dim),
         fixed_or(fixed.nope_dim, given.nope_dim), fixed_or(fixed.head_dim_v, given.head_dim_v),
         fixed_or(fixed.query_latent_dim, given.query_latent_dim)});
    return given;
  }
  template <class Cache>
  void check_cache(std::string_view where, const Cache& cache) const {
    detail::require_shape(where, "cache [latent_dim, latent_dim + rope_dim]",
                          {cache.head_dim_v(), cache.head_dim()},
                          {shape_.latent_dim, this->latent_width()});
  }
  template <class Cache, class Mask, class Score>
  void forward_each(RowsView<const T> x, std::span<const BatchSequence<Cache, Mask>> sequences,
                    const Score& score, RowsView<T> out, const LatentOptions& options) const {
    detail::require_writable<Cache>();
    detail::require_cache_and_score<T, KeyLayout::row_major, Cache, Score>();
    constexpr auto where = "MultiHeadLatentAttention::forward_batch";
    detail::check_in_and_out<T>(where, x, shape_.model_dim, out, weights_.out.out());
    const Index rows = detail::check_batch(where, sequences, score, shape_.num_heads,
                                           [&](const Cache& cache) { check_cache(where, cache); });
    detail::require_rows(where, "x [sum of the sequences' seqlen, model_dim]", x, rows, x.cols);
    const detail::BatchPositions<Cache, Mask> positions{sequences, options.positions};
    Workspace& workspace = detail::workspace_or(options.workspace, workspace_);
    detail::Matrices<T> scratch(workspace, this->elements(rows));
    const auto [query, latent, heads] = this->take(scratch, rows);
    this->project_query(x, query, positions, options.executor, &workspace);
    this->project_latent(x, latent, positions, options.executor);
    detail::BorrowedList<detail::AppendGuard<Cache>> guards(workspace, sequences.size());
    Index begin = 0;
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      const auto& sequence = sequences[i];
      const RowsView<T> own = latent.middle_rows(begin, sequence.seqlen);
      detail::for_sequence(where, i,
                           [&] { sequence.cache->append(this->c_kv(own), this->k_rope(own)); });
      guards.add({*sequence.cache, sequence.seqlen});
      begin += sequence.seqlen;
    }
    const detail::LatentPass<T, Score> pass{*this, score, options, workspace};
    pass.attend_batch(sequences, split_heads(query, shape_.num_heads),
                      split_heads(heads, shape_.num_heads));
    weights_.out.apply(heads, out, options.executor);
    for (auto& guard : guards.writable()) guard.keep();
  }
};

// Not inline, so that a project may declare it `extern template`: see the README's Big projects.
template <class T, LatentShape fixed>
template <PageSource Cache, class Mask, class Score>
void MultiHeadLatentAttention<T, fixed>::forward(RowsView<const T> x, Cache& cache,
                                                 const Mask& mask, const Score& score,
                                                 RowsView<T> out,
                                                 const LatentOptions& options) const {
  constexpr auto where = "MultiHeadLatentAttention::forward";
  detail::require_writable<Cache>();
  detail::require_cache_and_score<T, KeyLayout::row_major, Cache, Score>();
  check_cache(where, cache);
  detail::check_in_and_out<T>(where, x, shape_.model_dim, out, weights_.out.out());
  cache.require_room(x.rows);
  detail::check_policies(where, x.rows, cache, mask, score, shape_.num_heads);
  const RowPositions positions{options.positions, cache.seqlen()};
  Workspace& workspace = detail::workspace_or(options.workspace, workspace_);
  detail::Matrices<T> scratch(workspace, this->elements(x.rows));
  const auto [query, latent, heads] = this->take(scratch, x.rows);
  this->project_query(x, query, positions, options.executor, &workspace);
  this->project_latent(x, latent, positions, options.executor);
  cache.append(this->c_kv(latent), this->k_rope(latent));
  detail::AppendGuard guard(cache, x.rows);
  const detail::LatentPass<T, Score> pass{*this, score, options, workspace};
  pass.attend(split_heads(query, shape_.num_heads), std::as_const(cache), mask,
              split_heads(heads, shape_.num_heads));
  weights_.out.apply(heads, out, options.executor);
  guard.keep();
}

}  // namespace heed
