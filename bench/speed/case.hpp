// SPDX-License-Identifier: MIT
/// \file
/// The cases of the speed benchmark and what each costs at least.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "heed/base/index.hpp"

namespace heed::bench {

/// Which keys a query sees: those up to its own token, or all.
enum class Visible { causal, full };

/// What is computed of the case.
enum class Pass {
  forward,
  backward,  ///< the gradients of queries, keys and values, once forward is done
};

/// What a key/value row is.
enum class Kv {
  full,    ///< a key and a value of each key/value head
  latent,  ///< one row that is the key, and whose first head_dim_v columns are the value
};

/// One sequence of a case: its rows in the inputs, which hold all sequences one after another.
struct SequenceRows {
  Index seqlen_q, seqlen_kv;
  Index q_begin = 0, kv_begin = 0;  ///< its first rows among those of all sequences
};

struct SpeedCase {
  std::string name;
  std::vector<SequenceRows> sequences;
  Index num_heads, num_kv_heads, head_dim, head_dim_v;
  Visible visible;
  Kv kv;
  Pass pass = Pass::forward;

  /// Rows of queries, of all sequences.
  Index rows_q() const { return sequences.back().q_begin + sequences.back().seqlen_q; }
  /// Rows of keys and values, of all sequences.
  Index rows_kv() const { return sequences.back().kv_begin + sequences.back().seqlen_kv; }

  /// Largest seqlen_q * seqlen_kv of a sequence: what a matrix of scores has to hold.
  Index most_scores() const {
    Index most = 0;
    for (const auto& sequence : sequences)
      most = std::max(most, sequence.seqlen_q * sequence.seqlen_kv);
    return most;
  }
  /// FLOPs of the visible scores and of what is made of them: two products forward, five backward.
  /// Masked-out ones earn nothing.
  double flops() const {
    double pairs = 0;
    for (const auto& sequence : sequences) {
      const auto n = static_cast<double>(sequence.seqlen_q);
      const auto m = static_cast<double>(sequence.seqlen_kv);
      pairs += visible == Visible::full ? n * m : n * m - n * (n - 1) / 2;
    }
    const Index width =
        pass == Pass::forward ? head_dim + head_dim_v : 3 * head_dim + 2 * head_dim_v;
    return 2.0 * static_cast<double>(width * num_heads) * pairs;
  }
  /// Elements of keys and values, each counted once.
  double kv_elements() const {
    const Index width = kv == Kv::latent ? head_dim : head_dim + head_dim_v;
    return static_cast<double>(rows_kv() * num_kv_heads * width);
  }
  /// Where narrow elements are measured, which are for reading less: in decode, and in one prefill
  /// to see that it loses nothing.
  bool reads_much() const {
    return visible == Visible::causal &&
           (rows_q() == std::ssize(sequences) || name == "prefill/gqa/2048");
  }
  /// Keys that a query row of a sequence sees: 0 .. seen - 1.
  Index seen(const SequenceRows& sequence, Index q_row) const {
    return visible == Visible::full ? sequence.seqlen_kv
                                    : sequence.seqlen_kv - sequence.seqlen_q + q_row + 1;
  }
};

/// The cases that are run by default. Their names begin with prefill/, short/, decode/ or batch/.
std::vector<SpeedCase> speed_cases();
/// Those of gradients, one sequence each. Their names begin with backward/.
std::vector<SpeedCase> backward_cases();

}  // namespace heed::bench
