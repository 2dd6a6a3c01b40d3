// SPDX-License-Identifier: MIT
/// \file
/// Multi-head latent attention with keys and values rebuilt in full, naively.
#pragma once

#include <optional>
#include <vector>

#include "reference/attention.hpp"  // attention, Score, Visible
#include "reference/layers.hpp"     // Linear, RmsNorm, Rope

namespace heed::reference {

template <class T>
struct LatentLayer {
  Size num_heads = 0;
  Size latent_dim = 0;
  Size rope_dim = 0;
  Size nope_dim = 0;
  Size head_dim_v = 0;
  std::optional<Linear<T>> query_down =
      {};  // [query_latent, model]; unset: query_up takes x itself
  std::optional<RmsNorm<T>> query_norm = {};  // after query_down
  Linear<T> query_up = {};                    // [num_heads * (nope + rope), query_latent or model]
  Linear<T> kv_down = {};                     // [latent + rope, model]
  RmsNorm<T> kv_norm = {};
  Linear<T> kv_up = {};  // [num_heads * (nope + v), latent]
  Linear<T> out = {};    // [model, num_heads * v]
  Rope rope = {};
  Score<T> score = {};

  /// Every stage of the way, so that each can be compared.
  struct Result {
    Matrix<T> c_kv;   // [seqlen, latent], after the norm
    Heads<T> k_rope;  // [1, seqlen, rope], rotated
    Heads<T> query;   // [num_heads, seqlen, nope + rope], rotated
    Heads<T> key;     // likewise
    Heads<T> value;   // [num_heads, seqlen, v]
    Attention<T> attention;
    Matrix<T> out;
  };

  Result operator()(const Matrix<T>& x, const std::vector<Size>& positions,
                    const Visible& visible = {}) const {
    Matrix<T> c_q = x;
    if (query_down) c_q = (*query_down)(c_q);
    if (query_norm) c_q = (*query_norm)(c_q);
    Heads<T> q = rope(split(query_up(c_q), num_heads), positions, nope_dim);

    const Matrix<T> down = kv_down(x);
    Matrix<T> c_kv = kv_norm(columns(down, 0, latent_dim));
    Heads<T> k_rope = rope(split(columns(down, latent_dim, rope_dim), 1), positions);

    const Heads<T> up = split(kv_up(c_kv), num_heads);  // per head [nope | v]
    Heads<T> k(num_heads, x.rows, nope_dim + rope_dim);
    Heads<T> v(num_heads, x.rows, head_dim_v);
    for (Size head = 0; head < num_heads; ++head)
      for (Size row = 0; row < x.rows; ++row) {
        for (Size c = 0; c < nope_dim; ++c) k(head, row, c) = up(head, row, c);
        for (Size c = 0; c < rope_dim; ++c) k(head, row, nope_dim + c) = k_rope(0, row, c);
        for (Size c = 0; c < head_dim_v; ++c) v(head, row, c) = up(head, row, nope_dim + c);
      }

    Attention<T> heads = attention(q, k, v, score, visible);
    Matrix<T> y = out(join(heads.out));
    return {std::move(c_kv), std::move(k_rope), std::move(q), std::move(k),
            std::move(v),    std::move(heads),  std::move(y)};
  }
};

}  // namespace heed::reference
