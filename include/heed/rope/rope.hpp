// SPDX-License-Identifier: MIT
/// \file
/// Rotary position embedding: turning the columns of queries and keys by their position. Layer 2,
/// public.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

#include "heed/base/error.hpp"        // detail::require_shape, detail::throw_shape_error
#include "heed/base/views.hpp"        // HeadsView, detail::ViewElementOf
#include "heed/rope/cos_sin.hpp"      // cos_sin, look_up, CosSinTable
#include "heed/rope/frequencies.hpp"  // RopeFrequencies
#include "heed/rope/pairing.hpp"      // RopePairing
#include "heed/rope/scaling.hpp"      // RopeScaling, frequencies
#include "heed/rope/turn.hpp"         // Turn, turn_pairs

namespace heed {

/// What a model's config says of its RoPE.
struct RopeOptions {
  Index rope_dim = 0;     ///< required: columns of a head that are rotated; even
  double theta = 10'000;  ///< `rope_theta`, above 1
  RopePairing pairing = RopePairing::half_split;  ///< which columns turn together
  RopeScaling scaling = UnscaledRope{};           ///< for sequences longer than those trained on
};

/// Rotary position embedding. At position p, pair i of a head's columns turns by the angle
/// a = p * inverse_frequency[i], so that the score of a query and a key depends on how far apart
/// they are and not on where:
///
///     (first, second)  ->  s * (first cos a - second sin a, first sin a + second cos a)
///
/// with the attention_scaling s of `RopeFrequencies`, which is 1 but for YaRN and LongRoPE.
///
///     const heed::Rope rope{{.rope_dim = 128, .theta = 500'000}};
///     rope.rotate(query, first_position);   // query: [num_heads, seqlen, head_dim], in place
///
/// Angles, cos and sin are computed in double and rounded once; the elements may be float or
/// double. An object never changes but by assignment, so threads may share it. Copies are cheap and
/// share the table.
///
/// Source: Su et al. 2021, arXiv:2104.09864, section 3.4.2.
class Rope {
 public:
  /// \throws ShapeError if rope_dim is odd, or a field is missing or out of range.
  explicit Rope(RopeOptions options)
      : options_(std::move(options)), constant_until_(detail::constant_until(options_.scaling)) {
    trained_.frequencies = frequencies(options_.rope_dim, options_.theta, options_.scaling, 0);
    if (std::holds_alternative<LongRopeScaling>(options_.scaling))
      extended_.frequencies =
          frequencies(options_.rope_dim, options_.theta, options_.scaling, constant_until_ + 1);
  }

  // No move operations: what is moved from would have lost its frequencies.
  Rope(const Rope&) = default;
  Rope& operator=(const Rope&) = default;

  const RopeOptions& options() const noexcept { return options_; }

  /// The same Rope with a table of the cos and sin of positions below max_positions, so that float
  /// elements need no trigonometry there. Results are the same, bit for bit. Takes 4 rope_dim bytes
  /// per position, up to twice that with LongRopeScaling. Other positions, and sequences that
  /// DynamicNtkScaling stretches, are computed as before.
  /// \throws ShapeError unless max_positions is 0 to 2^32.
  [[nodiscard]] Rope tabulate(Index max_positions) const {
    constexpr Index most = Index{1} << 32;
    detail::require_number(0 <= max_positions && max_positions <= most, "Rope::tabulate",
                           "max_positions", max_positions, "0 to 2^32");
    Rope rope = *this;
    rope.trained_.table = std::make_shared<const detail::CosSinTable>(
        trained_.frequencies, std::min(max_positions, constant_until_));
    if (max_positions > constant_until_ && !extended_.frequencies.inverse_frequency.empty())
      rope.extended_.table =
          std::make_shared<const detail::CosSinTable>(extended_.frequencies, max_positions);
    return rope;
  }

  /// Rotates the first rope_dim columns of every row, in place; the others stay as they are. For
  /// columns elsewhere pass `heads.middle_cols(begin, rope_dim)`.
  ///
  /// \param heads      [num_heads, seqlen, head_dim] of float or double, head_dim >= rope_dim; a
  ///                   HeadsView, or a RowsView or row-major Eigen matrix as one head: one of
  ///                   several heads must come as split_heads(matrix, num_heads), or the first
  ///                   alone turns
  /// \param positions  [seqlen], the position of each row, in any order
  /// \param seqlen     length of the whole sequence, which DynamicNtkScaling and LongRopeScaling go
  ///                   by; absent, the highest position + 1. To give blocks of the rows to several
  ///                   threads, tell each the seqlen of all
  /// \throws ShapeError before anything is written if a shape does not fit, or a position is beyond
  /// an Index.
  /// Cost: 3 rope_dim flops a row and head; a cos and a sin per pair and row without a table.
  /// Allocates nothing.
  template <class Heads>
  void rotate(Heads&& heads, std::span<const Index> positions,
              std::optional<Index> seqlen = std::nullopt) const {
    turn_at<detail::Turn::forward>("Rope::rotate", std::forward<Heads>(heads), positions, seqlen);
  }
  /// The same for rows at first_position, first_position + 1, ...
  template <class Heads>
  void rotate(Heads&& heads, Index first_position,
              std::optional<Index> seqlen = std::nullopt) const {
    turn_from<detail::Turn::forward>("Rope::rotate", std::forward<Heads>(heads), first_position,
                                     seqlen);
  }

