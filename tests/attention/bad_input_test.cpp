// SPDX-License-Identifier: MIT
/// \file
/// attend, attend_backward, attend_batch and merge refuse what does not fit, say so, and write
/// nothing.

#include <algorithm>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "heed/attention/attend.hpp"
#include "heed/attention/backward.hpp"
#include "heed/attention/matrix_source.hpp"
#include "heed/attention/merge.hpp"
#include "heed/cache/kv_cache.hpp"
#include "heed/policy/mask_element.hpp"
#include "support/shape_error.hpp"  // expect_shape_error

namespace heed {
namespace {

using test::expect_shape_error;

/// Operands of one call that fit each other: 6 heads of 3 queries, 2 heads of 5 keys. Tests spoil
/// one.
struct Operands {
  std::vector<float> numbers = std::vector<float>(1000, 1.0F);
  std::vector<float> written = std::vector<float>(1000, 7.0F);

  HeadsView<const float> query{numbers.data(), 6, 3, 4};
  HeadsView<const float> key{numbers.data(), 2, 5, 4};
  HeadsView<const float> value{numbers.data(), 2, 5, 8};
  HeadsView<float> out{written.data(), 6, 3, 8};
  AttendOptions<float> options{.lse = RowsView<float>(written.data() + 500, 6, 3)};

