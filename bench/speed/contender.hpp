// SPDX-License-Identifier: MIT
/// \file
/// Who computes the cases: heed, plain Eigen, and the peers that are installed (bench/peers).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "speed/figures.hpp"
#include "speed/inputs.hpp"

namespace heed::bench {

/// One case, ready to be computed again and again.
class Contender {
 public:
  virtual ~Contender() = default;
  virtual void run() = 0;
  /// How far from float64 the last run's result is, as by the functions of that name.
  virtual double largest_error(const SpeedCase& c, const Inputs& inputs) const = 0;
};

/// Of Pass::forward.
class AttendContender : public Contender {
 public:
  /// What the last run gave, [rows_q, num_heads * head_dim_v].
  virtual Matrix out() const = 0;
  /// The inputs with keys and values as it holds them, if these are to be the reference's.
  virtual std::unique_ptr<Inputs> held() const { return nullptr; }

  double largest_error(const SpeedCase& c, const Inputs& inputs) const final {
    const auto own = held();
    return bench::largest_error(c, own ? *own : inputs, out());
  }
};

/// Of Pass::backward: a run makes the gradients alone, of what forward left when it was made.
class BackwardContender : public Contender {
 public:
  /// What the last run gave.
  virtual Gradients gradients() const = 0;

  double largest_error(const SpeedCase&, const Inputs& inputs) const final {
    return bench::largest_error(*inputs.exact, gradients());
  }
};

struct ContenderKind {
  std::string name;  ///< of the rows: CASE/name/threads:N
  /// Whether it computes such a case, with no more memory than a benchmark should take.
  bool (*can)(const SpeedCase& c, Index num_threads);
  /// For a case that it can compute. \throws std::exception
  std::unique_ptr<Contender> (*make)(const SpeedCase& c, const Inputs& inputs, Index num_threads);
  KvStorage storage = {};
};

/// A contender is left out where one matrix of its own would take more than this.
inline constexpr double most_bytes = 1.0 * (1 << 30);

/// heed with caches of float and of narrower elements, and over matrices without a cache.
std::vector<ContenderKind> heed_kinds();
/// Product, softmax, product with Eigen alone, with matrices of scores in memory.
ContenderKind eigen_kind();

/// heed and Eigen again, in Pass::backward.
ContenderKind heed_backward_kind();
ContenderKind eigen_backward_kind();

}  // namespace heed::bench
