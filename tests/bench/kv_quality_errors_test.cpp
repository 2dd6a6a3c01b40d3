// SPDX-License-Identifier: MIT
/// \file
/// What kv_quality measures of caches.

#include <algorithm>
#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kv_quality/filled_case.hpp"
#include "kv_quality/measure.hpp"
#include "kv_quality/report.hpp"
#include "kv_quality/synthetic.hpp"

namespace heed::bench::quality {
namespace {

using testing::HasSubstr;

constexpr GroupedShape grouped{
    .model_dim = 0, .num_heads = 4, .num_kv_heads = 2, .head_dim = 64, .head_dim_v = 64};
constexpr LatentShape latent{.model_dim = 0,
                             .num_heads = 3,
                             .latent_dim = 48,
                             .rope_dim = 32,
                             .nope_dim = 0,
                             .head_dim_v = 0};

constexpr QualityElement elements[] = {{"f64", make_quality_case<double>},
                                       {"f32", make_quality_case<float>},
                                       {"f16", make_quality_case<f16>},
                                       {"bf16", make_quality_case<bf16>},
                                       {"int8", make_quality_case<int8>},
                                       {"int4", make_quality_case<int4>},
                                       {"int4r", make_quality_case<Rotated<int4>>},
                                       {"bf16n", make_quality_case<Native<bf16>>},
                                       {"int8c", make_quality_case<PerChannel<int8>>}};

struct Measured {
  Inputs inputs;
  QualityTable table;
};
Measured measured(const AttentionShape& shape, const Sequence& sequence, double entropy_bits) {
  Inputs inputs = synthetic_inputs(shape, sequence, entropy_bits);
  QualityTable table = measure_quality(inputs, elements, SerialExecutor{}, 0);
  return {std::move(inputs), std::move(table)};
}
Measured measured(const AttentionShape& shape) {
  return measured(shape, {.seqlen = 300, .num_queries = 4}, 3);
}

class Quality : public testing::TestWithParam<AttentionShape> {};
INSTANTIATE_TEST_SUITE_P(Both, Quality,
                         testing::Values(AttentionShape(grouped), AttentionShape(latent)));

TEST_P(Quality, IsWithinWhatRoundingMayDo) {
  for (const QualityRow& row : measured(GetParam()).table.rows) {
    EXPECT_TRUE(row.is_right()) << row.element << ": " << row.kernel_error;
    EXPECT_GT(row.kernel_error, 0) << row.element;
    EXPECT_GT(row.append_seconds, 0);
    EXPECT_GT(row.decode_seconds, 0);
  }
}

// However few keys a query looks at: columns that cancel are then no measure of the others.
TEST_P(Quality, OfFewKeysIsWithinWhatRoundingMayDo) {
  for (const Index seqlen : {1, 2, 16, 64, 100})
    for (const double entropy_bits : {1.0, 4.0})
      for (unsigned seed = 1; seed < 4; ++seed) {
        const Sequence sequence{
            .seqlen = seqlen, .num_queries = std::min<Index>(seqlen, 64), .seed = seed};
        for (const QualityRow& row : measured(GetParam(), sequence, entropy_bits).table.rows)
          EXPECT_TRUE(row.is_right())
              << row.element << ": " << row.kernel_error << ", " << seqlen << " tokens";
      }
}

TEST_P(Quality, FallsWithTheBitsKept) {
  const auto rows = measured(GetParam()).table.rows;
  ASSERT_GE(rows.size(), 7U);
  // 53, 24, 11, 8 and 4 bits; int8's step is a 127th of the row's largest, which an outlier is, so
  // to the others it leaves fewer than bf16.
  for (std::size_t i = 1; i < 6; ++i) {
    EXPECT_LT(rows[i - 1].errors.out, rows[i].errors.out) << rows[i].element;
    EXPECT_LT(rows[i - 1].errors.worst_row, rows[i].errors.worst_row) << rows[i].element;
  }
  for (std::size_t i = 0; i < 2; ++i) {  // what a float holds comes back as it was
    EXPECT_EQ(rows[i].errors.score, 0);
    EXPECT_NEAR(rows[i].errors.divergence, 0, 1e-14);
  }
  for (std::size_t i = 2; i < 6; ++i) {
    EXPECT_LT(rows[i - 1].errors.score, rows[i].errors.score);
    EXPECT_LT(rows[i - 1].errors.divergence, rows[i].errors.divergence);
    EXPECT_LT(rows[i].errors.out, rows[i].errors.worst_row);
  }
  // A score is off by a sum of products whose factors are rounded: 2^-8 of each for bf16, at most.
  EXPECT_LT(rows[3].errors.out, 0.1);
}

// Native products round what is multiplied, not what is stored.
TEST_P(Quality, OfNativeProductsIsThatOfTheElementAndALittle) {
  const auto rows = measured(GetParam()).table.rows;
  const auto &plain = rows[3], &native = rows[7];
  ASSERT_EQ(native.element, "bf16n");
  EXPECT_EQ(native.bytes_per_token, plain.bytes_per_token);
  EXPECT_EQ(native.errors.score, plain.errors.score);
  EXPECT_NE(native.errors.out, plain.errors.out);
  EXPECT_LT(native.errors.out, 3 * plain.errors.out);
}

// Keys that are drawn have channels that outweigh the others: a scale for each takes 8 bits further
// than one for the row. Latents have no such scales, and no such row.
TEST(Quality, ScalesPerChannelAreForKeys) {
  const auto rows = measured(grouped).table.rows;
  ASSERT_EQ(rows.size(), 9U);
  EXPECT_LT(rows[8].errors.score, rows[4].errors.score / 2);
  EXPECT_LT(rows[8].errors.out, rows[4].errors.out);
  EXPECT_EQ(measured(latent).table.rows.size(), 8U);
}

TEST(Quality, CountsBytesPerToken) {
  const auto rows = measured(grouped).table.rows;
  EXPECT_EQ(rows[1].bytes_per_token, 2 * 2 * 64 * 4);
  EXPECT_EQ(rows[4].bytes_per_token, 2 * 2 * (64 + 4));
  EXPECT_EQ(measured(latent).table.rows[4].bytes_per_token, 48 + 2 * 32 + 4);
}

TEST(Quality, ErrorsAreWhatTheirNamesSay) {
  // Two queries, two keys; the first query sees one key.
  HeadAttention exact, stored;
  exact.scores = MatrixD{{1, 0}, {0, 0}};
  exact.out = MatrixD{{3, 4}, {0, 5}};
  set_probs(exact);
  stored.scores = MatrixD{{3, 9}, {std::log(3.0), 0}};  // 3/4 and 1/4 in place of halves
  set_probs(stored);
  ErrorSums sums;
  sums.add(exact, stored, MatrixD{{3, 5}, {3, 5}});
  const Errors errors = sums.errors();
  EXPECT_DOUBLE_EQ(errors.out, std::sqrt(10.0 / 50));
  EXPECT_DOUBLE_EQ(errors.worst_row, 3.0 / 5);
  EXPECT_DOUBLE_EQ(errors.score, std::sqrt((4 + std::pow(std::log(3.0), 2)) / 3));
  EXPECT_NEAR(errors.divergence, (0.5 * std::log(0.5 / 0.75) + 0.5 * std::log(0.5 / 0.25)) / 2,
              1e-15);
}

TEST(Quality, NoticesAWrongKernel) {
  Normal normal(1);
  const MatrixD query = normal.matrix(2, 16), key = normal.matrix(50, 16),
                value = normal.matrix(50, 8);
  const HeadAttention exact = attend_head(query, key, value, 0.25);
  for (const RoundedBeside beside : {RoundedBeside::own_column, RoundedBeside::row}) {
    const auto error_of = [&](const MatrixD& out) {
      return kernel_error<float>(query, key, value, exact, out, 0.25, 0, beside);
    };
    EXPECT_EQ(error_of(exact.out), 0);
    MatrixD out = exact.out;
    out(1, 3) *= 1 + 1e-2;
    EXPECT_GT(error_of(out), 1);
    out(0, 0) = std::numeric_limits<double>::quiet_NaN();
    EXPECT_EQ(error_of(out), std::numeric_limits<double>::infinity());
  }
}

TEST(QualityReport, IsMarkdown) {
  const Measured both = measured(grouped);
  const std::string text = markdown(both.inputs, both.table);
  EXPECT_THAT(text, HasSubstr("4 heads, 2 key/value heads of 64; 300 tokens; synthetic; entropy "
                              "3.0 bits\n\n| element | bytes per token |"));
  EXPECT_THAT(text, HasSubstr("\n| f32 | 1024 | "));
  EXPECT_EQ(heads_text(latent), "3 heads, latents of 48 + 32");
}

}  // namespace
}  // namespace heed::bench::quality
