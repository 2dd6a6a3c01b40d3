// SPDX-License-Identifier: MIT
/// \file
/// Grouped-query attention as a layer, and with it MHA and MQA. Layer 6, public.
#pragma once

#include <optional>
#include <ranges>
#include <span>
#include <string_view>

#include "heed/attention/attend.hpp"
#include "heed/layers/grouped_projections.hpp"

namespace heed {

/// Attention in which num_heads query heads share num_kv_heads key/value heads. num_kv_heads =
/// num_heads is MHA, num_kv_heads = 1 is MQA.
///
///     constexpr heed::GroupedShape llama3{
///         .model_dim = 4096, .num_heads = 32, .num_kv_heads = 8, .head_dim = 128};
///     heed::GroupedQueryAttention<float, llama3> attention{weights, rope};
///     attention.forward(prompt, cache, heed::CausalMask{}, out);
///
/// \tparam T      float or double
/// \tparam fixed  the shape; fields left `dynamic` come with the constructor's shape
///
/// | pass                                                | keys and values                       |
/// | --------------------------------------------------- | ------------------------------------- |
/// | forward(x, cache, mask, out)                        | x's are appended to those cached      |
/// | forward(x, mask, out)                               | x's own: training, encoders           |
/// | forward_batch(x, sequences, out)                    | as the first, for a ragged batch      |
/// | forward_cross(x, key_input, value_input, mask, out) | of a second input                     |
/// | forward_cross(x, memory, mask, out)                 | of one that append_memory has cached  |
///
/// A `score` may stand before `out`: a number for another softmax scale than the layer's, or a
/// policy that contains the scale (policy/score.hpp). `out` is [rows of x, out of weights.out], as
/// wide as x but for a projection of your own, overwritten, and may be x but in forward_cross.
/// A pass that throws ShapeError or CapacityError leaves cache and out as they were. If a number
/// cannot be stored, or a pool or an executor fails on the way, it takes its tokens back; a cache
/// with a window may then hide tokens that only earlier queries saw, and one with scales per
/// channel goes on as KvCache::truncate says. Passes on different caches may run at the same time.
/// Scratch is kept from pass to pass: 2 num_heads + 2 num_kv_heads heads a row of x, in which they
/// are projected. Layers that run one after another can share it (ForwardOptions::workspace).
///
/// Source: Ainslie et al. 2023, arXiv:2305.13245; Vaswani et al. 2017, arXiv:1706.03762, sections
/// 3.2.2 and 3.2.3; Shazeer 2019, arXiv:1911.02150.
template <class T, GroupedShape fixed = GroupedShape{}>
class GroupedQueryAttention : public GroupedProjections<T> {
  static_assert(std::floating_point<T>, "heed: layers compute in float or double.");
  static_assert(
      fixed.num_heads == dynamic || fixed.num_kv_heads == dynamic ||
          (fixed.num_kv_heads > 0 && fixed.num_heads % fixed.num_kv_heads == 0),
      "heed: num_kv_heads must divide num_heads: every key/value head serves as many query heads.");
  using Base = GroupedProjections<T>;
  using Base::rope_;
  using Base::shape_;
  using Base::weights_;

 public:
  /// For a shape known at compile time. \throws ShapeError if a weight does not fit it.
  explicit GroupedQueryAttention(const GroupedWeights<T>& weights,
                                 std::optional<Rope> rope = std::nullopt)
      : Base(fixed, weights, std::move(rope)) {}
  /// For a shape known at run time. \throws ShapeError if it contradicts `fixed` or a weight.
  GroupedQueryAttention(const GroupedShape& shape, const GroupedWeights<T>& weights,
                        std::optional<Rope> rope = std::nullopt)
      : Base(matching(shape), weights, std::move(rope)) {}

  /// Appends the keys and values of x [seqlen_q, model_dim] to the cache, and attends to all it
  /// holds.
  /// \param cache  KvCache<FullKv<...>, Element>, of any element that T computes (base/element.hpp)
  /// \param mask   what each row sees of all that the cache then holds (policy/mask.hpp)
  /// \param out    [seqlen_q, out of weights.out], overwritten
  /// \throws ShapeError, CapacityError, PoolExhaustedError, ElementError
  template <PageSource Cache, class Mask, class Score>
  void forward(RowsView<const T> x, Cache& cache, const Mask& mask, const Score& score,
               RowsView<T> out, const ForwardOptions& options = {}) const;
  template <PageSource Cache, class Mask>
  void forward(RowsView<const T> x, Cache& cache, const Mask& mask, RowsView<T> out,
               const ForwardOptions& options = {}) const {
    forward(x, cache, mask, this->softmax_scale(), out, options);
  }

