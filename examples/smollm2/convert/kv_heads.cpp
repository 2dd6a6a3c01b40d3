// SPDX-License-Identifier: MIT
#include <stdexcept>
#include <string>

#include "conversion.hpp"
#include "layer_rows.hpp"

namespace smollm2 {
namespace {

/// Each head several times.
RowsInTheMaking repeated(const StoredMatrix& heads, Index head_dim, Index times) {
  RowsInTheMaking rows(heads.type, heads.cols);
  for (Index head = 0; head < heads.rows / head_dim; ++head)
    for (Index time = 0; time < times; ++time)
      for (Index c = 0; c < head_dim; ++c) rows.copy(heads, head * head_dim + c);
  return rows;
}

/// Means of `count` neighbouring heads each.
RowsInTheMaking pooled(const StoredMatrix& heads, Index head_dim, Index count) {
  const Matrix all = widened(heads);
  RowsInTheMaking rows(TensorType::f32, heads.cols);
  for (Index begin = 0; begin < all.rows(); begin += count * head_dim)
    for (Index c = 0; c < head_dim; ++c) {
      Eigen::RowVectorXf mean = Eigen::RowVectorXf::Zero(all.cols());
      for (Index i = 0; i < count; ++i) mean += all.row(begin + i * head_dim + c);
      mean /= static_cast<float>(count);
      rows.add({mean.data(), static_cast<std::size_t>(mean.size())});
    }
  return rows;
}

}  // namespace

Index num_heads(const GgufFile& file) {
  return std::visit([](const auto& shape) { return shape.num_heads; }, shape_of(file).attention);
}

void convert_to_float(const GgufFile& file, GgufWriter& out) {
  for (const auto& [key, value] : file.metadata())
    out.add(key, key == "general.file_type" ? MetadataValue(std::uint32_t{0}) : value);
  for (const auto& [name, tensor] : file.tensors()) {
    const Matrix floats = widened(tensor);
    RowsInTheMaking rows(TensorType::f32, tensor.cols);
    for (Index row = 0; row < tensor.rows; ++row)
      rows.add({floats.row(row).data(), static_cast<std::size_t>(tensor.cols)});
    out.add_tensor(name, TensorType::f32, tensor.rows, tensor.cols, std::move(rows).take());
  }
}

void convert_kv_heads(const GgufFile& file, Index num_kv_heads, GgufWriter& out) {
  const ModelShape shape = shape_of(file);
  const auto* grouped = std::get_if<heed::GroupedShape>(&shape.attention);
  if (grouped == nullptr) throw std::invalid_argument("the model's attention is latent already");
  const Index before = grouped->num_kv_heads;
  if (num_kv_heads <= 0 || grouped->num_heads % num_kv_heads != 0 ||
      (num_kv_heads % before != 0 && before % num_kv_heads != 0))
    throw std::invalid_argument(
        std::to_string(num_kv_heads) + " key/value heads: expected a divisor of the " +
        std::to_string(grouped->num_heads) + " query heads that is a multiple or a divisor of " +
        std::to_string(before));

  refuse_biases(file, {"attn_k.bias", "attn_v.bias"});
  for (const auto& [key, value] : file.metadata())
    if (key != "llama.attention.head_count_kv") out.add(key, value);
  out.add("llama.attention.head_count_kv", static_cast<std::uint32_t>(num_kv_heads));
  for (const auto& [name, tensor] : file.tensors()) {
    const bool key = name.ends_with("attn_k.weight"), value = name.ends_with("attn_v.weight");
    if (!key && !value) {
      add_as_is(name, tensor, out);
      continue;
    }
    const Index head_dim = key ? grouped->head_dim : grouped->head_dim_v;
    RowsInTheMaking rows = num_kv_heads >= before
                               ? repeated(tensor, head_dim, num_kv_heads / before)
                               : pooled(tensor, head_dim, before / num_kv_heads);
    out.add_tensor(name, rows.type(), rows.rows(), rows.cols(), std::move(rows).take());
  }
}

}  // namespace smollm2
