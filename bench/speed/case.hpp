// SPDX-License-Identifier: MIT
/// \file
/// The cases of the speed benchmark, their inputs, and what they cost at least.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "heed/base/views.hpp"

namespace heed::bench {

enum class Visible { causal, full };
enum class Kv {
  full,
  latent
};  ///< latent: one row is key, and its first head_dim_v columns are the value

struct SpeedCase {
  std::string name;
  Index seqlen_q, seqlen_kv, num_heads, num_kv_heads, head_dim, head_dim_v;
  Visible visible;
  Kv kv;

  /// Pairs of a query row and a key it sees, per head.
  double pairs() const {
    const auto n = static_cast<double>(seqlen_q), m = static_cast<double>(seqlen_kv);
    return visible == Visible::full ? n * m : n * m - n * (n - 1) / 2;
  }
  /// Of the visible scores alone.
  double flops() const {
    return 2.0 * static_cast<double>((head_dim + head_dim_v) * num_heads) * pairs();
  }
  /// Keys and values in float32, read once.
  double bytes() const {
    const Index width = kv == Kv::latent ? head_dim : head_dim + head_dim_v;
    return 4.0 * static_cast<double>(seqlen_kv * num_kv_heads * width);
  }
};

/// The cases that are run by default.
std::vector<SpeedCase> speed_cases();

using Matrix = heed::detail::EigenRows<float>;

/// Unit-normal queries, keys and values, rows of tokens. For latents, `value` is a part of `key`.
struct Inputs {
  Matrix query, key, value;
  explicit Inputs(const SpeedCase& c);
};

/// Something that computes a case.
class Contender {
 public:
  virtual ~Contender() = default;
  virtual void run() = 0;
  /// [seqlen_q, num_heads * head_dim_v]
  virtual const Matrix& out() const = 0;
};

std::unique_ptr<Contender> make_heed(const SpeedCase& c, const Inputs& inputs, Index num_threads);
/// Product, softmax, product with Eigen alone, one head at a time, one matrix of scores in memory.
std::unique_ptr<Contender> make_eigen(const SpeedCase& c, const Inputs& inputs, Index num_threads);

/// Largest difference between `out` and a float64 computation of some of its rows.
double largest_error(const SpeedCase& c, const Inputs& inputs, const Matrix& out);

}  // namespace heed::bench