  template <class T>
  static HeadsView<T> heads(HeadsView<T> like, Index num_heads, Index rows, Index cols) {
    return {like.data, num_heads, rows, cols};
  }
  bool untouched() const {
    return std::ranges::all_of(written, [](float x) { return x == 7; });
  }
};

/// The operands after `spoil` must be refused by attend on matrices; nothing may be written.
template <class Spoil, class Mask = NoMask, class Score = double>
void expect_refused(std::initializer_list<std::string_view> words, const Spoil& spoil,
                    const Mask& mask = {}, const Score& score = 0.5) {
  Operands operands;
  spoil(operands);
  auto& [numbers, written, query, key, value, out, options] = operands;
  expect_shape_error(words, [&] { attend(query, key, value, mask, score, out, options); });
  EXPECT_TRUE(operands.untouched());
}

TEST(AttendRefuses, Nothing) {
  Operands operands;
  auto& [numbers, written, query, key, value, out, options] = operands;
  attend(query, key, value, NoMask{}, 0.5, out, options);
  EXPECT_FALSE(operands.untouched());
}

TEST(AttendRefuses, MasksOutOfRange) {
  const auto nothing = [](Operands&) {};
  expect_refused({"heed::attend: SlidingWindowMask::window_left is -1, expected 0 or more"},
                 nothing, SlidingWindowMask{});
  expect_refused({"heed::attend: SlidingWindowMask::window_right is -1, expected 0 or more"},
                 nothing, SlidingWindowMask{.window_left = 1, .window_right = -1});
  expect_refused({"heed::attend: SinkWindowMask::num_sink_tokens is -1, expected 0 or more"},
                 nothing, SinkWindowMask{.window_left = 1});
  expect_refused({"heed::attend: SinkWindowMask::window_left is -1, expected 0 or more"}, nothing,
                 SinkWindowMask{.num_sink_tokens = 1});
  expect_refused({"heed::attend: PrefixMask::prefix_len is -1, expected 0 or more"}, nothing,
                 PrefixMask{});
  expect_refused({"heed::attend: SlidingWindowMask::window_left"}, nothing,
                 both(NoMask{}, SlidingWindowMask{.window_left = -1}));
}

TEST(AttendRefuses, Operands) {
  expect_refused({"heed::attend: query [num_heads, seqlen_q, head_dim] has shape [6, 3, 5], "
                  "expected [6, 3, 4]"},
                 [](Operands& o) { o.query = o.heads(o.query, 6, 3, 5); });
  expect_refused({"heed::attend: num_heads (5, of the query) must be a multiple of num_kv_heads "
                  "(2, of the keys)"},
                 [](Operands& o) { o.query = o.heads(o.query, 5, 3, 4); });
  expect_refused({"heed::attend: num_heads (6, of the query) must be a multiple of num_kv_heads "
                  "(0, of the keys)"},
                 [](Operands& o) {
                   o.key = o.heads(o.key, 0, 5, 4);
                   o.value = o.heads(o.value, 0, 5, 8);
                 });
  expect_refused({"heed::attend: query [num_heads, seqlen_q, head_dim] has shape [6, 3, 4], "
                  "expected [6, 3, 3]"},
                 [](Operands& o) { o.key = o.heads(o.key, 2, 5, 3); });
  // Of a shape that nobody has filled in: `dynamic` is -1.
  expect_refused({"heed::attend: query [num_heads, seqlen_q, head_dim] has -1 columns, "
                  "expected 0 or more"},
                 [](Operands& o) {
                   o.query = o.heads(o.query, 6, 3, dynamic);
                   o.key = o.heads(o.key, 2, 5, dynamic);
                 });
  expect_refused({"heed::attend: value [num_kv_heads, seqlen_kv, head_dim_v] has shape [2, 4, 8], "
                  "expected [2, 5, 8]"},
                 [](Operands& o) { o.value = o.heads(o.value, 2, 4, 8); });
  expect_refused({"heed::attend: value [num_kv_heads, seqlen_kv, head_dim_v] has shape [3, 5, 8], "
                  "expected [2, 5, 8]"},
                 [](Operands& o) { o.value = o.heads(o.value, 3, 5, 8); });
}

TEST(AttendRefuses, Outputs) {
  constexpr auto out = "heed::attend: out [num_heads, seqlen_q, head_dim_v] has shape ";
  expect_refused({out, "[5, 3, 8], expected [6, 3, 8]"},
                 [](Operands& o) { o.out = o.heads(o.out, 5, 3, 8); });
  expect_refused({out, "[6, 4, 8], expected [6, 3, 8]"},
                 [](Operands& o) { o.out = o.heads(o.out, 6, 4, 8); });
  expect_refused({out, "[6, 3, 4], expected [6, 3, 8]"},
                 [](Operands& o) { o.out = o.heads(o.out, 6, 3, 4); });
  constexpr auto lse = "heed::attend: lse [num_heads, seqlen_q] has shape ";
  expect_refused({lse, "[3, 6], expected [6, 3]"},
                 [](Operands& o) { o.options.lse = RowsView<float>(o.written.data(), 3, 6); });
  expect_refused({lse, "[1, 18], expected [6, 3]"},
                 [](Operands& o) { o.options.lse = RowsView<float>(o.written.data(), 1, 18); });
}

TEST(AttendRefuses, AnLseThatIsAskedForButEmpty) {
  Operands operands;
  Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> lse;
  expect_shape_error(
      {"heed::attend: lse [num_heads, seqlen_q] has shape [0, 0], expected [6, 3]"}, [&] {
        attend(operands.query, operands.key, operands.value, NoMask{}, 0.5, operands.out, lse);
      });
  operands.options.lse = RowsView<float>();
  expect_shape_error({"heed::attend: lse [num_heads, seqlen_q] has shape [0, 0], expected [6, 3]"},
                     [&] {
                       attend(operands.query, operands.key, operands.value, NoMask{}, 0.5,
                              operands.out, operands.options);
                     });
  EXPECT_TRUE(operands.untouched());
}

TEST(AttendRefuses, Sinks) {
  expect_refused({"heed::attend: sinks [num_heads] has shape [2], expected [6]"},
                 [](Operands& o) { o.options.sinks = std::span(o.numbers).first(2); });
}

TEST(AttendRefuses, Masks) {
  static const bool booleans[1000] = {};
  static const std::vector<int> ids(100);
  const auto refuse = [](std::initializer_list<std::string_view> words, const auto& mask) {
    expect_refused(words, [](Operands&) {}, mask);
  };
  constexpr auto dense =
      "heed::attend: DenseMask::allowed [1 or num_heads, seqlen_q, seqlen_kv] has shape ";
  refuse({dense, "[1, 3, 6], expected [1, 3, 5]"}, DenseMask{{booleans, 1, 3, 6}});
  refuse({dense, "[1, 5, 3], expected [1, 3, 5]"}, DenseMask{{booleans, 1, 5, 3}});
  refuse({dense, "[2, 3, 5], expected [6, 3, 5]"}, DenseMask{{booleans, 2, 3, 5}});
  refuse({dense, "[0, 3, 5], expected [1, 3, 5]"}, DenseMask{{booleans, 0, 3, 5}});
  refuse({"heed::attend: DocumentMask::query_documents [seqlen_q] has shape [5], expected [3]"},
         DocumentMask{std::span(ids).first(5), std::span(ids).first(5)});
  refuse({"heed::attend: DocumentMask::key_documents [seqlen_kv] has shape [3], expected [5]"},
         DocumentMask{std::span(ids).first(3), std::span(ids).first(3)});
  refuse({dense, "[1, 3, 6], expected [1, 3, 5]"},
         both(CausalMask{}, DenseMask{{booleans, 1, 3, 6}}));
  refuse({dense, "[1, 3, 6], expected [1, 3, 5]"},
         both(CausalMask{}, both(DenseMask{{booleans, 1, 3, 6}}, NoMask{})));
}

TEST(AttendRefuses, Scores) {
  static const std::vector<float> numbers(1000);
  const auto refuse = [](std::initializer_list<std::string_view> words, const auto& score) {
    expect_refused(words, [](Operands&) {}, NoMask{}, score);
    expect_refused(words, [](Operands&) {}, NoMask{}, chain(Scale{0.5}, score));
  };
  constexpr auto bias = "heed::attend: Bias::bias [1 or num_heads, seqlen_q, seqlen_kv] has shape ";
  refuse({bias, "[1, 3, 4], expected [1, 3, 5]"}, Bias<float>{{numbers.data(), 1, 3, 4}});
  refuse({bias, "[2, 3, 5], expected [6, 3, 5]"}, Bias<float>{{numbers.data(), 2, 3, 5}});
  refuse({"heed::attend: Alibi::slopes [num_heads] has shape [2], expected [6]"},
         Alibi<float>{std::span(numbers).first(2)});
  refuse({"heed::attend: Scale::factor is nan, expected a finite number within float's range"},
         Scale{std::numeric_limits<double>::quiet_NaN()});
  refuse({"heed::attend: Scale::factor is -inf, expected"},
         Scale{-std::numeric_limits<double>::infinity()});
  refuse({"heed::attend: Scale::factor is 1e+39, expected"}, chain(Scale{1e39}, Softcap{30}));
  refuse({"heed::attend: Scale::factor is inf, expected"}, std::numeric_limits<double>::infinity());
  refuse({"heed::attend: Softcap::cap is 0, expected a positive number"}, Softcap{0});
  refuse({"heed::attend: Softcap::cap is -30, expected"}, Softcap{-30});
  refuse({"heed::attend: Softcap::cap is 1e+39, expected"}, Softcap{1e39});
  refuse({"heed::attend: Softcap::cap is 1e-39, expected"}, Softcap{1e-39});
}

TEST(AttendRefuses, Caches) {
  KvCache<FullKv<2, 4, 8>> cache{10};
  Operands operands;
  cache.append(operands.key, operands.value);
  auto& [numbers, written, query, key, value, out, options] = operands;
  attend(query, cache, NoMask{}, 0.5, out);
  written.assign(written.size(), 7.0F);
  expect_shape_error({"heed::attend: query [num_heads, seqlen_q, head_dim] has shape [6, 3, 5], "
                      "expected [6, 3, 4]"},
                     [&] { attend(operands.heads(query, 6, 3, 5), cache, NoMask{}, 0.5, out); });
  expect_shape_error({"heed::attend: query [num_heads, seqlen_q, head_dim] has -3 rows, expected 0 "
                      "or more"},
                     [&] { attend(operands.heads(query, 6, -3, 4), cache, NoMask{}, 0.5, out); });
  expect_shape_error({"heed::attend: query [num_heads, seqlen_q, head_dim] has -6 heads, expected "
                      "0 or more"},
                     [&] { attend(operands.heads(query, -6, 3, 4), cache, NoMask{}, 0.5, out); });
  expect_shape_error(
      {"heed::attend: num_heads (3, of the query) must be a multiple of num_kv_heads (2, of the "
       "keys)"},
      [&] { attend(operands.heads(query, 3, 3, 4), cache, NoMask{}, 0.5, out); });
  expect_shape_error({"heed::attend: out [num_heads, seqlen_q, head_dim_v] has shape [6, 3, 4], "
                      "expected [6, 3, 8]"},
                     [&] { attend(query, cache, NoMask{}, 0.5, operands.heads(out, 6, 3, 4)); });
  EXPECT_TRUE(operands.untouched());
}

TEST(MatrixSourceRefuses, ValuesThatAreNotThoseOfTheKeys) {
  const Operands operands;
  const auto refuse = [&](std::string_view found, Index num_heads, Index rows) {
    expect_shape_error(
        {"heed::MatrixSource: value [num_kv_heads, seqlen_kv, head_dim_v] has shape ", found,
         ", expected [2, 5, 8]"},
        [&] {
          MatrixSource<float>(operands.key, operands.heads(operands.value, num_heads, rows, 8));
        });
  };
  refuse("[2, 4, 8]", 2, 4);
  refuse("[3, 5, 8]", 3, 5);
}

TEST(AttendBatchRefuses, ASequenceAmongMany) {
  using Cache = KvCache<FullKv<>>;
  using Sequence = AttendSequence<float, Cache, DenseMask>;
  static const bool booleans[1000] = {};
  Operands operands;
  Cache cache(10, {.num_kv_heads = 2, .head_dim = 4, .head_dim_v = 8}),
      narrow(10, {.num_kv_heads = 2, .head_dim = 3, .head_dim_v = 8});
  cache.append(operands.key, operands.value);
  const Sequence good{operands.query, &cache, DenseMask{{booleans, 1, 3, 5}}, operands.out};
  const auto refuse = [&](std::initializer_list<std::string_view> words, const Sequence& bad) {
    const std::vector<Sequence> sequences = {good, bad};
    expect_shape_error(words, [&] { attend_batch(std::span<const Sequence>(sequences), 0.5); });
    EXPECT_TRUE(operands.untouched());
  };
  Sequence bad = good;
  bad.query = operands.heads(bad.query, 6, 3, 3);
  refuse({"heed::attend_batch: sequence 1: query [num_heads, seqlen_q, head_dim] has shape [6, 3, "
          "3], expected "
          "[6, 3, 4]"},
         bad);
  bad.source = &narrow;
  refuse({"heed::attend_batch: sequence 1: source [head_dim, head_dim_v] has shape [3, 8], "
          "expected [4, 8]"},
         bad);
  bad.source = nullptr;
  refuse({"heed::attend_batch: sequence 1: there is no source"}, bad);
  bad = good;
  bad.out = operands.heads(bad.out, 6, 2, 8);
  refuse({"heed::attend_batch: sequence 1: out [num_heads, seqlen_q, head_dim_v] has shape [6, 2, "
          "8], expected "
          "[6, 3, 8]"},
         bad);
  bad = good;
  bad.lse = RowsView<float>(operands.written.data(), 6, 4);
  refuse({"heed::attend_batch: sequence 1: lse [num_heads, seqlen_q] has shape [6, 4], expected "
          "[6, 3]"},
         bad);
  bad = good;
  bad.mask = DenseMask{{booleans, 1, 3, 4}};
  refuse({"heed::attend_batch: sequence 1: DenseMask::allowed [1 or num_heads, seqlen_q, "
          "seqlen_kv] has "
          "shape [1, 3, 4], expected [1, 3, 5]"},
         bad);
  const std::vector<Sequence> sequences = {good};
  expect_shape_error({"heed::attend_batch: options.lse is given, but each sequence has an lse"},
                     [&] { attend_batch(sequences, 0.5, operands.options); });
  EXPECT_TRUE(operands.untouched());
}

TEST(MergeRefuses, EachOperand) {
  const std::vector<float> numbers(100, 1.0F);
  std::vector<float> written(200, 7.0F);
  const auto out_of = [&](Index num_heads, Index rows, Index cols) {
    return HeadsView<const float>(numbers.data(), num_heads, rows, cols);
  };
  const auto lse_of = [&](Index num_heads, Index rows) {
    return RowsView<const float>(numbers.data(), num_heads, rows);
  };
  const auto refuse = [&](std::initializer_list<std::string_view> words,
                          RowsView<const float> lse_a, HeadsView<const float> out_b,
                          RowsView<const float> lse_b, HeadsView<float> out, RowsView<float> lse) {
    expect_shape_error(words, [&] { merge(out_of(2, 3, 4), lse_a, out_b, lse_b, out, lse); });
    EXPECT_TRUE(std::ranges::all_of(written, [](float x) { return x == 7; }));
  };
  const HeadsView<float> out(written.data(), 2, 3, 4);
  const RowsView<float> lse(written.data() + 100, 2, 3);
  refuse({"heed::merge: lse_a [num_heads, seqlen_q] has shape [2, 4], expected [2, 3]"},
         lse_of(2, 4), out_of(2, 3, 4), lse_of(2, 3), out, lse);
  refuse({"heed::merge: out_b [num_heads, seqlen_q, head_dim_v] has shape [2, 3, 5], expected [2, "
          "3, 4]"},
         lse_of(2, 3), out_of(2, 3, 5), lse_of(2, 3), out, lse);
  refuse({"heed::merge: lse_b [num_heads, seqlen_q] has shape [3, 2], expected [2, 3]"},
         lse_of(2, 3), out_of(2, 3, 4), lse_of(3, 2), out, lse);
  refuse({"heed::merge: out [num_heads, seqlen_q, head_dim_v] has shape [1, 3, 4], expected [2, 3, "
          "4]"},
         lse_of(2, 3), out_of(2, 3, 4), lse_of(2, 3), {written.data(), 1, 3, 4}, lse);
  refuse({"heed::merge: lse [num_heads, seqlen_q] has shape [2, 1], expected [2, 3]"}, lse_of(2, 3),
         out_of(2, 3, 4), lse_of(2, 3), out, {written.data(), 2, 1});
}

/// Operands of a backward pass of 6 heads of 3 queries on 2 heads of 5 keys. Tests spoil one.
struct BackwardOperands {
  std::vector<float> numbers = std::vector<float>(1000, 1.0F);
  std::vector<float> written = std::vector<float>(1000, 7.0F);

