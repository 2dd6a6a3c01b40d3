// SPDX-License-Identifier: MIT
#include <cmath>
#include <stdexcept>
#include <string>

#include <Eigen/Eigenvalues>

#include "conversion.hpp"
#include "layer_rows.hpp"

namespace smollm2 {
namespace {

using MatrixD = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// What a grouped layer's weights become. A head's columns [2i, 2i + 1] are pair i, and pairs turn
/// the slower the higher i is: the first of them keep turning.
class LatentLayer {
 public:
  LatentLayer(const GgufFile& file, const std::string& block, const heed::GroupedShape& shape,
              const LatentOptions& options)
      : shape_(shape), options_(options), key_(file.tensor(block + "attn_k.weight")),
        value_(file.tensor(block + "attn_v.weight")), query_(file.tensor(block + "attn_q.weight")),
        gain_(widen(file.tensor(block + "attn_norm.weight"))) {}

  Index turning() const { return 2 * options_.rotated_pairs; }  ///< columns of a head
  Index still() const { return shape_.head_dim - turning(); }
  /// Rows that go through the latent: the still columns of every kv head, then the values.
  Index num_joint() const { return shape_.num_kv_heads * (still() + shape_.head_dim_v); }
  bool is_exact() const { return still() == 0 && options_.latent_dim == num_joint(); }

  /// A head's rows are [still | a slot for each kv head].
  RowsInTheMaking query() const {
    RowsInTheMaking rows(query_.type, query_.cols);
    for (Index head = 0; head < shape_.num_heads; ++head) {
      for (Index c = turning(); c < shape_.head_dim; ++c)
        rows.copy(query_, head * shape_.head_dim + c);
      for (Index slot = 0; slot < shape_.num_kv_heads; ++slot)
        for (Index c = 0; c < turning(); ++c) {
          if (slot == kv_head_of(head))
            rows.copy(query_, head * shape_.head_dim + c);
          else
            rows.zero();
        }
    }
    return rows;
  }

  /// [latent | the turning columns of every kv head], from the layer's input; and what makes keys
  /// and values of the latent again, a head's rows being [still | v].
  std::pair<RowsInTheMaking, RowsInTheMaking> key_value() const {
    return is_exact() ? moved() : truncated();
  }

 private:
  Index kv_head_of(Index head) const { return head / (shape_.num_heads / shape_.num_kv_heads); }
  /// Calls f(row of attn_k) for the columns that turn.
  template <class F>
  void for_each_turning(const F& f) const {
    for (Index slot = 0; slot < shape_.num_kv_heads; ++slot)
      for (Index c = 0; c < turning(); ++c) f(slot * shape_.head_dim + c);
  }

  /// Nothing is lost: the latent is the values.
  std::pair<RowsInTheMaking, RowsInTheMaking> moved() const {
    const bool alike = key_.type == value_.type;
    RowsInTheMaking down(alike ? key_.type : TensorType::f32, key_.cols);
    const auto move = [&](const StoredMatrix& from, Index row) {
      if (alike) return down.copy(from, row);
      std::vector<float> floats(static_cast<std::size_t>(from.cols));
      widen_row(from.type, from.row(row), floats);
      down.add(floats);
    };
    for (Index row = 0; row < value_.rows; ++row) move(value_, row);
    for_each_turning([&](Index row) { move(key_, row); });
    return {std::move(down), up(Matrix::Identity(num_joint(), num_joint()))};
  }

  /// The latent is what the largest singular values are of: with W = U S V^T, the rows of U^T W
  /// from the input, and U to make W's outputs of them again. U has the eigenvectors of W W^T.
  std::pair<RowsInTheMaking, RowsInTheMaking> truncated() const {
    const Matrix key = widened(key_), value = widened(value_);
    const Index still_rows = shape_.num_kv_heads * still();
    MatrixD joint(num_joint(), key.cols());
    for (Index slot = 0; slot < shape_.num_kv_heads; ++slot)
      joint.middleRows(slot * still(), still()) =
          key.middleRows(slot * shape_.head_dim + turning(), still()).cast<double>();
    joint.bottomRows(value.rows()) = value.cast<double>();

    // Inputs have the size of the norm's gain. Keys are larger than values and would take all.
    const Eigen::Map<const Eigen::RowVectorXf> gain(gain_.data(), std::ssize(gain_));
    const auto mean_square = [&](const auto& rows) {
      return (rows * gain.cast<double>().asDiagonal()).squaredNorm() /
             static_cast<double>(rows.rows());
    };
    const double size = still_rows == 0 ? 1
                                        : std::sqrt(mean_square(joint.topRows(still_rows)) /
                                                    mean_square(joint.bottomRows(value.rows())));
    joint.topRows(still_rows) /= size;
    const MatrixD weighted = joint * gain.cast<double>().asDiagonal();
    const Eigen::SelfAdjointEigenSolver<MatrixD> solver(weighted * weighted.transpose());
    MatrixD wide = solver.eigenvectors().rightCols(options_.latent_dim);  // the largest come last
    const Matrix narrow = (wide.transpose() * joint).cast<float>();
    wide.topRows(still_rows) *= size;

    RowsInTheMaking down(TensorType::f32, key.cols());
    const auto add = [&down](const Matrix& rows, Index row) {
      down.add({rows.row(row).data(), static_cast<std::size_t>(rows.cols())});
    };
    for (Index row = 0; row < narrow.rows(); ++row) add(narrow, row);
    for_each_turning([&](Index row) { add(key, row); });
    return {std::move(down), up(wide.cast<float>())};
  }

