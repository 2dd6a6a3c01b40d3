// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>

#include "heed/policy/score.hpp"
#include "shared/executor.hpp"
#include "speed/contender.hpp"
#include "speed/threads.hpp"

namespace heed::bench {
namespace {

/// The best that plain Eigen gives, with heed's trick: of forward, results and log-sum-exps are
/// kept, and scores are made anew. Queries come in blocks, of which each is multiplied with the
/// keys that its last row sees: five products, and two matrices of scores in memory. Tasks are
/// heads, each with gradients of keys and values of its own, which are added up to those of their
/// group in the end. As in forward, threads share the tasks, or, with fewer tasks than threads,
/// Eigen's products.
class EigenBackward final : public BackwardContender {
 public:
  EigenBackward(const SpeedCase& c, const Inputs& inputs, Index num_threads)
      : case_(c), inputs_(inputs), num_threads_(num_threads), executor_(make_executor(num_threads)),
        out_(c.rows_q(), c.num_heads * c.head_dim_v), lse_(c.rows_q(), c.num_heads),
        grad_query_(c.rows_q(), c.num_heads * c.head_dim),
        grad_key_(c.rows_kv(), c.num_heads * c.head_dim),
        grad_value_(c.rows_kv(), c.num_heads * c.head_dim_v),
        group_key_(group_size() == 1 ? 0 : c.rows_kv(), c.num_kv_heads * c.head_dim),
        group_value_(group_size() == 1 ? 0 : c.rows_kv(), c.num_kv_heads * c.head_dim_v) {
    for_each(c.num_heads, [this](Index head, Scratch& scratch) { forward(head, scratch); });
  }

  void run() override {
    for_each(case_.num_heads, [this](Index head, Scratch& scratch) { backward(head, scratch); });
    if (group_size() == 1) return;
    executor_.parallel_for(case_.num_kv_heads, [this](Index kv_head) {
      add_up(grad_key_, group_key_, kv_head, case_.head_dim);
      add_up(grad_value_, group_value_, kv_head, case_.head_dim_v);
    });
  }
  Gradients gradients() const override {
    if (group_size() == 1) return {grad_query_, grad_key_, grad_value_};
    return {grad_query_, group_key_, group_value_};
  }

 private:
  /// Fewer than in forward: there are two matrices of scores to be kept in the cache.
  static constexpr Index block_rows = 128;

  struct Scratch {
    Matrix prob, grad_score;
  };
  /// Of a head.
  struct Operands {
    Eigen::Block<const Matrix> query, key, value;
  };

  Index group_size() const { return case_.num_heads / case_.num_kv_heads; }
  float scale() const { return static_cast<float>(default_softmax_scale(case_.head_dim)); }
  Index seen(Index q_row) const { return case_.seen(case_.sequences[0], q_row); }
  Operands of(Index head) const {
    const Index kv_head = head / group_size(), d = case_.head_dim, dv = case_.head_dim_v;
    const auto columns = [](const Matrix& matrix, Index begin, Index width) {
      return matrix.block(0, begin, matrix.rows(), width);
    };
    return {columns(inputs_.query, head * d, d), columns(inputs_.key, kv_head * d, d),
            columns(inputs_.value, kv_head * dv, dv)};
  }

  template <class Task>
  void for_each(Index num_tasks, const Task& task) {
    if (num_tasks >= num_threads_) {
      set_eigen_threads(1);
      executor_.parallel_for(num_tasks, [&](Index index) {
        static thread_local Scratch scratch;
        task(index, scratch);
      });
      return;
    }
    set_eigen_threads(num_threads_);
    for (Index index = 0; index < num_tasks; ++index) task(index, scratch_);
  }
  /// Calls block(begin, rows, keys that the last of these rows sees).
  template <class Block>
  void for_each_block(const Block& block) const {
    for (Index begin = 0; begin < case_.rows_q(); begin += block_rows) {
      const Index rows = std::min(block_rows, case_.rows_q() - begin);
      block(begin, rows, seen(begin + rows - 1));
    }
  }

  /// Fills out_ and lse_.
  void forward(Index head, Scratch& scratch) {
    const auto [query, key, value] = of(head);
    Matrix& scores = scratch.prob;
    for_each_block([&](Index begin, Index rows, Index most) {
      scores.noalias() = query.middleRows(begin, rows) * key.topRows(most).transpose();
      for (Index row = 0; row < rows; ++row) {
        const Index q_row = begin + row;
        auto visible = scores.row(row).head(seen(q_row));
        const float largest = visible.maxCoeff();
        visible = ((visible.array() - largest) * scale()).exp();
        const float sum = visible.sum();
        lse_(q_row, head) = largest * scale() + std::log(sum);
        visible /= sum;
        scores.row(row).tail(most - seen(q_row)).setZero();
      }
      out_.block(begin, head * case_.head_dim_v, rows, case_.head_dim_v).noalias() =
          scores * value.topRows(most);
    });
  }

  void backward(Index head, Scratch& scratch) {
    const auto [query, key, value] = of(head);
    const Index d = case_.head_dim, dv = case_.head_dim_v;
    auto grad_key = grad_key_.middleCols(head * d, d);
    auto grad_value = grad_value_.middleCols(head * dv, dv);
    grad_key.setZero(), grad_value.setZero();
    auto& [prob, grad_score] = scratch;
    for_each_block([&](Index begin, Index rows, Index most) {
      const auto queries = query.middleRows(begin, rows);
      const auto grad_out = inputs_.grad_out.block(begin, head * dv, rows, dv);
      const auto out = out_.block(begin, head * dv, rows, dv);
      prob.noalias() = queries * key.topRows(most).transpose();
      grad_score.noalias() = grad_out * value.topRows(most).transpose();
      for (Index row = 0; row < rows; ++row) {
        const Index q_row = begin + row, visible = seen(q_row);
        auto probs = prob.row(row).head(visible).array();
        auto grads = grad_score.row(row).head(visible).array();
        probs = (probs * scale() - lse_(q_row, head)).exp();
        grads = probs * (grads - grad_out.row(row).dot(out.row(row))) * scale();
        prob.row(row).tail(most - visible).setZero();
        grad_score.row(row).tail(most - visible).setZero();
      }
      grad_query_.block(begin, head * d, rows, d).noalias() = grad_score * key.topRows(most);
      grad_key.topRows(most).noalias() += grad_score.transpose() * queries;
      grad_value.topRows(most).noalias() += prob.transpose() * grad_out;
    });
  }

  void add_up(const Matrix& heads, Matrix& groups, Index kv_head, Index width) const {
    auto sum = groups.middleCols(kv_head * width, width);
    const Index first = kv_head * group_size();
    sum = heads.middleCols(first * width, width);
    for (Index head = first + 1; head < first + group_size(); ++head)
      sum += heads.middleCols(head * width, width);
  }

  SpeedCase case_;
  const Inputs& inputs_;
  Index num_threads_;
  AnyExecutor executor_;
  Scratch scratch_;
  Matrix out_, lse_;
  Matrix grad_query_, grad_key_, grad_value_;  // of each head
  Matrix group_key_, group_value_;             // of groups, where these are of several heads
};

bool can(const SpeedCase&, Index) { return true; }

std::unique_ptr<Contender> make(const SpeedCase& c, const Inputs& inputs, Index num_threads) {
  return std::make_unique<EigenBackward>(c, inputs, num_threads);
}

}  // namespace

ContenderKind eigen_backward_kind() { return {eigen_name, can, make}; }

}  // namespace heed::bench
