// SPDX-License-Identifier: MIT
/// \file
/// From the metadata and the mask tensors of a golden case to heed's mask policies.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "golden/case.hpp"               // Case
#include "heed/policy/mask.hpp"          // CausalMask and others
#include "heed/policy/mask_element.hpp"  // DenseMask

namespace heed::golden {

/// What `both` is at compile time, for masks that a file names at run time: the conjunction of the
/// parts. The kernel takes it as it takes any mask that a user writes.
struct AnyMask {
  using Part =
      std::variant<CausalMask, TopLeftCausalMask, SlidingWindowMask, PaddingMask, DenseMask>;
  std::vector<Part> parts = {};
  std::shared_ptr<bool[]> dense = {};  // what a DenseMask among the parts looks at

  KeyRange range(Index q_row, const MaskExtent& extent) const noexcept {
    KeyRange common{0, extent.seqlen_kv};
    for (const Part& part : parts)
      common = intersection(
          common,
          std::visit([&](const auto& mask) { return detail::mask_range(mask, q_row, extent); },
                     part));
    return common;
  }
  std::uint64_t bits(Index head, Index q_row, Index page_begin,
                     const MaskExtent& extent) const noexcept {
    std::uint64_t common = detail::range_bits(range(q_row, extent), page_begin);
    for (const Part& part : parts)
      common &= std::visit(
          [&](const auto& mask) {
            return detail::mask_bits(mask, head, q_row, page_begin, extent);
          },
          part);
    return common;
  }
  bool varies_by_head() const noexcept {
    return std::any_of(parts.begin(), parts.end(), [](const Part& part) {
      return std::visit([](const auto& mask) { return detail::varies_by_head(mask); }, part);
    });
  }
  void check(std::string_view where, Index num_heads, const MaskExtent& extent) const {
    for (const Part& part : parts)
      if (const auto* mask = std::get_if<DenseMask>(&part)) mask->check(where, num_heads, extent);
  }
  bool is_just_causal() const {
    return parts.size() == 1 && std::holds_alternative<CausalMask>(parts[0]);
  }
};

/// Does `mask` let query row `q_row` see key `k`?
inline bool sees(const AnyMask& mask, Index head, Index q_row, Index k, const MaskExtent& extent) {
  const Index in_page = k % page_size;
  return (mask.bits(head, q_row, k - in_page, extent) >> in_page & 1) != 0;
}

/// A tensor over (sequence, head, query, key) whose leading axes may be absent or of size 1.
class PairTable {
 public:
  PairTable(const Case& golden, const std::string& name) {
    const Tensor& tensor = golden.tensor(name);
    std::vector<Index> shape = tensor.shape;
    // torch stacks the heads of all sequences in a mask of three axes.
    if (shape.size() == 3 && shape[0] == golden.batch * golden.num_heads)
      shape = {golden.batch, golden.num_heads, shape[1], shape[2]};
    while (shape.size() < 4) shape.insert(shape.begin(), 1);
    const std::vector<Index> full{golden.batch, golden.num_heads, golden.seqlen_q,
                                  golden.seqlen_kv};
    bool fits = shape.size() == 4 && shape[2] == full[2] && shape[3] == full[3];
    for (std::size_t axis = 0; axis < 2; ++axis)
      fits = fits && (shape[axis] == 1 || shape[axis] == full[axis]);
    if (!fits) throw Case::wrong_shape(tensor, full);
    sequences_ = shape[0], heads_ = shape[1], rows_ = shape[2], cols_ = shape[3];
    data_ = tensor.values<double>();
  }

  Index heads() const { return heads_; }
  double operator()(Index sequence, Index head, Index q, Index k) const {
    const Index s = sequences_ > 1 ? sequence : 0, h = heads_ > 1 ? head : 0;
    return data_[static_cast<std::size_t>(((s * heads_ + h) * rows_ + q) * cols_ + k)];
  }

 private:
  Index sequences_, heads_, rows_, cols_;
  std::vector<double> data_;
};

/// Who sees whom in one golden case.
class CaseMask {
 public:
  explicit CaseMask(const Case& golden) : case_(golden) {
    const std::vector<Index> keys{golden.batch, golden.seqlen_kv};
    if (golden.has("padding_mask")) key_valid_ = golden.values<int>("padding_mask", keys);
    if (golden.has("key_padding_mask_blocked")) {
      key_valid_ = golden.values<int>("key_padding_mask_blocked", keys);
      for (int& valid : key_valid_) valid = valid == 0;
    }
    if (golden.has("mask_allowed")) allowed_.emplace(golden, "mask_allowed");
    if (golden.has("attn_mask_blocked")) blocked_.emplace(golden, "attn_mask_blocked");
    if (golden.has("attn_bias")) bias_.emplace(golden, "attn_bias");
    for (Index sequence = 0; sequence < golden.batch; ++sequence) verify(sequence);
  }

  /// May query `q` of `head` attend to key `k`?
  bool visible(Index sequence, Index head, Index q, Index k) const {
    return allowed(sequence, head, q, k) && !hidden_by_bias(sequence, head, q, k);
  }
  /// Query `q` sees no key in one head or more.
  bool has_blind_head(Index sequence, Index q) const {
    for (Index head = 0; head < case_.num_heads; ++head) {
      bool sees_any = false;
      for (Index k = 0; k < case_.seqlen_kv; ++k) sees_any |= visible(sequence, head, q, k);
      if (!sees_any) return true;
    }
    return false;
  }
  /// No query sees a key after its own, so the sequence may be fed token by token.
  bool is_causal() const {
    for (Index sequence = 0; sequence < case_.batch; ++sequence)
      for (Index head = 0; head < case_.num_heads; ++head)
        for (Index q = 0; q < case_.seqlen_q; ++q)
          for (Index k = case_.seqlen_kv - case_.seqlen_q + q + 1; k < case_.seqlen_kv; ++k)
            if (visible(sequence, head, q, k)) return false;
    return true;
  }
  bool is_valid_key(Index sequence, Index k) const {
    return key_valid_.empty() ||
           key_valid_[static_cast<std::size_t>(sequence * case_.seqlen_kv + k)] != 0;
  }

