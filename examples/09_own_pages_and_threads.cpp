// SPDX-License-Identifier: MIT
// Keys and values from where you keep them, and tasks on the threads you have.
#include <atomic>
#include <cstdio>
#include <thread>
#include <utility>
#include <vector>

#include "inputs.hpp"

namespace {

constexpr heed::Index head_dim = 16;

/// A page of one head: keys transposed, values row by row. Rows of values are read in steps of 16
/// elements (PageView says so), which head_dim is a multiple of.
struct Page {
  float keys[head_dim][heed::page_size] = {};
  float values[heed::page_size][head_dim] = {};
};

/// A source of pages: one key/value head whose pages lie anywhere, as a table of pointers. Two
/// sequences whose tables begin alike share those pages.
class PageTable {
 public:
  using Element = float;
  static constexpr heed::KeyLayout key_layout = heed::KeyLayout::transposed;

  PageTable(std::vector<const Page*> pages, heed::Index seqlen)
      : pages_(std::move(pages)), seqlen_(seqlen) {}

  heed::Index num_kv_heads() const { return 1; }
  heed::Index head_dim() const { return ::head_dim; }
  heed::Index head_dim_v() const { return ::head_dim; }
  heed::Index seqlen() const { return seqlen_; }
  heed::Index page_scratch() const { return 0; }  // pages are ready to read; nothing to unpack
  heed::PageView<float> page(heed::Index /*kv_head*/, heed::Index page, float* /*scratch*/) const {
    const Page& found = *pages_[static_cast<std::size_t>(page)];
    return {found.keys[0], heed::page_size, found.values[0], ::head_dim};
  }

 private:
  std::vector<const Page*> pages_;
  heed::Index seqlen_;
};

Page make_page(const Matrix& key, const Matrix& value) {
  Page page;
  for (heed::Index token = 0; token < key.rows(); ++token)
    for (heed::Index d = 0; d < head_dim; ++d) {
      page.keys[d][token] = key(token, d);
      page.values[token][d] = value(token, d);
    }
  return page;
}

/// An executor: three threads that take the next task until none is left.
struct ThreeThreads {
  heed::Index concurrency() const { return 3; }

  template <class Body>
  void parallel_for(heed::Index count, const Body& body) const {
    std::atomic<heed::Index> next = 0;
    std::vector<std::jthread> threads;  // join when they go out of scope
    for (int i = 0; i < 3; ++i)
      threads.emplace_back([&] {
        for (heed::Index task = next++; task < count; task = next++) body(task);
      });
  }
};

}  // namespace

int main() {
  const double softmax_scale = heed::default_softmax_scale(head_dim);
  const Matrix key = normal_matrix(100, head_dim, 1), value = normal_matrix(100, head_dim, 2);
  const Matrix other_key = normal_matrix(10, head_dim, 3),
               other_value = normal_matrix(10, head_dim, 4);

  // The first 64 tokens are a page that two sequences share; each goes on with a page of its own.
  const Page shared = make_page(key.topRows(64), value.topRows(64));
  const Page own = make_page(key.bottomRows(36), value.bottomRows(36));
  const Page other = make_page(other_key, other_value);
  const PageTable one_sequence({&shared, &own}, 100), other_sequence({&shared, &other}, 74);

  const Matrix query = normal_matrix(2, head_dim, 5);
  Matrix from_pages(2, head_dim), from_matrices(2, head_dim);
  heed::attend(query, one_sequence, heed::CausalMask{}, softmax_scale, from_pages);
  heed::attend(query, key, value, heed::CausalMask{}, softmax_scale, from_matrices);
  std::printf("pages of our own give what matrices give: %s\n",
              yes_or_no(distance(from_pages, from_matrices) < 1e-5F));

  Matrix joined_key(74, head_dim), joined_value(74, head_dim);
  joined_key << key.topRows(64), other_key;
  joined_value << value.topRows(64), other_value;
  heed::attend(query, other_sequence, heed::CausalMask{}, softmax_scale, from_pages);
  heed::attend(query, joined_key, joined_value, heed::CausalMask{}, softmax_scale, from_matrices);
  std::printf("so does the sequence that shares a page: %s\n",
              yes_or_no(distance(from_pages, from_matrices) < 1e-5F));

  // Work is cut by the sizes alone, so the bits do not depend on who does it. A workspace keeps the
  // scratch memory for the next call.
  const heed::Index seqlen = 500;
  const Matrix long_query = normal_matrix(seqlen, head_dim, 6),
               long_key = normal_matrix(seqlen, head_dim, 7);
  const Matrix long_value = normal_matrix(seqlen, head_dim, 8);
  heed::Workspace workspace;
  Matrix serial(seqlen, head_dim), threaded(seqlen, head_dim);
  heed::attend(long_query, long_key, long_value, heed::CausalMask{}, softmax_scale, serial,
               {.executor = heed::SerialExecutor{}, .workspace = &workspace});
  heed::attend(long_query, long_key, long_value, heed::CausalMask{}, softmax_scale, threaded,
               {.executor = ThreeThreads{}, .workspace = &workspace});
  std::printf("three threads give the same bits as one: %s\n", yes_or_no(serial == threaded));
}
