// SPDX-License-Identifier: MIT
#include <algorithm>

#include "heed/policy/score.hpp"
#include "shared/executor.hpp"
#include "speed/contender.hpp"
#include "speed/figures.hpp"
#include "speed/threads.hpp"

namespace heed::bench {
namespace {

/// The best that plain Eigen gives. Queries come in blocks, of which each is multiplied with the
/// keys that its last row sees. Tasks are heads, or, where a head has one query row, groups of
/// heads: their queries lie side by side and are the rows of one product. With as many tasks as
/// threads or more, threads share the tasks, softmax and all; with fewer, Eigen's products are left
/// to share the work.
class EigenMaterialised final : public AttendContender {
 public:
  EigenMaterialised(const SpeedCase& c, const Inputs& inputs, Index num_threads)
      : case_(c), inputs_(inputs), num_threads_(num_threads), executor_(make_executor(num_threads)),
        out_(c.rows_q(), c.num_heads * c.head_dim_v) {
    for (const SequenceRows& s : c.sequences) {
      const Index heads_of_task = s.seqlen_q == 1 ? c.num_heads / c.num_kv_heads : 1;
      for (Index head = 0; head < c.num_heads; head += heads_of_task)
        tasks_.push_back({s, head, heads_of_task});
    }
  }

  void run() override {
    const Index num_tasks = std::ssize(tasks_);
    if (num_tasks >= num_threads_) {
      set_eigen_threads(1);
      executor_.parallel_for(num_tasks, [&](Index task) {
        static thread_local Scratch scratch;
        run(tasks_[static_cast<std::size_t>(task)], scratch);
      });
      return;
    }
    set_eigen_threads(num_threads_);
    for (const Task& task : tasks_) run(task, scratch_);
  }
  Matrix out() const override { return out_; }

 private:
  struct Task {
    SequenceRows sequence;
    Index head, num_heads;
  };
  /// Fewer would make products too small, and more multiply too much that is masked.
  static constexpr Index block_rows = 256;

  struct Scratch {
    Matrix scores;
    Eigen::VectorXf factors;  ///< of each row: 1 / sum of its scores
  };

  void run(const Task& task, Scratch& scratch) {
    const auto& [sequence, head, num_heads] = task;
    const SpeedCase& c = case_;
    const Index kv_head = head / (c.num_heads / c.num_kv_heads);
    const auto key =
        inputs_.key.block(sequence.kv_begin, kv_head * c.head_dim, sequence.seqlen_kv, c.head_dim);
    const auto value = inputs_.value.block(sequence.kv_begin, kv_head * c.head_dim_v,
                                           sequence.seqlen_kv, c.head_dim_v);
    const Index rows = sequence.seqlen_q == 1 ? num_heads : sequence.seqlen_q;
    const auto strides = [&](Index width) {
      return Eigen::OuterStride<>(sequence.seqlen_q == 1 ? width : c.num_heads * width);
    };
    const Eigen::Map<const Matrix, 0, Eigen::OuterStride<>> query(
        &inputs_.query(sequence.q_begin, head * c.head_dim), rows, c.head_dim, strides(c.head_dim));
    Eigen::Map<Matrix, 0, Eigen::OuterStride<>> out(&out_(sequence.q_begin, head * c.head_dim_v),
                                                    rows, c.head_dim_v, strides(c.head_dim_v));
    attend_rows(sequence, query, key, value, scratch, out);
  }

  template <class Query, class Key, class Value, class Out>
  void attend_rows(const SequenceRows& sequence, const Query& query, const Key& key,
                   const Value& value, Scratch& scratch, Out& out) {
    const float scale = static_cast<float>(default_softmax_scale(case_.head_dim));
    const auto seen_by = [&](Index row) {
      return sequence.seqlen_q == 1 ? sequence.seqlen_kv : case_.seen(sequence, row);
    };
    auto& [scores, factors] = scratch;
    for (Index begin = 0; begin < query.rows(); begin += block_rows) {
      const Index rows = std::min(block_rows, query.rows() - begin);
      const Index most = seen_by(begin + rows - 1);
      scores.noalias() = query.middleRows(begin, rows) * key.topRows(most).transpose();
      factors.resize(rows);
      for (Index row = 0; row < rows; ++row) {
        const Index seen = seen_by(begin + row);
        auto visible = scores.row(row).head(seen);
        visible = ((visible.array() - visible.maxCoeff()) * scale).exp();
        factors[row] = 1 / visible.sum();
        scores.row(row).tail(most - seen).setZero();
      }
      auto results = out.middleRows(begin, rows);
      results.noalias() = scores * value.topRows(most);
      results.array().colwise() *= factors.array();
    }
  }

  SpeedCase case_;
  const Inputs& inputs_;
  Index num_threads_;
  AnyExecutor executor_;
  std::vector<Task> tasks_;
  Scratch scratch_;
  Matrix out_;
};

bool can(const SpeedCase& c, Index num_threads) {
  return 4.0 * static_cast<double>(c.most_scores() * num_threads) <= most_bytes;
}

std::unique_ptr<Contender> make(const SpeedCase& c, const Inputs& inputs, Index num_threads) {
  return std::make_unique<EigenMaterialised>(c, inputs, num_threads);
}

}  // namespace

ContenderKind eigen_kind() { return {eigen_name, can, make}; }

}  // namespace heed::bench