  /// The policy for queries q_begin .. q_begin + q_count over the first kv_count keys: heed's masks
  /// of the names that the metadata use, where these say all; else a DenseMask.
  AnyMask policy(Index sequence, Index q_begin, Index q_count, Index kv_count) const {
    const bool is_whole = q_count == case_.seqlen_q && kv_count == case_.seqlen_kv;
    // Of a call that is cut in chunks, TopLeftCausalMask would see the first query in each.
    const bool is_cut_top_left =
        case_.causal == Causal::top_left && !is_whole && case_.seqlen_q != case_.seqlen_kv;
    const AnyMask mask = needs_dense_ || is_cut_top_left
                             ? dense(sequence, q_begin, q_count, kv_count)
                             : native(sequence, is_whole);
    for (Index head = 0; head < case_.num_heads; ++head)
      for (Index q = 0; q < q_count; ++q)
        for (Index k = 0; k < kv_count; ++k)
          if (sees(mask, head, q, k, {q_count, kv_count}) !=
              allowed(sequence, head, q_begin + q, k))
            throw NotUnderstood("heed's mask and the file's differ at query " +
                                std::to_string(q_begin + q) + ", key " + std::to_string(k));
    return mask;
  }

  /// The additive mask, or null.
  const PairTable* bias() const { return bias_ ? &*bias_ : nullptr; }

 private:
  bool hidden_by_bias(Index sequence, Index head, Index q, Index k) const {
    return bias_ && (*bias_)(sequence, head, q, k) == -std::numeric_limits<double>::infinity();
  }

  /// What mask_allowed says if it is there, else what the rest of the file does.
  bool allowed(Index sequence, Index head, Index q, Index k) const {
    return allowed_ ? (*allowed_)(sequence, head, q, k) != 0 : described(sequence, head, q, k);
  }

  bool described(Index sequence, Index head, Index q, Index k) const {
    const Index position =
        case_.causal == Causal::top_left ? q : case_.seqlen_kv - case_.seqlen_q + q;
    if (!is_valid_key(sequence, k)) return false;
    if (blocked_ && (*blocked_)(sequence, head, q, k) != 0) return false;
    if (case_.causal != Causal::no && k > position) return false;
    return !case_.window_left || (k <= position && k >= position - *case_.window_left);
  }

  /// mask_allowed may hide more than the rest of the file says, as one of documents does, or differ
  /// by head. It may not show what the rest hides.
  void verify(Index sequence) {
    const AnyMask mask = native(sequence, /*is_whole=*/true);
    for (Index head = 0; head < case_.num_heads; ++head)
      for (Index q = 0; q < case_.seqlen_q; ++q)
        for (Index k = 0; k < case_.seqlen_kv; ++k) {
          const bool is_allowed = allowed(sequence, head, q, k);
          if (sees(mask, head, q, k, {case_.seqlen_q, case_.seqlen_kv}) != is_allowed)
            needs_dense_ = true;
          const bool may_differ = !is_allowed || (allowed_ && allowed_->heads() > 1) ||
                                  hidden_by_bias(sequence, head, q, k);
          if (!may_differ && !described(sequence, head, q, k))
            throw NotUnderstood("mask_allowed shows what the rest of the file hides at query " +
                                std::to_string(q) + ", key " + std::to_string(k));
        }
  }

  AnyMask native(Index sequence, bool is_whole) const {
    AnyMask mask;
    if (case_.window_left)
      mask.parts.push_back(SlidingWindowMask{.window_left = *case_.window_left});
    else if (case_.causal == Causal::top_left && is_whole)
      mask.parts.push_back(TopLeftCausalMask{});
    else if (case_.causal != Causal::no)
      mask.parts.push_back(CausalMask{});
    if (!key_valid_.empty()) {
      const auto begin = key_valid_.begin() + sequence * case_.seqlen_kv;
      const auto end = begin + case_.seqlen_kv;
      const auto first = std::find_if(begin, end, [](int valid) { return valid != 0; });
      const auto last = std::find(first, end, 0);
      mask.parts.push_back(PaddingMask{.begin = first - begin, .end = last - begin});
    }
    return mask;
  }

  AnyMask dense(Index sequence, Index q_begin, Index q_count, Index kv_count) const {
    AnyMask mask;
    mask.dense.reset(new bool[static_cast<std::size_t>(case_.num_heads * q_count * kv_count)]);
    bool* next = mask.dense.get();
    for (Index head = 0; head < case_.num_heads; ++head)
      for (Index q = 0; q < q_count; ++q)
        for (Index k = 0; k < kv_count; ++k) *next++ = allowed(sequence, head, q_begin + q, k);
    mask.parts.push_back(DenseMask{{mask.dense.get(), case_.num_heads, q_count, kv_count}});
    return mask;
  }

  const Case& case_;
  std::vector<int> key_valid_;  // [batch, seqlen_kv], or empty: no padding
  std::optional<PairTable> allowed_, blocked_, bias_;
  bool needs_dense_ = false;  // heed's masks for the metadata are not all of the file's mask
};

}  // namespace heed::golden