  HeadsView<const float> query{numbers.data(), 6, 3, 4};
  HeadsView<const float> key{numbers.data(), 2, 5, 4};
  HeadsView<const float> value{numbers.data(), 2, 5, 8};
  HeadsView<const float> grad_out{numbers.data(), 6, 3, 8};
  AttendResult<float> result{.out = {numbers.data(), 6, 3, 8}, .lse = {numbers.data(), 6, 3}};
  AttendGradients<float> gradients{.query = {written.data(), 6, 3, 4},
                                   .key = {written.data() + 100, 2, 5, 4},
                                   .value = {written.data() + 200, 2, 5, 8}};
  BackwardOptions<float> options;

  void run() const {
    attend_backward(query, key, value, NoMask{}, 0.5, result, grad_out, gradients, options);
  }
  bool untouched() const {
    return std::ranges::all_of(written, [](float x) { return x == 7; });
  }
};

TEST(BackwardRefuses, ShapesThatDoNotFit) {
  const auto expect_refused = [](std::initializer_list<std::string_view> words, const auto& spoil) {
    BackwardOperands operands;
    spoil(operands);
    expect_shape_error(words, [&] { operands.run(); });
    EXPECT_TRUE(operands.untouched());
  };
  using O = BackwardOperands;
  expect_refused({"attend_backward", "query [num_heads, seqlen_q, head_dim]", "[6, 3, 5]"},
                 [](O& o) { o.query = {o.numbers.data(), 6, 3, 5}; });
  expect_refused({"attend_backward", "num_heads (5", "num_kv_heads (2"},
                 [](O& o) { o.query = {o.numbers.data(), 5, 3, 4}; });
  expect_refused({"attend_backward", "value [num_kv_heads, seqlen_kv, head_dim_v]", "[2, 6, 8]"},
                 [](O& o) { o.value = {o.numbers.data(), 2, 6, 8}; });
  expect_refused({"attend_backward", "result.out", "[6, 3, 7]", "[6, 3, 8]"},
                 [](O& o) { o.result.out = {o.numbers.data(), 6, 3, 7}; });
  expect_refused({"attend_backward", "result.lse", "[6, 4]", "[6, 3]"},
                 [](O& o) { o.result.lse = {o.numbers.data(), 6, 4}; });
  expect_refused({"attend_backward", "grad_out", "[6, 2, 8]", "[6, 3, 8]"},
                 [](O& o) { o.grad_out = {o.numbers.data(), 6, 2, 8}; });
  expect_refused({"attend_backward", "gradients.query", "[6, 3, 8]", "[6, 3, 4]"},
                 [](O& o) { o.gradients.query = {o.written.data(), 6, 3, 8}; });
  expect_refused({"attend_backward", "gradients.key", "[6, 5, 4]", "[2, 5, 4]"},
                 [](O& o) { o.gradients.key = {o.written.data(), 6, 5, 4}; });
  expect_refused({"attend_backward", "gradients.value", "[2, 5, 4]", "[2, 5, 8]"},
                 [](O& o) { o.gradients.value = {o.written.data(), 2, 5, 4}; });
  const auto sinks = [](O& o, std::size_t count) { return std::span(o.numbers).first(count); };
  expect_refused({"attend_backward", "options.sinks", "[5]", "[6]"},
                 [&](O& o) { o.options.sinks = sinks(o, 5); });
  expect_refused({"attend_backward", "gradients.sinks", "[6]", "[0]"},
                 [&](O& o) { o.gradients.sinks = std::span(o.written).first(6); });
  BackwardOperands fitting;
  fitting.options.sinks = sinks(fitting, 6);
  fitting.gradients.sinks = std::span(fitting.written).last(6);
  fitting.run();
  EXPECT_FALSE(fitting.untouched());
}

TEST(BackwardRefuses, PoliciesThatDoNotFit) {
  const BackwardOperands o;
  const auto run = [&](const auto& mask, const auto& score) {
    attend_backward(o.query, o.key, o.value, mask, score, o.result, o.grad_out, o.gradients);
  };
  expect_shape_error({"attend_backward", "Softcap::cap"},
                     [&] { run(NoMask{}, chain(0.5, Softcap{-1})); });
  expect_shape_error({"attend_backward", "SlidingWindowMask"},
                     [&] { run(SlidingWindowMask{.window_left = -1}, 0.5); });
  EXPECT_TRUE(o.untouched());
}

}  // namespace
}  // namespace heed