  /// \param joint_up  [num_joint, latent_dim]
  RowsInTheMaking up(const Matrix& joint_up) const {
    RowsInTheMaking rows(TensorType::f32, joint_up.cols());
    const auto add = [&](Index row) {
      rows.add({joint_up.row(row).data(), static_cast<std::size_t>(joint_up.cols())});
    };
    for (Index head = 0; head < shape_.num_heads; ++head) {
      const Index slot = kv_head_of(head);
      for (Index c = 0; c < still(); ++c) add(slot * still() + c);
      for (Index c = 0; c < shape_.head_dim_v; ++c)
        add(shape_.num_kv_heads * still() + slot * shape_.head_dim_v + c);
    }
    return rows;
  }

  heed::GroupedShape shape_;
  LatentOptions options_;
  StoredMatrix key_, value_, query_;
  std::vector<float> gain_;  // of the norm before the layer
};

heed::GroupedShape grouped_shape(const ModelShape& shape) {
  const auto* grouped = std::get_if<heed::GroupedShape>(&shape.attention);
  if (grouped == nullptr) throw std::invalid_argument("the model's attention is latent already");
  if (shape.rope.rope_dim != grouped->head_dim)
    throw std::invalid_argument("only models whose heads turn whole can become latent");
  return *grouped;
}

void require_in_range(const char* name, Index value, Index least, Index most) {
  if (value < least || value > most)
    throw std::invalid_argument(std::string(name) + " is " + std::to_string(value) + ", expected " +
                                std::to_string(least) + " to " + std::to_string(most));
}

/// The file's metadata under the new architecture's name, and what is new.
void add_metadata(const GgufFile& file, const ModelShape& shape, const heed::GroupedShape& grouped,
                  const LatentOptions& options, GgufWriter& out) {
  const auto is_replaced = [](const std::string& key) {
    return key == "general.architecture" || key == "llama.attention.head_count_kv" ||
           key == "llama.attention.key_length" || key == "llama.attention.value_length" ||
           key == "llama.attention.scale" || key == "llama.rope.dimension_count" ||
           key == "llama.rope.scale_linear" || key.starts_with("llama.rope.scaling");
  };
  for (const auto& [key, value] : file.metadata()) {
    if (is_replaced(key)) continue;
    out.add(key.starts_with("llama.") ? "llama-latent." + key.substr(6) : key, value);
  }
  const auto add = [&](const char* name, const auto& value) {
    out.add("llama-latent." + std::string(name), value);
  };
  const Index rope_dim = 2 * options.rotated_pairs * grouped.num_kv_heads;
  out.add("general.architecture", std::string("llama-latent"));
  add("attention.kv_lora_rank", static_cast<std::uint32_t>(options.latent_dim));
  add("attention.key_length",
      static_cast<std::uint32_t>(grouped.head_dim - 2 * options.rotated_pairs + rope_dim));
  add("attention.value_length", static_cast<std::uint32_t>(grouped.head_dim_v));
  add("attention.scale", shape.softmax_scale);
  add("rope.dimension_count", static_cast<std::uint32_t>(rope_dim));
  const std::vector<double> all =
      heed::frequencies(grouped.head_dim, shape.rope.theta, shape.rope.scaling, 0)
          .inverse_frequency;
  std::vector<double> repeated;
  for (Index slot = 0; slot < grouped.num_kv_heads; ++slot)
    repeated.insert(repeated.end(), all.begin(), all.begin() + options.rotated_pairs);
  add("rope.frequencies", repeated);
}

}  // namespace

LatentOptions exact_latent(const GgufFile& file) {
  const heed::GroupedShape shape = grouped_shape(shape_of(file));
  return {.rotated_pairs = shape.head_dim / 2, .latent_dim = shape.num_kv_heads * shape.head_dim_v};
}

void convert_to_latent(const GgufFile& file, const LatentOptions& options, GgufWriter& out) {
  const ModelShape shape = shape_of(file);
  const heed::GroupedShape grouped = grouped_shape(shape);
  require_in_range("the number of rotated pairs", options.rotated_pairs, 1, grouped.head_dim / 2);
  const Index still = grouped.head_dim - 2 * options.rotated_pairs;
  require_in_range(
      "the latent's width", options.latent_dim, 1,
      std::min(grouped.model_dim, grouped.num_kv_heads * (still + grouped.head_dim_v)));
  add_metadata(file, shape, grouped, options, out);
  const auto add = [&](const std::string& name, RowsInTheMaking rows) {
    out.add_tensor(name + ".weight", rows.type(), rows.rows(), rows.cols(), std::move(rows).take());
  };
  refuse_biases(file, {"attn_q.bias", "attn_k.bias", "attn_v.bias"});
  for (const auto& [name, tensor] : file.tensors()) {
    if (name.ends_with("attn_k.weight") || name.ends_with("attn_v.weight") ||
        name == "rope_freqs.weight")
      continue;
    if (!name.ends_with("attn_q.weight")) {
      add_as_is(name, tensor, out);
      continue;
    }
    const std::string block = name.substr(0, name.size() - std::string("attn_q.weight").size());
    const LatentLayer layer(file, block, grouped, options);
    add(block + "attn_q", layer.query());
    auto [down, up] = layer.key_value();
    add(block + "attn_kv_a_mqa", std::move(down));
    add(block + "attn_kv_b", std::move(up));
  }
}

}  // namespace smollm2