  /// Self-attention without a cache. \throws ShapeError before anything is written.
  template <class Mask, class Score>
  void forward(RowsView<const T> x, const Mask& mask, const Score& score, RowsView<T> out,
               ForwardOptions options = {}) const {
    detail::require_no_cache<Mask>();
    options.memory_positions = options.positions;
    forward_between("GroupedQueryAttention::forward", x, x, x, mask, score, out, options);
  }
  template <class Mask>
  void forward(RowsView<const T> x, const Mask& mask, RowsView<T> out,
               const ForwardOptions& options = {}) const {
    forward(x, mask, this->softmax_scale(), out, options);
  }

  /// The sequences' rows of x and out follow one another; each has its own cache and mask.
  /// Projections run over all at once; `options.positions`, if given, is of all. Pages that the
  /// caches share (KvCache::fork, KvCache::assign_prefix) are read once for all.
  /// \param sequences  a span, vector or array of BatchSequence \throws as `forward` with a cache
  template <std::ranges::contiguous_range Sequences, class Score>
  void forward_batch(RowsView<const T> x, const Sequences& sequences, const Score& score,
                     RowsView<T> out, const ForwardOptions& options = {}) const {
    forward_each(x, detail::batch_of(sequences), score, out, options);
  }
  template <std::ranges::contiguous_range Sequences>
  void forward_batch(RowsView<const T> x, const Sequences& sequences, RowsView<T> out,
                     const ForwardOptions& options = {}) const {
    forward_each(x, detail::batch_of(sequences), this->softmax_scale(), out, options);
  }

  /// Queries from x [seqlen_q, model_dim], keys and values from a second input.
  /// \param key_input    [seqlen_kv, width of weights.key]
  /// \param value_input  [seqlen_kv, width of weights.value]; often the same rows
  /// \throws ShapeError before anything is written.
  template <class Mask, class Score>
  void forward_cross(RowsView<const T> x, RowsView<const T> key_input,
                     RowsView<const T> value_input, const Mask& mask, const Score& score,
                     RowsView<T> out, const ForwardOptions& options = {}) const {
    forward_between("GroupedQueryAttention::forward_cross", x, key_input, value_input, mask, score,
                    out, options);
  }
  template <class Mask>
  void forward_cross(RowsView<const T> x, RowsView<const T> key_input,
                     RowsView<const T> value_input, const Mask& mask, RowsView<T> out,
                     const ForwardOptions& options = {}) const {
    forward_cross(x, key_input, value_input, mask, this->softmax_scale(), out, options);
  }

  /// Queries from x, keys and values from a cached memory, which stays as it is. \throws ShapeError
  template <PageSource Cache, class Mask, class Score>
  void forward_cross(RowsView<const T> x, const Cache& memory, const Mask& mask, const Score& score,
                     RowsView<T> out, const ForwardOptions& options = {}) const {
    constexpr auto where = "GroupedQueryAttention::forward_cross";
    detail::require_cache_and_score<T, KeyLayout::transposed, Cache, Score>();
    check_cache(where, memory);
    detail::check_in_and_out<T>(where, x, shape_.model_dim, out, weights_.out.out());
    detail::Matrices<T> scratch(workspace(options), this->elements(x.rows, 0));
    const RowsView<T> query = scratch.take(x.rows, this->query_width());
    const RowsView<T> heads = scratch.take(x.rows, this->heads_width());
    this->project_query(x, query, RowPositions{options.positions}, options.executor);
    attend(split_heads(query, shape_.num_heads), memory, mask, score,
           split_heads(heads, shape_.num_heads), attend_options(options));
    weights_.out.apply(heads, out, options.executor);
  }
  template <PageSource Cache, class Mask>
  void forward_cross(RowsView<const T> x, const Cache& memory, const Mask& mask, RowsView<T> out,
                     const ForwardOptions& options = {}) const {
    forward_cross(x, memory, mask, this->softmax_scale(), out, options);
  }
  /// Appends the keys and values of a second input to a memory, for the forward_cross passes of a
  /// decoder. \param key_input, value_input  as for forward_cross
  /// \throws ShapeError, CapacityError, PoolExhaustedError, ElementError; the memory is as it was.
  template <PageSource Cache>
  void append_memory(RowsView<const T> key_input, RowsView<const T> value_input, Cache& memory,
                     const ForwardOptions& options = {}) const {
    constexpr auto where = "GroupedQueryAttention::append_memory";
    detail::require_cache<T, KeyLayout::transposed, Cache>();
    check_cache(where, memory);
    check_memory(where, key_input, value_input);
    memory.require_room(key_input.rows);
    detail::Matrices<T> scratch(workspace(options), this->elements(0, key_input.rows));
    const RowsView<T> key = scratch.take(key_input.rows, this->key_width());
    const RowsView<T> value = scratch.take(key_input.rows, this->value_width());
    this->project_key_value(key_input, value_input, key, value,
                            RowPositions{options.memory_positions, memory.seqlen()},
                            options.executor);
    memory.append(split_heads(key, shape_.num_kv_heads), split_heads(value, shape_.num_kv_heads));
  }

