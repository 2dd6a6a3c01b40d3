// SPDX-License-Identifier: MIT
/// \file
/// Every mask beside its definition, with random parameters.
#pragma once

#include <memory>
#include <vector>

#include "heed/policy/mask_element.hpp"  // all masks
#include "reference/attention.hpp"       // Visible
#include "support/random.hpp"            // Random

namespace heed::test {

/// A bool for every pair. (std::vector<bool> has none to point at.)
class Booleans {
 public:
  Booleans(Index num_heads, const MaskExtent& extent, Random& random)
      : data_(new bool[static_cast<std::size_t>(num_heads * extent.seqlen_q * extent.seqlen_kv)]),
        view_(data_.get(), num_heads, extent.seqlen_q, extent.seqlen_kv) {
    for (Index i = 0; i < num_heads * extent.seqlen_q * extent.seqlen_kv; ++i)
      data_[static_cast<std::size_t>(i)] = random.uniform() < 0.5;
  }
  HeadsView<const bool> view() const { return view_; }

 private:
  std::unique_ptr<bool[]> data_;
  HeadsView<const bool> view_;
};

inline std::vector<int> random_documents(Index count, Random& random) {
  std::vector<int> documents;
  for (Index i = 0; i < count; ++i) documents.push_back(static_cast<int>(random.integer(0, 3)));
  return documents;
}

/// A user's own mask in the simple form, whose range reaches beyond the keys there are.
struct DiagonalBand {
  KeyRange visible(Index q_row, const MaskExtent&) const noexcept {
    return {2 * q_row - 9, 2 * q_row + 70};
  }
};

/// Calls f(name, mask, definition) for every mask; definition(head, q_row, kv_row) says what may be
/// seen, in the words of the table in policy/mask.hpp.
template <class F>
void for_each_mask(const MaskExtent& extent, Index num_heads, Random& random, const F& f) {
  const auto position = [extent](Index q_row) {
    return extent.seqlen_kv - extent.seqlen_q + q_row;
  };
  const auto causal = [=](Index, Index q_row, Index k) { return k <= position(q_row); };

  f("NoMask", NoMask{}, [](Index, Index, Index) { return true; });
  f("CausalMask", CausalMask{}, causal);
  f("TopLeftCausalMask", TopLeftCausalMask{},
    [](Index, Index q_row, Index k) { return k <= q_row; });

  const SlidingWindowMask window{.window_left = random.integer(0, 150)};
  const auto in_window = [=](Index, Index q_row, Index k) {
    return position(q_row) - window.window_left <= k && k <= position(q_row) + window.window_right;
  };
  f("SlidingWindowMask", window, in_window);
  const SlidingWindowMask two_sided{.window_left = random.integer(0, 70),
                                    .window_right = random.integer(1, 70)};
  f("SlidingWindowMask to both sides", two_sided, [=](Index, Index q_row, Index k) {
    return position(q_row) - two_sided.window_left <= k &&
           k <= position(q_row) + two_sided.window_right;
  });

  const SinkWindowMask sinks{.num_sink_tokens = random.integer(0, 70),
                             .window_left = random.integer(0, 150)};
  f("SinkWindowMask", sinks, [=](Index head, Index q_row, Index k) {
    return causal(head, q_row, k) &&
           (k < sinks.num_sink_tokens || k >= position(q_row) - sinks.window_left);
  });

  const PrefixMask prefix{.prefix_len = random.integer(0, extent.seqlen_kv)};
  f("PrefixMask", prefix, [=](Index head, Index q_row, Index k) {
    return k < prefix.prefix_len || causal(head, q_row, k);
  });

  const Index begin = random.integer(0, extent.seqlen_kv);
  const PaddingMask padding{.begin = begin, .end = random.integer(begin, extent.seqlen_kv)};
  const auto not_padding = [=](Index, Index, Index k) {
    return padding.begin <= k && k < padding.end;
  };
  f("PaddingMask", padding, not_padding);

  const std::vector<int> of_queries = random_documents(extent.seqlen_q, random);
  const std::vector<int> of_keys = random_documents(extent.seqlen_kv, random);
  const DocumentMask documents{of_queries, of_keys};
  const auto same_document = [&](Index, Index q_row, Index k) {
    return of_queries[static_cast<std::size_t>(q_row)] == of_keys[static_cast<std::size_t>(k)];
  };
  f("DocumentMask", documents, same_document);

  const Booleans for_all(1, extent, random), per_head(num_heads, extent, random);
  f("DenseMask", DenseMask{for_all.view()},
    [&](Index, Index q_row, Index k) { return for_all.view()(0, q_row, k); });
  const auto allowed = [&](Index head, Index q_row, Index k) {
    return per_head.view()(head, q_row, k);
  };
  f("DenseMask per head", DenseMask{per_head.view()}, allowed);

  const auto rule = [](Index query_position, Index key_position) {
    return (query_position + 3 * key_position) % 7 < 3;
  };
  f("CustomMask", CustomMask{rule},
    [&](Index, Index q_row, Index k) { return rule(position(q_row), k); });
  f("a mask of a user's own", DiagonalBand{},
    [](Index, Index q_row, Index k) { return 2 * q_row - 9 <= k && k < 2 * q_row + 70; });

  f("both(causal, padding)", both(CausalMask{}, padding), [&](Index head, Index q_row, Index k) {
    return causal(head, q_row, k) && not_padding(head, q_row, k);
  });
  f("both(window, dense per head, documents)", both(window, DenseMask{per_head.view()}, documents),
    [&](Index head, Index q_row, Index k) {
      return in_window(head, q_row, k) && allowed(head, q_row, k) && same_document(head, q_row, k);
    });
}

}  // namespace heed::test