  /// The transpose of `rotate`: turns back by the same angles, and multiplies by the same
  /// attention_scaling s. It takes the gradient of the rotated columns to that of the columns
  /// before; after `rotate`, it gives them back times s^2. Arguments as for `rotate`.
  template <class Heads>
  void rotate_inverse(Heads&& heads, std::span<const Index> positions,
                      std::optional<Index> seqlen = std::nullopt) const {
    turn_at<detail::Turn::backward>("Rope::rotate_inverse", std::forward<Heads>(heads), positions,
                                    seqlen);
  }
  template <class Heads>
  void rotate_inverse(Heads&& heads, Index first_position,
                      std::optional<Index> seqlen = std::nullopt) const {
    turn_from<detail::Turn::backward>("Rope::rotate_inverse", std::forward<Heads>(heads),
                                      first_position, seqlen);
  }

 private:
  /// Pairs whose cos and sin are held on the stack at a time; every published rope_dim fits at
  /// once.
  static constexpr Index max_pairs = 256;

  /// Frequencies that serve many calls, and their table if there is one.
  struct Stored {
    RopeFrequencies frequencies;
    std::shared_ptr<const detail::CosSinTable> table;
  };

  template <detail::Turn turn, class Heads>
  void turn_at(const char* where, Heads&& heads, std::span<const Index> positions,
               std::optional<Index> seqlen) const {
    const auto view = writable(where, std::forward<Heads>(heads));
    detail::require_shape(where, "positions [seqlen]", {std::ssize(positions)}, {view.rows});
    if (positions.empty()) return;
    const Index last = std::min(std::ranges::max(positions), std::numeric_limits<Index>::max() - 1);
    turn_rows<turn>(view, seqlen.value_or(last + 1),
                    [&](Index row) { return positions[static_cast<std::size_t>(row)]; });
  }

  template <detail::Turn turn, class Heads>
  void turn_from(const char* where, Heads&& heads, Index first_position,
                 std::optional<Index> seqlen) const {
    const auto view = writable(where, std::forward<Heads>(heads));
    detail::require_number(first_position <= std::numeric_limits<Index>::max() - view.rows, where,
                           "first_position", first_position, "one that rows can follow on");
    turn_rows<turn>(view, seqlen.value_or(first_position + view.rows),
                    [&](Index row) { return first_position + row; });
  }

  /// The heads as a view whose columns suffice.
  template <class Heads>
  auto writable(const char* where, Heads&& heads) const {
    using T = typename detail::ViewElementOf<std::remove_cvref_t<Heads>>::type;
    static_assert(!std::is_const_v<T>,
                  "heed: RoPE rotates in place, so it needs a view of elements it may write: "
                  "HeadsView<float>, not HeadsView<const float>.");
    static_assert(std::same_as<T, float> || std::same_as<T, double> || std::is_const_v<T>,
                  "heed: RoPE rotates float or double. Rotate keys before they are appended to a "
                  "cache of 16-bit or 8-bit elements.");
    const HeadsView<T> view(std::forward<Heads>(heads));
    detail::require_not_negative(where, "heads [num_heads, seqlen, head_dim]", view);
    if (view.cols < options_.rope_dim)
      detail::throw_shape_error(where, "heads [num_heads, seqlen, head_dim]",
                                detail::shape_text({view.num_heads, view.rows, view.cols}),
                                "head_dim >= rope_dim = " + std::to_string(options_.rope_dim));
    return view;
  }

  /// Turns every row, max_pairs pairs at a time; cos and sin of a row serve all heads.
  template <detail::Turn turn, class T, class PositionOf>
  void turn_rows(const HeadsView<T>& heads, Index seqlen, PositionOf position_of) const {
    const bool longer = seqlen > constant_until_;
    const auto* ntk = longer ? std::get_if<DynamicNtkScaling>(&options_.scaling) : nullptr;
    const Stored& stored = longer && ntk == nullptr ? extended_ : trained_;
    const auto* table = ntk == nullptr ? stored.table.get() : nullptr;
    const Index num_pairs = options_.rope_dim / 2;
    std::array<double, max_pairs> stretched;
    std::array<T, max_pairs> cosine, sine;
    for (Index begin = 0; begin < num_pairs; begin += max_pairs) {
      const Index count = std::min(max_pairs, num_pairs - begin);
      const double* inverse_frequency = stored.frequencies.inverse_frequency.data() + begin;
      if (ntk != nullptr) {
        stretch(*ntk, seqlen, begin, count, stretched.data());
        inverse_frequency = stretched.data();
      }
      for (Index row = 0; row < heads.rows; ++row) {
        const Index position = position_of(row);
        detail::CosSin<T> turns{cosine.data(), sine.data()};
        if (!detail::look_up(table, position, begin, turns))
          detail::cos_sin(position, inverse_frequency, count, stored.frequencies.attention_scaling,
                          cosine.data(), sine.data());
        for (Index head = 0; head < heads.num_heads; ++head)
          detail::turn_pairs<turn>(heads.row(head, row), options_.pairing, options_.rope_dim, begin,
                                   count, turns);
      }
    }
  }

  /// The frequencies of the pairs begin .. begin + count at this seqlen; the same bits as
  /// `frequencies` gives, without its allocation.
  void stretch(const DynamicNtkScaling& ntk, Index seqlen, Index begin, Index count,
               double* inverse_frequency) const {
    const double theta = detail::dynamic_ntk_theta(options_.rope_dim, options_.theta, ntk, seqlen);
    for (Index pair = 0; pair < count; ++pair)
      inverse_frequency[pair] = detail::base_frequency(options_.rope_dim, theta, begin + pair);
  }

  RopeOptions options_;
  Index constant_until_;  // the longest sequence that trained_ serves
  Stored trained_;
  Stored extended_;  // what LongRopeScaling uses beyond; empty for the others
};

}  // namespace heed