 private:
  /// \param where  the public function that was called
  template <class Mask, class Score>
  void forward_between(std::string_view where, RowsView<const T> x, RowsView<const T> key_input,
                       RowsView<const T> value_input, const Mask& mask, const Score& score,
                       RowsView<T> out, const ForwardOptions& options) const {
    detail::require_scaled<Score>();
    detail::check_in_and_out<T>(where, x, shape_.model_dim, out, weights_.out.out());
    check_memory(where, key_input, value_input);
    const Index seqlen_q = x.rows, seqlen_kv = key_input.rows;
    detail::Matrices<T> scratch(workspace(options), this->elements(seqlen_q, seqlen_kv));
    const auto [query, key, value, heads] = this->take(scratch, seqlen_q, seqlen_kv);
    this->project_query(x, query, RowPositions{options.positions}, options.executor);
    this->project_key_value(key_input, value_input, key, value,
                            RowPositions{options.memory_positions}, options.executor);
    attend(split_heads(query, shape_.num_heads), split_heads(key, shape_.num_kv_heads),
           split_heads(value, shape_.num_kv_heads), mask, score,
           split_heads(heads, shape_.num_heads), attend_options(options));
    weights_.out.apply(heads, out, options.executor);
  }

  void check_memory(std::string_view where, RowsView<const T> key_input,
                    RowsView<const T> value_input) const {
    detail::require_rows(where, "key_input [seqlen_kv, in of weights.key]", key_input,
                         key_input.rows, weights_.key.in());
    detail::require_rows(where, "value_input [seqlen_kv, in of weights.value]", value_input,
                         key_input.rows, weights_.value.in());
  }
  static GroupedShape matching(const GroupedShape& given) {
    detail::require_shape(
        "GroupedQueryAttention", "shape [model_dim, num_heads, num_kv_heads, head_dim, head_dim_v]",
        {given.model_dim, given.num_heads, given.num_kv_heads, given.head_dim, given.head_dim_v},
        {fixed_or(fixed.model_dim, given.model_dim), fixed_or(fixed.num_heads, given.num_heads),
         fixed_or(fixed.num_kv_heads, given.num_kv_heads), fixed_or(fixed.head_dim, given.head_dim),
         fixed_or(fixed.head_dim_v, given.head_dim_v)});
    return given;
  }
  template <class Cache>
  void check_cache(std::string_view where, const Cache& cache) const {
    detail::require_shape(where, "cache [num_kv_heads, head_dim, head_dim_v]",
                          {cache.num_kv_heads(), cache.head_dim(), cache.head_dim_v()},
                          {shape_.num_kv_heads, shape_.head_dim, shape_.head_dim_v});
  }
  template <class Cache, class Mask, class Score>
  void forward_each(RowsView<const T> x, std::span<const BatchSequence<Cache, Mask>> sequences,
                    const Score& score, RowsView<T> out, const ForwardOptions& options) const {
    detail::require_writable<Cache>();
    detail::require_cache_and_score<T, KeyLayout::transposed, Cache, Score>();
    constexpr auto where = "GroupedQueryAttention::forward_batch";
    detail::check_in_and_out<T>(where, x, shape_.model_dim, out, weights_.out.out());
    const Index rows = detail::check_batch(where, sequences, score, shape_.num_heads,
                                           [&](const Cache& cache) { check_cache(where, cache); });
    detail::require_rows(where, "x [sum of the sequences' seqlen, model_dim]", x, rows, x.cols);
    const detail::BatchPositions<Cache, Mask> positions{sequences, options.positions};
    detail::Matrices<T> scratch(workspace(options), this->elements(rows, rows));
    const auto [query, key, value, heads] = this->take(scratch, rows, rows);
    this->project_query(x, query, positions, options.executor);
    this->project_key_value(x, x, key, value, positions, options.executor);

    detail::BorrowedList<AttendSequence<T, Cache, Mask>> attends(workspace(options),
                                                                 sequences.size());
    detail::BorrowedList<detail::AppendGuard<Cache>> guards(workspace(options), sequences.size());
    Index begin = 0;
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      const auto& sequence = sequences[i];
      const auto own = [&](RowsView<T> all, Index num_heads) {
        return split_heads(all.middle_rows(begin, sequence.seqlen), num_heads);
      };
      detail::for_sequence(where, i, [&] {
        sequence.cache->append(own(key, shape_.num_kv_heads), own(value, shape_.num_kv_heads));
      });
      guards.add({*sequence.cache, sequence.seqlen});
      attends.add({own(query, shape_.num_heads), sequence.cache, sequence.mask,
                   own(heads, shape_.num_heads)});
      begin += sequence.seqlen;
    }
    attend_batch(attends.all(), score, attend_options(options));
    weights_.out.apply(heads, out, options.executor);
    for (auto& guard : guards.writable()) guard.keep();
  }
  Workspace& workspace(const ForwardOptions& options) const {
    return detail::workspace_or(options.workspace, workspace_);
  }
  AttendOptions<T> attend_options(const ForwardOptions& options) const {
    return {
        .sinks = weights_.sinks, .executor = options.executor, .workspace = &workspace(options)};
  }

  mutable Workspace workspace_;
};

// Not inline, so that a project may declare it `extern template`: see the README's Big projects.
template <class T, GroupedShape fixed>
template <PageSource Cache, class Mask, class Score>
void GroupedQueryAttention<T, fixed>::forward(RowsView<const T> x, Cache& cache, const Mask& mask,
                                              const Score& score, RowsView<T> out,
                                              const ForwardOptions& options) const {
  constexpr auto where = "GroupedQueryAttention::forward";
  detail::require_writable<Cache>();
  detail::require_cache_and_score<T, KeyLayout::transposed, Cache, Score>();
  check_cache(where, cache);
  detail::check_in_and_out<T>(where, x, shape_.model_dim, out, weights_.out.out());
  cache.require_room(x.rows);
  detail::check_policies(where, x.rows, cache, mask, score, shape_.num_heads);
  const RowPositions positions{options.positions, cache.seqlen()};
  detail::Matrices<T> scratch(workspace(options), this->elements(x.rows, x.rows));
  const auto [query, key, value, heads] = this->take(scratch, x.rows, x.rows);
  this->project_query(x, query, positions, options.executor);
  this->project_key_value(x, x, key, value, positions, options.executor);
  cache.append(split_heads(key, shape_.num_kv_heads), split_heads(value, shape_.num_kv_heads));
  detail::AppendGuard guard(cache, x.rows);
  attend(split_heads(query, shape_.num_heads), std::as_const(cache), mask, score,
         split_heads(heads, shape_.num_heads), attend_options(options));
  weights_.out.apply(heads, out, options.executor);
  guard.keep();
}

/// Multi-head attention: every query head has a key/value head of its own (which is not checked for
/// a shape that comes at run time).
/// Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2.
template <class T, Index model_dim = dynamic, Index num_heads = dynamic, Index head_dim = dynamic>
using MultiHeadAttention = GroupedQueryAttention<T, multi_head(model_dim, num_heads, head_dim)>;

/// Multi-query attention: one key/value head for all query heads.
/// Source: Shazeer 2019, arXiv:1911.02150.
template <class T, Index model_dim = dynamic, Index num_heads = dynamic, Index head_dim = dynamic>
using MultiQueryAttention = GroupedQueryAttention<T, multi_query(model_dim, num_heads, head_dim)>;

}  // namespace heed
